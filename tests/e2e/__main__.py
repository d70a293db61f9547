"""`make e2e`: upstream's [sig-scheduling] specs under kube-scheduler and under ours; exit code 1 when ours is worse in one."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_scheduler.errors import CarbonSchedulerError, ConfigError
from carbon_scheduler.sim.control_plane import ControlPlaneMissing, find_binaries
from e2e import compare
from e2e.cluster import EndToEndCluster, Scheduler
from e2e.suite import Outcome, Suite

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_S = 3600.0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="e2e", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only specs that took kube-scheduler less than 30 s")
    parser.add_argument("--spec", metavar="REGEX", help="only specs whose name has a match")
    parser.add_argument("--stored", action="store_true", help="run ours alone, beside kube-scheduler's stored outcomes")
    parser.add_argument("--write", action="store_true", help="run kube-scheduler alone and store its outcomes")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the logs of suite and scheduler there")
    return parser.parse_args()


@dataclass(frozen=True)
class Job:
    """Specs to run under a scheduler; None: all that the suite has."""

    scheduler: Scheduler
    only: list[str] | None


def suite_binary() -> Path:
    """Upstream's whole suite where it was built (`build.sh --e2e`), else the one with the scheduler's specs alone."""
    try:
        return find_binaries(["e2e.test"])["e2e.test"]
    except ControlPlaneMissing:
        return find_binaries(["e2e-scheduling.test"])["e2e-scheduling.test"]


def run(
    jobs: Mapping[str, Job], logs: Path | None = None, *, limit_s: float = LIMIT_S
) -> dict[str, dict[str, Outcome]]:
    """The outcomes of each job, by its name. All run at the same time, on a cluster each; says on stderr what goes on."""
    binary = suite_binary()
    begun = time.monotonic()

    def say(name: str, what: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {name}: {what}", file=sys.stderr, flush=True)

    with ExitStack() as exits:
        work = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="carbon-e2e-")))
        if logs:
            exits.callback(shutil.copytree, work, logs, dirs_exist_ok=True)
        suites = {}
        for name, job in jobs.items():
            (work / name).mkdir()
            cluster = exits.enter_context(EndToEndCluster(job.scheduler, work / name))
            suites[name] = Suite(binary, cluster, only=job.only, limit_s=limit_s, progress=partial(say, name))
            exits.callback(suites[name].stop)
        while [name for name, suite in suites.items() if not suite.over()]:  # each is asked, for its progress
            time.sleep(0.2)
        return {name: suite.outcomes() for name, suite in suites.items()}


def main() -> int:
    asked = _options()
    if asked.write:
        compare.write_expected(run({"kube-scheduler": Job("kube-scheduler", None)}, asked.logs)["kube-scheduler"])
        return 0
    stored = compare.read_expected()
    only = compare.select(stored, fast=asked.fast, pattern=asked.spec or "")
    jobs = {"ours": Job("ours", only)}
    if not asked.stored:
        jobs["kube-scheduler"] = Job("kube-scheduler", only)
    ran = run(jobs, asked.logs)
    rows = compare.compare(ran.get("kube-scheduler", {spec: stored[spec] for spec in only}), ran["ours"])
    print(compare.as_json(rows) if asked.output == "json" else "\n".join(compare.lines(rows)))
    return 1 if any(row.worse for row in rows) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no folder is left behind
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except CarbonSchedulerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 3)
