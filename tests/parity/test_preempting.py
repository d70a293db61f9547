"""The same victims as kube-scheduler's own DefaultPreemption, over random clusters."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.sim.control_plane import ControlPlaneMissing
from parity.draft import Choices
from parity.mutations import OF_PREEMPTION, plant
from parity.oracle import Oracle
from parity.preempting import generate_preempting, run_preempting, save_preempting

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [plugin.name for plugin in default_profile()]
FIXED = 1000
NEW = 400
MUTANT_CASES = 1200
WANTED = {
    "with candidates": 100,
    "a choice": 50,
    "a tie": 1,
    "several victims": 80,
    "broken budgets": 20,
    "not eligible": 30,
}
"""What the fixed cases must have come across, this often."""


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    try:
        asked = Oracle(NAMES, "-preempt")
    except ControlPlaneMissing as missing:
        if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
            pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))
    with asked:
        yield asked


def first_difference(seed: int | str, count: int, oracle: Oracle, choices: Choices, seen: Counter[str]) -> str:
    """What to show of the first case that differs, "" without one."""
    for case, found in run_preempting(seed, range(count), NAMES, oracle, choices, seen):
        return f"case {case['id']}, saved as {save_preempting(case)}:\n" + "\n".join(found)
    return ""


@pytest.mark.slow
@pytest.mark.control_plane
def test_random_clusters_of_a_fixed_seed(oracle: Oracle) -> None:
    choices, seen = Choices(), Counter[str]()
    assert not first_difference("one", FIXED, oracle, choices, seen)
    print(seen)
    assert choices.never == []
    assert {what: seen[what] for what, least in WANTED.items() if seen[what] < least} == {}


@pytest.mark.control_plane
def test_random_clusters_of_a_new_seed(oracle: Oracle) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}: repeat it with make parity CASES={NEW} ARGS='--preemption --seed {seed}'")
    assert not first_difference(seed, NEW, oracle, Choices(), Counter())


@pytest.mark.control_plane
@pytest.mark.parametrize("sentence", OF_PREEMPTION)
def test_a_planted_error_is_noticed(sentence: str, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(sentence, monkeypatch)
    try:
        found = run_preempting("mutations", range(MUTANT_CASES), NAMES, oracle, Choices(), Counter())
        noticed = next(found, None) is not None
    except Exception:  # noqa: BLE001  # debug_check noticed first, or something broke altogether
        noticed = True
    assert noticed, f"{MUTANT_CASES} cases agree although {sentence}"


def test_a_case_depends_on_seed_and_number_alone() -> None:
    def made(number: int) -> Any:
        return json.dumps(generate_preempting("s", number, NAMES))

    assert made(7) == made(7)
    assert made(7) != made(8)
