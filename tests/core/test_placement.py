"""The choice among feasible nodes, from numbers alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.core.emissions import Costs
from carbon_scheduler.core.placement import choose
from carbon_scheduler.core.ring import CHUNK, Ring
from carbon_scheduler.core.settings import Placement, Policy
from carbon_scheduler.core.verdict import Ranks

NAN = float("nan")

CASES: dict[str, tuple[Policy, list[int], list[float], int]] = {
    "the cleanest, whatever the scores": ("carbon-first", [0, 900], [50, 700], 0),
    "the better score among equally clean ones": ("carbon-first", [1, 2, 9], [100, 105, 300], 1),
    "a node with a value before one without": ("carbon-first", [0, 900], [700, NAN], 0),
    "upstream's score alone without any value": ("carbon-first", [1, 2], [NAN, NAN], 1),
    "off": ("off", [1, 2], [50, 700], 1),
    "weighted, score wins": ("weighted", [0, 1001], [50, 700], 1),
    "weighted, carbon wins": ("weighted", [0, 999], [50, 700], 0),
    "weighted, equal intensities": ("weighted", [1, 2], [300, 300], 1),
    "weighted, no value counts 0": ("weighted", [0, 999], [300, NAN], 0),
}


@pytest.mark.parametrize(("policy", "totals", "costs", "want"), CASES.values(), ids=CASES)
def test_choice(policy: Policy, totals: list[int], costs: list[float], want: int) -> None:
    hashes = np.arange(len(totals), dtype=np.uint64)
    taken, blind, _ = choose(
        policy, Placement(), Ranks(np.array(totals, np.int64)), Costs(np.array(costs, np.float64)), Ring(hashes), 0
    )
    assert taken == want
    assert blind == int(np.argmax(totals))


TIES = {"at it": (20, 1), "after it": (15, 1), "wraps around": (31, 0), "the last": (30, 2)}


@pytest.mark.parametrize(("start", "want"), TIES.values(), ids=TIES)
def test_ties_take_the_first_node_at_or_after_the_pods_place(start: int, want: int) -> None:
    hashes = np.array([10, 20, 30], np.uint64)
    same = np.zeros(3, np.int64)
    assert choose("off", Placement(), Ranks(same), Costs(np.zeros(3)), Ring(hashes), start)[:2] == (want, want)


rows = st.lists(
    st.tuples(st.integers(0, 900), st.one_of(st.just(NAN), st.floats(1, 1500)), st.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[2],
)


@given(rows, st.integers(0, 2**64 - 1), st.sampled_from(["carbon-first", "weighted"]), st.data())
def test_raising_an_intensity_never_attracts_a_pod(
    nodes: list[tuple[int, float, int]], start: int, policy: Policy, data: st.DataObject
) -> None:
    totals = np.array([n[0] for n in nodes], np.int64)
    costs = np.array([n[1] for n in nodes])
    hashes = np.array([n[2] for n in nodes], np.uint64)
    which = data.draw(st.integers(0, len(nodes) - 1))
    before, *_ = choose(policy, Placement(), Ranks(totals), Costs(costs), Ring(hashes), start)
    dearer = costs.copy()
    dearer[which] += 100
    after, *_ = choose(policy, Placement(), Ranks(totals), Costs(dearer), Ring(hashes), start)
    if policy == "carbon-first":
        assert after != which or before == which


@given(rows, st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_nodes(
    nodes: list[tuple[int, float, int]], start: int, random: object
) -> None:
    shuffled = list(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def pick(these: list[tuple[int, float, int]]) -> int:
        arrays = Ranks(np.array([n[0] for n in these], np.int64)), Costs(np.array([n[1] for n in these]))
        taken, *_ = choose(
            "carbon-first", Placement(), *arrays, Ring(np.array([n[2] for n in these], np.uint64)), start
        )
        return these[taken][2]

    assert pick(nodes) == pick(shuffled)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2)), min_size=1, max_size=4 * CHUNK), st.data())
def test_the_ring_takes_the_first_of_the_best_at_or_after_a_place(
    nodes: list[tuple[int, int]], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, 2**64 - 1))
    best = max(score for _, score in nodes)
    ring = Ring(np.array([place for place, _ in nodes], np.uint64))
    scores = np.array([score for _, score in nodes], np.int64)
    found = ring.first_best(scores, start)
    assert nodes[found][1] == best
    assert (nodes[found][0] - start) % 2**64 == min((p - start) % 2**64 for p, score in nodes if score == best)
    some = np.arange(0, len(nodes), 2)
    assert ring.first_best_of(some, scores[some], start) in some


@given(rows, st.integers(0, 2**64 - 1), st.sampled_from(["carbon-first", "weighted", "off"]), st.data())
def test_what_ranks_say_of_nodes_that_are_not_feasible_means_nothing(
    nodes: list[tuple[int, float, int]], start: int, policy: Policy, data: st.DataObject
) -> None:
    totals = np.array([n[0] for n in nodes], np.int64)
    feasible = np.array(data.draw(st.lists(st.booleans(), min_size=len(nodes), max_size=len(nodes)).filter(any)))
    costs, ring = Costs(np.array([n[1] for n in nodes])), Ring(np.array([n[2] for n in nodes], np.uint64))
    masked = Ranks(np.where(feasible, totals, -1))
    want = choose(policy, Placement(), masked, costs, ring, start)
    assert choose(policy, Placement(), Ranks(totals, feasible), costs, ring, start) == want
