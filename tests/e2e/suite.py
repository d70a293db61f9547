"""Upstream's end-to-end specs of one SIG as a process, and its report as values."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.errors import ClusterError
from carbon_scheduler.sim.child import Child
from e2e.cluster import NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from e2e.cluster import EndToEndCluster

SIG: Final = "[sig-scheduling] "
PASSED: Final = "passed"
_SEED: Final = 1
"""The order of the specs, the same for both schedulers: what one leaves behind, the next finds."""
_LABELS: Final = "!Alpha"
"""What needs an API that is off by default would fail with any scheduler. Upstream's own jobs leave it out, too."""
_GRACE_S: Final = 60.0


class SuiteBroken(ClusterError):
    """The suite itself could not run: its report is missing, or what goes before or after all specs has failed."""


@dataclass(frozen=True)
class Outcome:
    """What became of a spec. `state` is Ginkgo's: passed, failed, skipped, panicked, timedout, interrupted, aborted."""

    state: str
    seconds: float
    why: str = ""
    """Where it failed and the first line of the reason."""

    @property
    def passed(self) -> bool:
        return self.state == PASSED


class _Location(msgspec.Struct, rename="pascal"):
    file_name: str = ""
    line_number: int = 0


class _Failure(msgspec.Struct, rename="pascal"):
    message: str = ""
    location: _Location = msgspec.field(default_factory=_Location)


class _Spec(msgspec.Struct, rename="pascal"):
    container_hierarchy_texts: list[str] | None
    leaf_node_type: str
    leaf_node_text: str
    state: str
    run_time: int = 0  # nanoseconds
    failure: _Failure | None = None


class _Report(msgspec.Struct, rename="pascal"):
    spec_reports: list[_Spec] | None


def read_report(text: bytes) -> dict[str, Outcome]:
    """Spec's name (without the SIG) -> outcome, in the order in which they ran. Specs that were not asked for are left out.

    `text` is Ginkgo's JSON report. Raises SuiteBroken when it is none, or when something other than a spec has failed.
    """
    try:
        reports = msgspec.json.decode(text, type=list[_Report])
    except msgspec.DecodeError as error:
        raise SuiteBroken(f"end-to-end suite: its JSON report cannot be read: {error}") from error
    found = {}
    for spec in (spec for report in reports for spec in report.spec_reports or ()):
        outcome = Outcome(spec.state, round(spec.run_time / 1e9, 1), _why(spec))
        if spec.leaf_node_type == "It":
            if spec.run_time or spec.state not in ("skipped", "pending"):
                name = " ".join([*(spec.container_hierarchy_texts or ()), spec.leaf_node_text])
                found[name.removeprefix(SIG)] = outcome
        elif not outcome.passed:
            raise SuiteBroken(f"end-to-end suite: {spec.leaf_node_type} {outcome.state}: {outcome.why}")
    return found


def _why(spec: _Spec) -> str:
    if spec.failure is None:
        return ""
    where = f"{spec.failure.location.file_name.rpartition('/')[2]}:{spec.failure.location.line_number}"
    lines = [line.strip() for line in spec.failure.message.splitlines() if line.strip()]
    return f"{where}: {' '.join(lines[:3])[:300]}"


def selection(only: Iterable[str] | None) -> list[str]:
    """The suite's flags that run exactly these specs, by the names of `read_report`, or all of the SIG."""
    wanted = [f"{re.escape(SIG + spec)}$" for spec in only] if only is not None else [re.escape(SIG)]
    return [f"--ginkgo.label-filter={_LABELS}", *(f"--ginkgo.focus={pattern}" for pattern in wanted)]


class Suite:
    """The suite at work on a cluster, with all specs of the SIG or `only` these, one after the other.

    Begins at once and leaves `e2e.log` and `report.json` in the cluster's folder. `progress` is told each spec that begins.
    `limit_s` is for all specs together: those that have no turn by then are "skipped" or "interrupted". Call `over` until it
    is true, then `outcomes`.
    """

    def __init__(
        self,
        binary: Path,
        cluster: EndToEndCluster,
        *,
        only: Iterable[str] | None,
        limit_s: float,
        progress: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._progress = progress
        self._report = cluster.folder / "report.json"
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s + _GRACE_S
        argv: list[str | Path] = [
            binary,
            f"--kubeconfig={cluster.kubeconfig}",
            "--provider=skeleton",
            f"--num-nodes={NODES}",
            f"--e2e-output-dir={cluster.folder}",
            "--disable-log-dump",
            f"--ginkgo.json-report={self._report}",
            f"--ginkgo.seed={_SEED}",
            f"--ginkgo.timeout={limit_s:.0f}s",
            "--ginkgo.no-color",
            "--ginkgo.v",
            *selection(only),
        ]
        env = {"HOME": str(cluster.folder), "PATH": os.defpath}
        self._child = Child(argv, log=cluster.folder / "e2e.log", env=env, name="e2e")
        self._lines = self._child.log.open(encoding="utf-8", errors="replace")

    def over(self) -> bool:
        """Whether it has ended. Passes progress on. Raises SuiteBroken after its time."""
        ended = self._child.exit_code is not None
        for line in self._lines:
            if line.startswith(SIG) and " [It] " not in line:  # that would be the second mention of a failed one
                self._progress(line.removeprefix(SIG).rpartition(" [")[0])  # without the list of its labels
        if not ended and time.monotonic() > self._deadline:
            raise SuiteBroken(f"end-to-end suite: not over after {self._limit_s:.0f} s:\n{self._child.tail()}")
        return ended

    def outcomes(self) -> dict[str, Outcome]:
        """By the names of the specs, once it is over. Raises SuiteBroken without a report, or when the scheduler has ended."""
        if (code := self._cluster.scheduler.exit_code) is not None:
            raise SuiteBroken(f"{self._cluster.scheduler.name} ended with {code}:\n{self._cluster.scheduler.tail(30)}")
        if not self._report.exists():
            raise SuiteBroken(
                f"end-to-end suite: ended with {self._child.exit_code} and without a report:\n{self._child.tail()}"
            )
        return read_report(self._report.read_bytes())

    def stop(self) -> None:
        """Ends it if it still runs."""
        self._child.stop()
        self._lines.close()
