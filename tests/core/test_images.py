"""Images on nodes and the score for having them; the arithmetic stands beside each expected score."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_node, make_pod
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import Image, Node, NodeName
from carbon_scheduler.core.plugins.image_locality import ImageLocality
from carbon_scheduler.core.snapshot import Snapshot
from carbon_scheduler.providers.tables import grid_zones

MIB = 2**20


def node(name: str, *images: tuple[str, int]) -> Node:
    """With images of one name each, sizes in MiB."""
    made = make_node(name)
    return Node(
        made.name, made.labels, allocatable=made.allocatable, images=tuple(Image((n,), s * MIB) for n, s in images)
    )


def scores(images: tuple[str, ...], *nodes: Node, containers: int = 0) -> list[int]:
    snap = Snapshot(capacity=2)
    for one in nodes:
        snap.put_node(one, None)
    slots = np.array([snap.slot_of[one.name] for one in nodes], np.intp)
    pod = make_pod(spec={"images": images, "containers": containers or len(images)})
    return Framework([ImageLocality()], snap).judge(pod).scores(slots)["ImageLocality"].tolist()


LARGE = (("300", 300), ("600", 600), ("900", 900))
SCORES: dict[str, tuple[tuple[str, ...], int, tuple[Node, ...], list[int]]] = {
    # (250/2 - 23) * 100 / (2000 - 23) = 5; 40/2 < 23
    "each node has one image: the larger wins": (("40", "250"), 2, (node("a", ("40", 40)), node("b", ("250", 250))), [0, 5]),
    # ((40 + 300)/2 - 23) * 100 / (2000 - 23) = 7
    "both images on one node": (("40", "300"), 2, (node("a", ("40", 40), ("300", 300)), node("b")), [7, 0]),
    "above the ceiling": (("4000", "10"), 2, (node("a", ("4000", 4000)), node("b", ("10", 10))), [100, 0]),
    # (4000/3 - 23) * 100 / (2000 - 23) = 66
    "a share of all nodes, those without images too": (
        ("4000", "10"),
        2,
        (node("a", ("4000", 4000)), node("b", ("10", 10)), node("c")),
        [66, 0, 0],
    ),
    # ((600 + 900) * 2/3 - 23) * 100 / (3000 - 23) = 32; with 300/3 more: 36
    "three containers": (("300", "600", "900"), 3, (node("a", *LARGE[1:]), node("b", *LARGE), node("c")), [32, 36, 0]),
    # (300/2 - 23) * 100 / (1000 - 23) = 12: the ceiling is that of the one container
    "an image volume raises the sum, not the ceiling": (("30", "300"), 1, (node("a", *LARGE), node("b", ("30", 30))), [12, 0]),
    # (2 * 300 - 23) * 100 / (2000 - 23) = 29
    "two containers with the same image": (("300", "300"), 2, (node("a", *LARGE),), [29]),
    "the floor itself is worth nothing": (("23",), 1, (node("a", ("23", 23)),), [0]),
    "a name that nobody has": (("nowhere",), 1, (node("a", *LARGE),), [0]),
    "of two sizes on one node the first counts": (("x",), 1, (node("a", ("x", 512), ("x", 999)),), [50]),
    # both by the first node's 300: (300 - 23) * 100 / 977 = 28
    "of two sizes on two nodes the first counts": (("x",), 1, (node("a", ("x", 300)), node("b", ("x", 900))), [28, 28]),
}  # fmt: skip


@pytest.mark.parametrize("sentence", SCORES)
def test_scores(sentence: str) -> None:
    images, containers, nodes, want = SCORES[sentence]
    assert scores(images, *nodes, containers=containers) == want


def test_the_size_stays_that_of_the_first_node_while_any_node_has_the_image() -> None:
    snap = Snapshot(capacity=2)
    for one in (node("a", ("x", 300)), node("b", ("x", 900))):
        snap.put_node(one, None)
    snap.drop_node(NodeName("a"))
    assert snap.images.known("x") == (300 * MIB, 1)
    snap.renew_images(snap.slot_of[NodeName("b")])  # alone with it, b's report counts from now on
    assert snap.images.known("x") == (900 * MIB, 1)
    snap.drop_node(NodeName("b"))
    assert snap.images.known("x") is None


def test_a_report_without_a_change_counts_too() -> None:
    cluster = Cluster(grid_zones(), None)
    for one in (node("a", ("x", 300)), node("b", ("x", 900))):
        cluster.put_node(one)
    cluster.drop_node(NodeName("a"))
    cluster.put_node(node("b", ("x", 900)))
    assert cluster.snap.images.known("x") == (900 * MIB, 1)


class Plain:
    """Upstream's cache, said plainly: name -> (size, names of nodes)."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[int, set[str]]] = {}
        self.nodes: dict[str, Node] = {}

    def put(self, found: Node) -> None:
        self.drop(found.name)
        self.nodes[found.name] = found
        for image in found.images:
            for name in image.names:
                self.states.setdefault(name, (image.size_b, set()))[1].add(found.name)

    def drop(self, name: str) -> None:
        before = self.nodes.pop(name, None)
        for image in before.images if before else ():
            for known in image.names:
                if known in self.states:
                    self.states[known][1].discard(name)
                    if not self.states[known][1]:
                        del self.states[known]


IMAGES = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3)), max_size=3).map(tuple)
STEPS = st.lists(st.tuples(st.sampled_from("abcdefghijk"), st.none() | IMAGES, st.sampled_from("xyz")), max_size=40)


@given(STEPS)
def test_equal_to_upstreams_cache_after_any_story(
    steps: list[tuple[str, tuple[tuple[str, int], ...] | None, str]],
) -> None:
    cluster, plain = Cluster(grid_zones(), None), Plain()
    cluster.snap = Snapshot(capacity=1)
    for name, images, asked in steps:
        if images is None:
            cluster.drop_node(NodeName(name))
            plain.drop(name)
        else:
            cluster.put_node(node(name, *images))
            plain.put(node(name, *images))
        having = cluster.snap.images.having(asked)
        assert {n.name for n, has in zip(cluster.snap.nodes, having, strict=True) if n and has} == plain.states.get(asked, (0, set()))[1]  # fmt: skip
        for known in "xyz":
            size_b, on = plain.states.get(known, (0, set()))
            assert cluster.snap.images.known(known) == ((size_b, len(on)) if on else None)
        cluster.debug_check()


def test_where_no_node_has_an_image_nothing_is_worked_out() -> None:
    snap = Snapshot(capacity=2)
    snap.put_node(node("a", *LARGE), None)
    plugin = ImageLocality()
    one, other = (plugin.prepare(make_pod(spec={"images": (name,)}), snap) for name in ("app", "db"))
    assert one is other
    assert one.constant == 0


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=6),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
def test_equal_to_the_sum_node_by_node(there: list[list[int]], asked: list[int]) -> None:
    """Few different images are looked up in a table of their combinations, many are added up, those on all nodes are constant."""
    sizes = {f"i{n}": (n + 1) * 170 * MIB + 1 for n in range(10)}
    nodes = []
    for at, numbers in enumerate(there):
        images = tuple(Image((f"i{n}",), sizes[f"i{n}"]) for n in dict.fromkeys(numbers))
        nodes.append(msgspec.structs.replace(make_node(f"n{at}"), images=images))
    want = []
    for one in nodes:
        mine = {name for image in one.images for name in image.names}
        total = 0
        for name in (f"i{n}" for n in asked):
            if name in mine:
                spread = sum(any(name in image.names for image in other.images) for other in nodes) / len(nodes)
                total += int(float(sizes[name]) * spread)
        ceiling = 1000 * MIB * 2
        want.append(100 * (min(max(total, 23 * MIB), ceiling) - 23 * MIB) // (ceiling - 23 * MIB))
    assert scores(tuple(f"i{n}" for n in asked), *nodes, containers=2) == want
