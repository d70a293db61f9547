"""The same answers as kube-scheduler's own plugins, letter by letter, over random clusters and over cases once found."""

from __future__ import annotations

import json
import os
import random
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.kubescheduler import read
from carbon_scheduler.sim.control_plane import ControlPlaneMissing
from parity.compare import GOLDEN, Coverage, differences, run, save, shrink
from parity.generate import generate
from parity.live import Live, plain
from parity.mutations import MUTATIONS, OF_PREEMPTION, OF_PROFILES
from parity.oracle import Oracle
from parity.parts import PROFILES, WHOLE, Side, compared, oracle_of, profiles_of
from parity.planted import MOST

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]
NAMES = WHOLE.names
FIXED = {"one": 9000, "two": 7000}
NEW = 5000
OF_EACH_PROFILE = 15
LONG = pytest.mark.timeout(1800)
"""Minutes on two cores with nothing beside, and more when there is."""


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return started(WHOLE)


def started(side: Side) -> Oracle:
    try:
        return oracle_of(side)
    except ControlPlaneMissing as missing:
        if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
            pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))


def judged(seed: int | str, count: int, side: Side = WHOLE) -> Coverage:
    """What the cases of a seed came across. The first that differs is made small, saved and told."""
    oracle, coverage = started(side), Coverage()
    for part, failures in compared(seed, range(count), side):
        coverage.add(part)
        if failures:
            path = save(failures[0], side.names, oracle, profiles_of(side))
            differs = "\n".join(failures[0].differences[:10])
            pytest.fail(f"case {failures[0].case['id']}, saved as {path}:\n{differs}", pytrace=False)
    return coverage


@LONG
@pytest.mark.slow
@pytest.mark.control_plane
def test_random_clusters_of_fixed_seeds(oracle: Oracle) -> None:
    coverage = Coverage()
    for seed, count in FIXED.items():
        coverage.add(judged(seed, count))
    print(*coverage.lines(), sep="\n")
    assert coverage.cases == sum(FIXED.values())
    assert coverage.holes(oracle.filters, oracle.scores) == []
    assert coverage.errors


@LONG
@pytest.mark.slow
@pytest.mark.control_plane
def test_random_clusters_of_a_new_seed(capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.randbits(32)
    with capsys.disabled():
        print(f"\nparity: seed {seed}, repeat it with make parity CASES={NEW} ARGS='--seed {seed}'")
    assert judged(seed, NEW).cases == NEW


@LONG
@pytest.mark.slow
@pytest.mark.control_plane
def test_random_profiles() -> None:
    made = profiles_of(PROFILES)
    assert made
    assert made.choices.never == []
    judged("profiles", OF_EACH_PROFILE * len(made.made), PROFILES)


@LONG
@pytest.mark.slow
@pytest.mark.control_plane
@pytest.mark.parametrize("sentence", [*MUTATIONS, *OF_PROFILES, *OF_PREEMPTION])
def test_a_planted_error_is_noticed(sentence: str, oracle: Oracle, planted: Callable[[str], str]) -> None:
    how = planted(sentence)
    print(how)
    assert how, f"{MOST} cases agree although {sentence}"


def _asks(requests: JSON, name: str = "p", **spec: Any) -> JSON:
    containers = [{"name": "c", "resources": {"requests": requests}}]
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"containers": containers, **spec}}


def _offers(**allocatable: str) -> JSON:
    labels = {"kubernetes.io/hostname": "n"}
    return {
        "metadata": {"name": "n", "labels": labels},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "pods": "9", **allocatable}},
    }


def _nominated(*, app: str, gone: bool = False) -> JSON:
    made = {**_asks({}, "x"), "status": {"nominatedNodeName": "n"}}
    made["metadata"]["labels"] = {"app": app}
    if gone:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made


SPREAD = {
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "DoNotSchedule",
    "maxSkew": 1,
    "minDomains": 2,
}
CLAIM = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}


def _using(meta: JSON, *volumes: JSON, **status: str) -> JSON:
    spec = {"containers": [{"name": "c"}], "volumes": list(volumes)}
    return {"metadata": {"uid": meta["name"], **meta}, "spec": spec, "status": status}


NOT_B = {"key": "app", "operator": "NotIn", "values": ["b"]}
DEVIATIONS: dict[str, tuple[JSON, str]] = {
    "what a node offers above 4 EiB is not used": (
        {
            "nodes": [_offers(memory="7Ei")],
            "pods": [_asks({"memory": "3Ei"}, "x", nodeName="n"), _asks({"memory": "3Ei"}, "y", nodeName="n")],
            "pod": _asks({"memory": "1Ei"}),
        },
        "0/1 nodes are available: 1 Insufficient memory.",
    ),
    "a nominated pod that is being deleted, under a hard spread constraint": (
        {
            "nodes": [_offers()],
            "pods": [_nominated(app="a", gone=True)],
            "pod": _asks({}, topologySpreadConstraints=[{**SPREAD, "labelSelector": {"matchExpressions": [NOT_B]}}]),
        },
        "",
    ),
    "nominated pods under a hard spread constraint whose selector is empty": (
        {
            "nodes": [_offers()],
            "pods": [_nominated(app="a")],
            "pod": _asks({}, topologySpreadConstraints=[{**SPREAD, "labelSelector": {}}]),
        },
        "",
    ),
    "a nominated pod elsewhere with a claim of the same name as one for one pod": (
        {
            "nodes": [_offers()],
            "pods": [_using({"name": "x", "namespace": "other"}, CLAIM, nominatedNodeName="n")],
            "pod": _using(
                {"name": "p", "namespace": "default"}, CLAIM, {"name": "d", "gcePersistentDisk": {"pdName": "d"}}
            ),
            "pvcs": [
                {
                    "metadata": {
                        "name": "c",
                        "namespace": "default",
                        "annotations": {"pv.kubernetes.io/bind-completed": ""},
                    },
                    "spec": {"accessModes": ["ReadWriteOncePod"], "volumeName": "pv"},
                }
            ],
            "pvs": [{"metadata": {"name": "pv"}, "spec": {"accessModes": ["ReadWriteOncePod"]}}],
        },
        "",
    ),
    "a pod that asks for more resources than a rejection has bits for": (
        {"nodes": [_offers()], "pods": [], "pod": _asks({f"example.com/r{i}": "1" for i in range(60)})},
        "0/1 nodes are available: pod requests more than 59 different resources.",
    ),
}


@pytest.mark.control_plane
@pytest.mark.parametrize("sentence", DEVIATIONS)
def test_what_differs_on_purpose(sentence: str, oracle: Oracle) -> None:
    """Named in docs/reference/plugins.md. One that no longer differs must go from there."""
    case, message = DEVIATIONS[sentence]
    got = plain({"id": 1, **case}, NAMES)
    assert got.get("message", "") == message
    assert differences(oracle.ask({"id": 1, **case}), got)


GOLDENS = sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_cases_once_found(path: Path) -> None:
    """Needs no oracle: the answer of kube-scheduler's plugins is in the file."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    for one in golden if isinstance(golden, list) else [golden]:
        profiles = read(one["config"], str(path)).profiles if "config" in one else ()
        assert differences(one["want"], plain(one["case"], one["plugins"], profiles)) == []


def test_a_case_depends_on_seed_and_number_alone() -> None:
    assert generate("s", 7, NAMES) == generate("s", 7, NAMES)
    assert generate("s", 7, NAMES) != generate("s", 8, NAMES)


class Crooked:
    """An oracle that agrees with us but for one thing: a pod named `odd` makes the first node's reasons differ."""

    filters = scores = ()

    def ask(self, case: JSON) -> JSON:
        answer = plain(case, NAMES)
        if any(pod["metadata"]["name"] == "pod-1" for pod in case.get("pods", ())) and "nodes" in answer:
            for node in answer["nodes"].values():
                node["reasons"] = ["odd"]
        return answer


def test_a_failing_case_is_made_small() -> None:
    crooked: Any = Crooked()
    case = next(
        case
        for n in range(200)
        if len((case := generate("small", n, NAMES))["pods"]) > 8
        and len(case["nodes"]) > 3
        and "pod-1" in {pod["metadata"]["name"] for pod in case["pods"]}
        and "error" not in plain(case, NAMES)
    )
    (failure,) = run("small", [int(case["id"].split("/")[1])], NAMES, crooked, Coverage())
    assert not failure.stale
    small = shrink(failure.case, NAMES, crooked)
    assert [pod["metadata"]["name"] for pod in small["pods"]] == ["pod-1"]
    assert len(small["nodes"]) == 1
    assert len(json.dumps(small)) < len(json.dumps(case)) / 4


DIFFER: dict[str, tuple[JSON, JSON, int]] = {
    "nothing": ({"nodes": {}, "totals": {"a": 1}}, {"totals": {"a": 1}, "nodes": {}}, 0),
    "another number": ({"totals": {"a": 1}}, {"totals": {"a": 2}}, 1),
    "a node too many": ({"totals": {"a": 1}}, {"totals": {"a": 1, "b": 1}}, 1),
    "a message that one lacks": ({"message": "x"}, {}, 1),
    "two errors, each in its own words": ({"error": "a"}, {"error": "b"}, 0),
    "an error against an answer": ({"error": "a"}, {"totals": {}}, 1),
    "another case's name": ({"id": 1}, {"id": 2}, 0),
}


@pytest.mark.parametrize("sentence", DIFFER)
def test_every_letter_is_compared(sentence: str) -> None:
    want, got, count = DIFFER[sentence]
    assert len(differences(want, got)) == count
    assert len(differences(got, want)) == count


def test_what_was_never_exercised_is_told() -> None:
    coverage = Coverage()
    generate("hole", 1, NAMES, coverage.choices)
    holes = coverage.holes(["NodePorts"], ["NodeAffinity"])
    assert holes[:2] == ["NodePorts never rejected a node", "NodeAffinity never told nodes apart"]
    assert any(hole.startswith("never generated: priority: ") for hole in holes)


def test_events_leave_nothing_behind() -> None:
    live = Live(NAMES)
    for number in range(20):
        case, noise = generate("events", number, NAMES), generate("noise", number, NAMES)
        assert not differences(plain(case, NAMES), live.ask(case, noise, random.Random(number)))
