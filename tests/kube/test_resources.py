"""Requests of pods: upstream's rules as tables, and a naive reference over generated pods."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_scheduler.core.model import MAX_QUANTITY, Requests
from carbon_scheduler.kube import resources, wire

MIB = 1024 * 1024
JSON = dict[str, Any]


def container(name: str = "c", sidecar: bool = False, **requests: str | None) -> JSON:
    made: JSON = {
        "name": name,
        "resources": {"requests": {key.replace("_", "-"): value for key, value in requests.items()}},
    }
    if sidecar:
        made["restartPolicy"] = "Always"
    return made


def read(spec: JSON) -> tuple[resources.PodResources, resources.Reader]:
    reader = resources.Reader(unreadable_as=resources.UNREADABLE_ON_NODE)
    return resources.PodResources(msgspec.convert(spec, wire.PodSpec), reader), reader


def pending(spec: JSON) -> Requests:
    return read(spec)[0].pending()


def assigned(spec: JSON, status: JSON) -> Requests:
    made, reader = read(spec)
    return made.assigned(msgspec.convert(status, wire.PodStatus), reader)


PENDING: dict[str, tuple[JSON, Requests]] = {
    "containers add up": (
        {"containers": [container(cpu="100m", memory="1Mi"), container(cpu="200m", memory="2Mi")]},
        Requests(300, 3 * MIB, 0, (), 300, 3 * MIB),
    ),
    "a container without requests scores 100m and 200 MiB": (
        {"containers": [container(), container(cpu="1")]},
        Requests(1000, 0, 0, (), 1100, 400 * MIB),
    ),
    "an explicit 0 stays 0 in the score": (
        {"containers": [container(cpu="0", memory=None)]},
        Requests(0, 0, 0, (), 0, 0),
    ),
    "the largest init container wins over a smaller sum, per resource": (
        {
            "containers": [container(cpu="1", memory="1Mi")],
            "initContainers": [container(cpu="2", memory="0"), container(cpu="0", memory="5Mi")],
        },
        Requests(2000, 5 * MIB, 0, (), 2000, 5 * MIB),
    ),
    # 1 main + 1 sidecar = 2; steps: init before = 1.5, sidecar = 1, init after = 2 + 1 (sidecar) = 3
    "an init container after a sidecar needs both": (
        {
            "containers": [container(cpu="1", memory="0")],
            "initContainers": [
                container("a", cpu="1500m", memory="0"),
                container("b", sidecar=True, cpu="1", memory="0"),
                container("c", cpu="2", memory="0"),
            ],
        },
        Requests(3000, 0, 0, (), 3000, 0),
    ),
    "overhead comes last": (
        {
            "containers": [container(cpu="1", memory="1Mi")],
            "resources": {"requests": {"cpu": "3"}},
            "overhead": {"cpu": "250m", "memory": "1Mi"},
        },
        # the score ignores pod-level requests of a pending pod, not the overhead
        Requests(3250, 2 * MIB, 0, (), 1250, 2 * MIB),
    ),
    "pod-level requests replace cpu, memory and hugepages only": (
        {
            "containers": [container(cpu="1", memory="1Mi", ephemeral_storage="5")],
            "resources": {
                "requests": {"cpu": "100m", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1", "example.com/gpu": "7"}
            },
        },
        Requests(100, MIB, 5, (("hugepages-2Mi", 4 * MIB),), 1000, MIB, container_scalars=()),  # scores: of containers
    ),
    "fractions add up exactly and are rounded up once": (
        # each is rounded up to a thousandth of a byte as the API server does: 0.1 + 0.1 = 0.2, up to 1
        {"containers": [container(cpu="0.1m", memory="0.1"), container(cpu="0.1m", memory="100m")]},
        Requests(2, 1, 0, (), 2, 1),
    ),
    "only names that upstream counts are scalars, in order": (
        {
            "containers": [
                {
                    "name": "c",
                    "resources": {
                        "requests": {
                            "cpu": "0",
                            "memory": "0",
                            "example.com/b": "2",
                            "example.com/a": "1",
                            "requests.example.com/c": "1",
                            "storage": "1",
                            "attachable-volumes-x": "1",
                            "kubernetes.io/x": "1",
                            "pods": "3",
                        }
                    },
                }
            ]
        },
        Requests(
            0,
            0,
            0,
            (("attachable-volumes-x", 1), ("example.com/a", 1), ("example.com/b", 2), ("kubernetes.io/x", 1)),
            0,
            0,
        ),
    ),
    "limits do not count": (
        {"containers": [{"name": "c", "resources": {"limits": {"cpu": "4"}, "requests": None}}]},
        Requests(0, 0, 0, (), 100, 200 * MIB),
    ),
    "nulls everywhere are nothing": (
        {"containers": [None, {"name": None, "resources": None}], "initContainers": None, "overhead": None},
        Requests(0, 0, 0, (), 100, 200 * MIB),
    ),
    "a huge sum saturates": (
        {"containers": [container(cpu="1e99", memory="7Ei"), container(cpu="1e99", memory="7Ei")]},
        Requests(MAX_QUANTITY, MAX_QUANTITY, 0, (), MAX_QUANTITY, MAX_QUANTITY),
    ),
}


@pytest.mark.parametrize("case", PENDING)
def test_a_pending_pod(case: str) -> None:
    spec, want = PENDING[case]
    assert pending(spec) == want


def resized(spec_cpu: str, actual: str | None, allocated: str | None, **condition: str) -> tuple[JSON, JSON]:
    status: JSON = {"name": "c"}
    if actual is not None:
        status["resources"] = {"requests": {"cpu": actual, "memory": "0"}}
    if allocated is not None:
        status["allocatedResources"] = {"cpu": allocated}
    spec = {"containers": [container(cpu=spec_cpu, memory="0")]}
    return spec, {"containerStatuses": [status], "conditions": [condition] if condition else None}


RESIZED = {
    "shrinking: what is still allocated counts": (resized("1", "2", "2"), 2000),
    "growing: what is asked counts": (resized("4", "2", "2"), 4000),
    "allocated alone, without resources, is ignored": (resized("1", None, "3"), 1000),
    "an infeasible resize leaves the spec out": (
        resized("9", "2", "3", type="PodResizePending", reason="Infeasible"),
        3000,
    ),
    "a deferred resize counts": (resized("9", "2", "3", type="PodResizePending", reason="Deferred"), 9000),
}


@pytest.mark.parametrize("case", RESIZED)
def test_an_assigned_pod_during_a_resize(case: str) -> None:
    (spec, status), want_cpu_m = RESIZED[case]
    got = assigned(spec, status)
    assert (got.cpu_m, got.scoring_cpu_m) == (want_cpu_m, want_cpu_m)


def test_only_sidecars_among_init_containers_resize() -> None:
    statuses = [
        {"name": name, "resources": {"requests": {"cpu": "5", "memory": "0"}}, "allocatedResources": {}}
        for name in ("i", "s")
    ]
    spec = {
        "containers": [container(cpu="1", memory="0")],
        "initContainers": [container("i", cpu="1", memory="0"), container("s", sidecar=True, cpu="1", memory="0")],
    }
    assert assigned(spec, {"initContainerStatuses": statuses}).cpu_m == 1000 + 5000


def test_pod_level_resize_counts_only_with_a_status() -> None:
    spec = {"containers": [container(memory="0")], "resources": {"requests": {"cpu": "1"}}}
    assert assigned(spec, {"allocatedResources": {"cpu": "3"}}).cpu_m == 1000
    assert assigned(spec, {"resources": {"requests": {"cpu": "2"}}, "allocatedResources": {"cpu": "3"}}).cpu_m == 3000


def test_on_a_node_pod_level_requests_suppress_the_defaults_they_cover() -> None:
    spec = {"containers": [container(), container()], "resources": {"requests": {"cpu": "1"}}}
    got = assigned(spec, {})
    assert (got.scoring_cpu_m, got.scoring_memory_b) == (1000, 400 * MIB)
    assert pending(spec).scoring_cpu_m == 200


UNREADABLE = {
    "no quantity counts as a whole node": ("abc", MAX_QUANTITY, "containers[c].resources.requests.cpu: got 'abc'"),
    "a negative one counts nothing": ("-1", 0, "containers[c].resources.requests.cpu: got '-1', expected no negative"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_quantities_are_noted_and_counted_safely(case: str) -> None:
    text, want_cpu_m, want_problem = UNREADABLE[case]
    made, reader = read({"containers": [container(cpu=text, memory="1Mi")]})
    assert made.assigned(None, reader).cpu_m == want_cpu_m
    assert made.assigned(None, reader).memory_b == MIB
    assert reader.problem.startswith(want_problem)


def test_a_node_offers_nothing_of_what_cannot_be_read() -> None:
    reader = resources.Reader(unreadable_as=0)
    offered = {
        "cpu": "3500m",
        "memory": "1.5Gi",
        "pods": "110",
        "example.com/gpu": "x",
        "ephemeral-storage": "-5",
        "junk": "1",
    }
    assert resources.allocatable(offered, reader) == {
        "cpu": 3500,
        "memory": 1536 * MIB,
        "pods": 110,
        "example.com/gpu": 0,
        "ephemeral-storage": 0,
    }


# -- the naive reference: fractions, one resource at a time, straight from the reference text (section 1.6)

amounts = st.one_of(st.none(), st.integers(0, 5000).map(lambda m: f"{m}m"), st.integers(0, 5).map(str))
lists = st.fixed_dictionaries({}, optional={"cpu": amounts, "memory": amounts, "example.com/x": amounts})
mains = st.lists(lists, max_size=4)
inits = st.lists(st.tuples(st.booleans(), lists), max_size=5)


def value(text: str | None) -> Fraction:
    return Fraction(0) if text is None else Fraction(text[:-1]) / 1000 if text.endswith("m") else Fraction(text)


def naive_total(name: str, main: list[JSON], init: list[tuple[bool, JSON]], default: Fraction) -> Fraction:
    def need(one: JSON) -> Fraction:
        return value(one[name]) if name in one else default

    running = sum((need(one) for one in main), Fraction(0))
    sidecars = Fraction(0)
    steps = [Fraction(0)]
    for sidecar, one in init:
        if sidecar:
            running += need(one)
            sidecars += need(one)
            steps.append(sidecars)
        else:
            steps.append(need(one) + sidecars)
    return max(running, *steps)


@settings(max_examples=300)
@given(main=mains, init=inits, pod=lists, overhead=lists)
def test_aggregation_equals_the_naive_reference(
    main: list[JSON], init: list[tuple[bool, JSON]], pod: JSON, overhead: JSON
) -> None:
    spec = {
        "containers": [{"name": str(n), "resources": {"requests": one}} for n, one in enumerate(main)],
        "initContainers": [
            {"name": str(n), "resources": {"requests": one}, "restartPolicy": "Always" if sidecar else None}
            for n, (sidecar, one) in enumerate(init)
        ],
        "resources": {"requests": pod},
        "overhead": overhead,
    }

    def want(name: str, default: str, scoring: bool) -> Fraction:
        total = naive_total(name, main, init, value(default) if scoring else Fraction(0))
        if not scoring and name in pod and name != "example.com/x":
            total = value(pod[name])
        return total + value(overhead.get(name))

    got = pending(spec)
    assert got.cpu_m == math.ceil(want("cpu", "0", scoring=False) * 1000)
    assert got.memory_b == math.ceil(want("memory", "0", scoring=False))
    assert got.scoring_cpu_m == math.ceil(want("cpu", "100m", scoring=True) * 1000)
    assert got.scoring_memory_b == math.ceil(want("memory", str(200 * MIB), scoring=True))
    assert dict(got.scalars).get("example.com/x", 0) == math.ceil(want("example.com/x", "0", scoring=False))
