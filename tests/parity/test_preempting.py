"""The same victims as kube-scheduler's own DefaultPreemption, over random clusters."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.core.preemption import Preemption
from carbon_scheduler.kube.cases import Judge, read_case
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.control_plane import ControlPlaneMissing
from parity.draft import Choices
from parity.mutations import OF_PREEMPTION, plant
from parity.oracle import Oracle
from parity.preempting import generate_preempting, run_preempting, save_preempting

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = dict[str, Any]
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
