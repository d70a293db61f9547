"""The same victims as kube-scheduler's own DefaultPreemption, over random clusters."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.core.preemption import Preemption
from carbon_scheduler.kube.cases import Judge, read_case
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.control_plane import ControlPlaneMissing
from parity.draft import Choices
from parity.parts import WHOLE, oracle_of, preempted
from parity.preempting import generate_preempting, save_preempting

if TYPE_CHECKING:
    from parity.oracle import Oracle

JSON = dict[str, Any]
FIXED = 4000
NEW = 1000
WANTED = {
    "with candidates": 400,
    "a choice": 200,
    "a tie": 4,
    "several victims": 320,
    "broken budgets": 80,
    "not eligible": 120,
}
"""What the fixed cases must have come across, this often."""
LONG = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    try:
        return oracle_of(WHOLE, "-preempt")
    except ControlPlaneMissing as missing:
        if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
            pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))


def judged(seed: int | str, count: int) -> tuple[Choices, Counter[str]]:
    """What the cases of a seed came across. The first that differs is told."""
    choices, seen = Choices(), Counter[str]()
    for part, came_across, differ in preempted(seed, range(count), WHOLE):
        choices.add(part)
        seen += came_across
        for case, found in differ:
            differences = "\n".join(found[:10])
            pytest.fail(f"case {case['id']}, saved as {save_preempting(case)}:\n{differences}", pytrace=False)
    return choices, seen


@LONG
@pytest.mark.slow
@pytest.mark.control_plane
@pytest.mark.usefixtures("oracle")
def test_random_clusters_of_a_fixed_seed() -> None:
    choices, seen = judged("one", FIXED)
    print(seen)
    assert choices.never == []
    assert {what: seen[what] for what, least in WANTED.items() if seen[what] < least} == {}


@LONG
@pytest.mark.slow
@pytest.mark.control_plane
@pytest.mark.usefixtures("oracle")
def test_random_clusters_of_a_new_seed(capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.randbits(32)
    with capsys.disabled():
        print(f"\npreemption: seed {seed}, repeat it with make parity CASES={NEW} ARGS='--preemption --seed {seed}'")
    judged(seed, NEW)


def test_a_case_depends_on_seed_and_number_alone() -> None:
    def made(number: int) -> Any:
        return json.dumps(generate_preempting("s", number, WHOLE.names))

    assert made(7) == made(7)
    assert made(7) != made(8)


def _node(name: str, **labels: str) -> JSON:
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "9"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"allocatable": allocatable}}


def _pod(
    name: str, node: str | None = None, priority: int = 0, *, cpu: str = "1", going: bool = False, **spec: Any
) -> JSON:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": spec.pop("ports", [])}
    meta: JSON = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "a"}}
    if going:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    where = {"nodeName": node} if node else {}
    minute = sum(map(ord, name)) % 60
    status = {"startTime": f"2026-01-01T00:{minute:02}:00Z"} if node else {}
    return {
        "metadata": meta,
        "spec": {"containers": [container], "priority": priority, **where, **spec},
        "status": status,
    }


ZONE = "topology.kubernetes.io/zone"
SPREAD = {
    "maxSkew": 1,
    "topologyKey": ZONE,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "a"}},
}
PORT = {"hostPort": 80, "containerPort": 80, "protocol": "TCP"}
CLAIM = {
    "metadata": {
        "name": "c",
        "namespace": "default",
        "uid": "c",
        "annotations": {"pv.kubernetes.io/bind-completed": "yes"},
    },
    "spec": {
        "accessModes": ["ReadWriteOncePod"],
        "volumeName": "v",
        "storageClassName": "",
        "volumeMode": "Filesystem",
    },
    "status": {"phase": "Bound"},
}
VOLUME = {
    "metadata": {"name": "v"},
    "spec": {"accessModes": ["ReadWriteOncePod"], "capacity": {"storage": "1Gi"}, "claimRef": {"namespace": "default", "name": "c", "uid": "c"},
             "csi": {"driver": "d", "volumeHandle": "v"}, "volumeMode": "Filesystem"},
    "status": {"phase": "Bound"},
}  # fmt: skip
USES = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
DEVIATIONS: dict[str, tuple[JSON, JSON]] = {
    "a victim that is being deleted, under a hard spread constraint": (
        {
            "nodes": [_node("n1", **{ZONE: "z1"}), _node("n2", **{ZONE: "z2"})],
            "pods": [
                _pod("x", "n1"), _pod("y", "n1"), _pod("going", "n1", going=True), _pod("u", "n2", 99, cpu="4"),
            ],
            "pod": _pod("p", None, 10, topologySpreadConstraints=[SPREAD]),
        },
        {"n1": ["default/y"]},
    ),
    "a host port that two pods have got": (
        {
            "nodes": [_node("n1")],
            "pods": [_pod("x", "n1", ports=[PORT]), _pod("y", "n1", 50, ports=[PORT])],
            "pod": _pod("p", None, 10, ports=[PORT]),
        },
        {},
    ),
    "a claim for one pod that two have got": (
        {
            "nodes": [_node("n1")],
            "pods": [_pod("x", "n1", volumes=USES), _pod("y", "n1", 50, volumes=USES)],
            "pod": _pod("p", None, 10, volumes=USES),
            "pvcs": [CLAIM],
            "pvs": [VOLUME],
        },
        {},
    ),
}  # fmt: skip


@pytest.mark.control_plane
@pytest.mark.parametrize("sentence", DEVIATIONS)
def test_what_differs_on_purpose(sentence: str, oracle: Oracle) -> None:
    """Named in docs/reference/plugins.md. One that no longer differs must go from there."""
    case, want = DEVIATIONS[sentence]
    upstream = oracle.ask({"id": 1, **case})["preemption"]
    judge = Judge(grid_zones())
    pod = judge.load(read_case(json.dumps(case).encode()))
    verdict, nominations = judge.judge(pod)
    found = Preemption(judge.cluster, nominations).scan(pod, verdict, 9)
    got = {one.node: [pod.key for pod in one.victims] for one in map(found.candidate, range(len(found)))}
    assert got == want
    assert got != {node: one["pods"] for node, one in upstream["candidates"].items()}
