"""The cases of a seed in parts, each judged in a process of its own: as many at a time as there are cores.

A process keeps the oracles that it has started. What it knows of a part is gone with the part, so a run of any length needs
no more memory than a short one.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from carbon_scheduler.core.plugins import default_profile
from parity.compare import Coverage, Failure, run
from parity.draft import Choices
from parity.oracle import Oracle
from parity.preempting import run_preempting
from parity.profiles import Profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON = dict[str, Any]
T = TypeVar("T")
PROCESSES: Final = len(os.sched_getaffinity(0))
CHUNK: Final = 500
"""Cases of a part: 6 s, and a cluster that had this many cases in turn."""
MOST_FAILURES: Final = 10
"""Differences after which a part ends, and a whole run."""


@dataclass(frozen=True)
class Side:
    """Plugins, and random profiles of them if any: what both sides are asked by."""

    names: tuple[str, ...]
    seed_of_profiles: str = ""
    profiles: int = 0


WHOLE: Final = Side(tuple(plugin.name for plugin in default_profile()))
"""The default profile."""
PROFILES: Final = Side(WHOLE.names, "fixed", 80)


def pool() -> ProcessPoolExecutor:
    """Fresh processes: a fork would take the threads' locks of this one along."""
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))


@cache
def profiles_of(side: Side) -> Profiles | None:
    return Profiles(side.seed_of_profiles, side.names, side.profiles) if side.profiles else None


@cache
def oracle_of(side: Side, *flags: str) -> Oracle:
    """One that lasts as long as the process."""
    made = profiles_of(side)
    if made is None:
        return Oracle(side.names, *flags)
    return Oracle(side.names, *flags, config=made.write(Path(_folder(side).name) / "config.json"))


@cache
def _folder(_: Side) -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory()


def compared(seed: int | str, numbers: range, side: Side) -> Iterator[tuple[Coverage, list[Failure]]]:
    """What each part came across, and the first of its cases that differ, in the order of the parts."""
    return _in_parts(partial(_compare, seed, side), numbers)


def _compare(seed: int | str, side: Side, part: range) -> tuple[Coverage, list[Failure]]:
    coverage = Coverage()
    failures = run(seed, part, side.names, oracle_of(side), coverage, profiles_of(side))
    return coverage, list(islice(failures, MOST_FAILURES))


Preempted = tuple[Choices, Counter[str], list[tuple[JSON, list[str]]]]


def preempted(seed: int | str, numbers: range, side: Side) -> Iterator[Preempted]:
    """The same of preemption: choices, what was come across, and (case, differences)."""
    return _in_parts(partial(_preempt, seed, side), numbers)


def _preempt(seed: int | str, side: Side, part: range) -> Preempted:
    choices, seen = Choices(), Counter[str]()
    found = run_preempting(seed, part, side.names, oracle_of(side, "-preempt"), choices, seen)
    return choices, seen, list(islice(found, MOST_FAILURES))


def _in_parts(judge: Callable[[range], T], numbers: range) -> Iterator[T]:
    """What comes of each part. When the caller has enough, parts that have not begun are left out."""
    workers = pool()
    try:
        yield from workers.map(judge, [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)])
    finally:
        workers.shutdown(cancel_futures=True)
