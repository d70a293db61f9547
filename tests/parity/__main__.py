"""`make parity CASES=1000000`: many cases, with progress; exit code 1 when one differs or something was never exercised."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from carbon_scheduler.kubescheduler import MAX_PROFILES
from parity.compare import GOLDEN, Coverage, save
from parity.draft import Choices
from parity.generate import generate
from parity.parts import MOST_FAILURES, WHOLE, Side, compared, oracle_of, preempted, profiles_of
from parity.preempting import save_preempting

if TYPE_CHECKING:
    from collections.abc import Collection

    from parity.oracle import Oracle

JSON = dict[str, Any]
SAMPLE_BYTES = 9_000
SHOWN = 3
MOST_TRIED = 3_000
PROGRESS = 5_000
"""Cases after which a line says how far it is."""


def write_sample(seed: str, count: int, names: Collection[str], oracle: Oracle) -> None:
    """Small cases with the answers of kube-scheduler's plugins, for where there is no Go to build the oracle with. Each shows
    what a plugin does that few before it show."""
    golden: list[JSON] = []
    shown = Coverage()
    for number in range(MOST_TRIED):
        case = generate(seed, number, names)
        if len(json.dumps(case)) > SAMPLE_BYTES:
            continue
        want = oracle.ask(case)
        own = Coverage()
        own.count(want)
        if any(shown.did[what] < SHOWN for what in own.did):
            shown.add(own)
            golden.append({"plugins": list(names), "case": case, "want": want})
            if len(golden) == count:
                break
    print(*shown.lines(), *shown.holes(oracle.filters, oracle.scores), sep="\n")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in golden)
    (GOLDEN / "sample.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def judged(seed: str, numbers: range, side: Side, coverage: Coverage) -> int:
    """How many cases differ, up to a few. Says each, and how far it is."""
    failures, done = 0, 0
    begun = time.monotonic()
    for part, differ in compared(seed, numbers, side):
        coverage.add(part)
        done += part.cases
        for failure in differ:
            failures += 1
            print(f"\ncase {failure.case['id']} differs{' (only by way of events)' if failure.stale else ''}:")
            print(*failure.differences[:8], sep="\n")
            print(f"saved as {save(failure, side.names, oracle_of(side), profiles_of(side))}", flush=True)
        if failures >= MOST_FAILURES:
            break
        if done % PROGRESS == 0:
            print(f"{done} cases, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return failures


def preempting(seed: str, numbers: range) -> int:
    """The cases of preemption; exit code 1 when one differs."""
    choices, seen, begun, failures = Choices(), Counter[str](), time.monotonic(), 0
    print(f"seed {seed}, {len(numbers)} cases of preemption", flush=True)
    for part, came_across, differ in preempted(seed, numbers, WHOLE):
        choices.add(part)
        seen += came_across
        for case, found in differ:
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
    coverage = Coverage()
    failures = 0
    holes: list[str] = []
    begun = time.monotonic()
    numbers = range(asked.first, asked.first + asked.cases)
    print(f"seed {asked.seed}, {asked.cases} cases, plugins: {', '.join(WHOLE.names)}", flush=True)
    if not asked.profiles:
        oracle = oracle_of(WHOLE)
        if asked.sample:
            write_sample(asked.seed, asked.sample, WHOLE.names, oracle)
            return 0
        failures = judged(asked.seed, numbers, WHOLE, coverage)
        holes = coverage.holes(oracle.filters, oracle.scores)
    side = Side(WHOLE.names, asked.seed, min(max(asked.cases // 100, 20), MAX_PROFILES))
    profiles = profiles_of(side)
    assert profiles
    few = numbers[: asked.cases // 5]
    print(f"{len(few)} cases of {len(profiles.made)} profiles", flush=True)
    failures += judged(f"{asked.seed}-profiles", few, side, coverage)
    print(*coverage.lines(), *holes, sep="\n")
    print(*(f"never generated in a profile: {what}" for what in profiles.choices.never), sep="\n")
    print(f"{failures} differences in {coverage.cases} cases, {time.monotonic() - begun:.0f} s")
    return 1 if failures or holes else 0


if __name__ == "__main__":
    sys.exit(main())
