"""Stories of a whole cluster, every kind of event in any order: no pod lost, none in two places, no Binding without room; and
the same effects, byte for byte, in another process and with the events of a batch in another order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wide_story
from wide_story import Story

SEEDS = st.integers(0, 2**32)


def test_every_pod_in_one_place_and_no_binding_without_room() -> None:
    seen: Counter[str] = Counter()
    count = 80

    @settings(max_examples=count, deadline=None)
    @given(SEEDS)
    def check(seed: int) -> None:
        for made in Story(seed).play():
            seen.update(effect["type"] for effect in msgspec.json.decode(made))

    check()
    # Stories in which nothing happens would check nothing.
    for effect in ("Bind", "Unschedulable", "ReadPod", "Evict", "BindVolumes", "Overcommitted"):
        assert seen[effect] > 2, (effect, seen)
    assert seen["Bind"] > 5 * count


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 1000))
def test_independent_events_of_a_batch_may_come_in_any_order(seed: int, order: int) -> None:
    assert Story(seed).play() == Story(seed, random.Random(order)).play()


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_the_effects_do_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    seeds = range(100, 106)
    tests = Path(wide_story.__file__).parent
    done = subprocess.run(
        [sys.executable, wide_story.__file__, *map(str, seeds)],
        cwd=tests,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        timeout=100,
    )
    assert done.stdout == b"".join(b"\n".join(Story(seed).play()) + b"\n" for seed in seeds)
