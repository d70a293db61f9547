"""`make parity CASES=1000000`: many cases, with progress; exit code 1 when one differs or something was never exercised."""

from __future__ import annotations

import argparse
import itertools
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.kubescheduler import MAX_PROFILES
from parity.compare import GOLDEN, Coverage, run, save
from parity.draft import Choices
from parity.generate import generate
from parity.oracle import Oracle
from parity.preempting import run_preempting, save_preempting
from parity.profiles import Profiles

SAMPLE_BYTES = 3_000
CHUNK = 5_000
MOST_FAILURES = 10


def write_sample(seed: str, count: int, names: list[str], oracle: Oracle) -> None:
    """Small cases with the answers of kube-scheduler's plugins, for where there is no Go to build the oracle with."""
    cases = (case for n in itertools.count() if len(json.dumps(case := generate(seed, n, names))) < SAMPLE_BYTES)
    golden = [{"plugins": names, "case": case, "want": oracle.ask(case)} for case in itertools.islice(cases, count)]
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in golden)
    (GOLDEN / "sample.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def compared(
    seed: str, numbers: range, names: list[str], oracle: Oracle, coverage: Coverage, profiles: Profiles | None
) -> int:
    """How many cases differ, up to a few. Says each, and how far it is."""
    failures = 0
    begun = time.monotonic()
    for start in range(numbers.start, numbers.stop, CHUNK):
        for failure in run(seed, range(start, min(start + CHUNK, numbers.stop)), names, oracle, coverage, profiles):
            failures += 1
            print(f"\ncase {failure.case['id']} differs{' (only by way of events)' if failure.stale else ''}:")
            print(*failure.differences[:8], sep="\n")
            print(f"saved as {save(failure, names, oracle, profiles)}", flush=True)
            if failures >= MOST_FAILURES:
                return failures
        print(f"{coverage.cases} cases, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return failures


def preempting(seed: str, numbers: range) -> int:
    """The cases of preemption; exit code 1 when one differs."""
    names = [plugin.name for plugin in default_profile()]
    choices, seen, begun, failures = Choices(), Counter[str](), time.monotonic(), 0
    print(f"seed {seed}, {len(numbers)} cases of preemption", flush=True)
    with Oracle(names, "-preempt") as oracle:
        for case, found in run_preempting(seed, numbers, names, oracle, choices, seen):
            failures += 1
            print(f"\ncase {case['id']} differs, saved as {save_preempting(case)}:", *found, sep="\n", flush=True)
            if failures >= MOST_FAILURES:
                break
    print(", ".join(f"{what}: {count}" for what, count in seen.items()))
    print(*(f"never generated: {what}" for what in choices.never), sep="\n")
    print(f"{failures} differences, {time.monotonic() - begun:.0f} s")
    return 1 if failures or choices.never else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="parity")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", default=f"{secrets.randbits(32)}")
    parser.add_argument("--sample", type=int, help="only write this many small cases to golden/sample.json")
    parser.add_argument("--profiles", action="store_true", help="only the cases of random profiles, a fifth as many")
    parser.add_argument("--preemption", action="store_true", help="instead, what preemption would do")
    asked = parser.parse_args()
    if asked.preemption:
        return preempting(asked.seed, range(asked.first, asked.first + asked.cases))
    names = [plugin.name for plugin in default_profile()]
    coverage = Coverage()
    failures = 0
    holes: list[str] = []
    begun = time.monotonic()
    numbers = range(asked.first, asked.first + asked.cases)
    print(f"seed {asked.seed}, {asked.cases} cases, plugins: {', '.join(names)}", flush=True)
    if not asked.profiles:
        with Oracle(names) as oracle:
            if asked.sample:
                write_sample(asked.seed, asked.sample, names, oracle)
                return 0
            failures = compared(asked.seed, numbers, names, oracle, coverage, None)
            holes = coverage.holes(oracle.filters, oracle.scores)
    with tempfile.TemporaryDirectory() as folder:
        profiles = Profiles(asked.seed, names, min(max(asked.cases // 100, 20), MAX_PROFILES))
        few = range(asked.first, asked.first + asked.cases // 5)
        print(f"{len(few)} cases of {len(profiles.made)} profiles", flush=True)
        with Oracle(names, config=profiles.write(Path(folder) / "profiles.json")) as oracle:
            failures += compared(f"{asked.seed}-profiles", few, names, oracle, coverage, profiles)
    print(*coverage.lines(), *holes, sep="\n")
    print(*(f"never generated in a profile: {what}" for what in profiles.choices.never), sep="\n")
    print(f"{failures} differences in {coverage.cases} cases, {time.monotonic() - begun:.0f} s")
    return 1 if failures or holes else 0


if __name__ == "__main__":
    sys.exit(main())
