"""Objects that nobody would make by accident: refused or tolerated by themselves, and the other pods go on."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.kube.kinds import KINDS
from carbon_scheduler.sim.apiserver.kinds import BY_PATH
from pod_outcomes import PREFIX, an_event, bound, decision_of, nodes_of, pending
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded_cluster import EmbeddedCluster
    from real_cluster import Cluster
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
INJECTED = "weighted\nError: API request failed with status 401: \u202e📦"


def _resources(count: int) -> list[JSON]:
    amounts = {f"example.com/r{i}": "1" for i in range(count)}
    resources = {"requests": amounts, "limits": amounts}
    return [{"name": "main", "image": "registry.example/app:1", "resources": resources}]


REFUSED: dict[str, JSON] = {
    "a negative quantity": make_pod("refused", cpu="-1"),
    "no number": make_pod("refused", cpu="NaN"),
    "a Unicode name of an annotation": make_pod("refused", annotations={"ключ/имя": "v"}),
    "too many bytes of annotations": make_pod("refused", annotations={"a": "x" * 262_144}),
    "no containers": make_pod("refused", containers=[]),
    "no spec": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "refused"}},
}
"""What the API server itself does not take."""

WAITING: dict[str, tuple[JSON, str]] = {
    "10,000 labels": (
        {"labels": {f"l{i}": "v" for i in range(10_000)}},
        "metadata.labels: got 10000, expected at most 1000",
    ),
    "1e99 of cpu": ({"cpu": "1e99"}, "Insufficient cpu"),
    "1e99 of memory": ({"memory": "1e99"}, "Insufficient memory"),
    "5,000 tolerations": (
        {"tolerations": [{"key": f"k{i}", "operator": "Exists"} for i in range(5000)]},
        "spec.tolerations: got 5002, expected at most 1000",  # two are added by the API server
    ),
    "a selector of 2,000 labels": (
        {"nodeSelector": {f"l{i}": "v" for i in range(2000)}},
        "didn't match Pod's node affinity/selector",
    ),
    "100 kinds of resources": ({"containers": _resources(100)}, "more than 59 different resources"),
}
"""What it takes and we cannot place, and the reason on the pod."""

BOUND: dict[str, JSON] = {
    "a tenth of a millicore": {"cpu": "0.1m"},
    "annotations that leave no room for ours": {"annotations": {"a": "x" * 262_141}},
    "an annotation of ours with a line break": {"annotations": {PREFIX + "placement": INJECTED, "b": "📦" * 1000}},
    "an empty label": {"labels": {"a": ""}, "nodeSelector": {"kubernetes.io/hostname": "good"}},
}


def _nodes() -> list[JSON]:
    return [
        make_node("good", cpu="8", carbon_zone="FR"),
        make_node("boundless", cpu="1", pods="1e99", carbon_zone="PL"),
        make_node("of-many-labels", cpu="1", carbon_zone="PL", labels={f"n{i}": "v" for i in range(10_000)}),
        make_node("tiny", cpu="0.1m", carbon_zone="FR"),
        make_node("taken", cpu="8", carbon_zone="FR"),
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare"}},
    ]


def _slug(sentence: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in sentence.lower())


async def test_hostile_objects_concern_only_themselves(
    either_cluster: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    cluster = either_cluster
    await cluster.create(_nodes())
    await cluster.create([make_pod("takes-all", scheduler=None, cpu="1e99", node="taken")])
    scheduler = start_scheduler(cluster.plane.kubeconfig)
    await scheduler.ready()
    for pod in REFUSED.values():
        with pytest.raises(AssertionError, match=r": 4(00|22): "):
            await cluster.create([pod])
    for sentence, (oddity, words) in WAITING.items():
        await cluster.create([make_pod(_slug(sentence), **oddity)])
        condition = await pending(cluster, _slug(sentence), words)
        assert condition["reason"] in ("Unschedulable", "SchedulerError")
        await an_event(cluster, _slug(sentence), "FailedScheduling")
    for sentence, oddity in BOUND.items():
        await cluster.create([make_pod(_slug(sentence), **oddity)])
    assert await nodes_of(cluster, *map(_slug, BOUND)) == ["good"] * len(BOUND)

    # The usual ones go on: the clean node takes what it has room for, and the dirty ones the rest.
    await cluster.create(make_pod(f"usual-{i}", cpu="900m") for i in range(10))
    nodes = await nodes_of(cluster, *(f"usual-{i}" for i in range(10)))
    assert sorted(set(nodes)) == ["boundless", "good", "of-many-labels"]
    assert nodes.count("good") == 8

    # The API server does not look at the size of a Binding's annotations: with ours the pod could never be updated again.
    (full,) = await bound(cluster, _slug("annotations that leave no room for ours"))
    assert list(full["metadata"]["annotations"]) == ["a"]
    updated = await cluster.patch("Pod", full["metadata"]["name"], {"metadata": {"labels": {"can": "be-updated"}}})
    assert updated["metadata"]["labels"] == {"can": "be-updated"}

    (odd,) = await bound(cluster, _slug("an annotation of ours with a line break"))
    assert decision_of(odd)["policy"] == "carbon-first"
    assert "ignored" in (await an_event(cluster, odd["metadata"]["name"], "InvalidAnnotation"))["note"]
    # What happens elsewhere in the cluster gives no reason to look at those that cannot be read again.
    for i in range(5):
        await cluster.delete("Pod", f"usual-{i}")
        await cluster.create([make_pod(f"later-{i}")])
        await bound(cluster, f"later-{i}")
    for name in ("10-000-labels", "5-000-tolerations"):
        assert scheduler.text.count(f"Pod default/{name} cannot be scheduled") == 1
    assert "\nError: API request failed" not in scheduler.text
    assert "\u202e" not in scheduler.text
    assert "Traceback" not in scheduler.text
    assert (scheduler.running, scheduler.exits) == (True, [])
    await scheduler.ready()


RAW_PODS: dict[str, JSON] = {
    "spec null": {"spec": None},
    "no spec": {},
    "containers null": {"spec": {"containers": None}},
    "a container null": {"spec": {"containers": [None]}},
    "a negative quantity": {"spec": {"containers": [{"name": "m", "resources": {"requests": {"cpu": "-1"}}}]}},
    "no quantity": {"spec": {"containers": [{"name": "m", "resources": {"requests": {"cpu": "☃"}}}]}},
    "a quantity of 10,000 digits": {"spec": {"containers": [{"resources": {"requests": {"cpu": "9" * 10_000}}}]}},
    "a list for a selector": {"spec": {"nodeSelector": ["a"], "containers": []}},
    "a number for a toleration": {"spec": {"tolerations": [5], "containers": []}},
    "conditions null": {"spec": {"containers": [{"name": "m"}]}, "status": {"conditions": [None]}},
    "Unicode names": {"metadata": {"annotations": {"ключ": "v", PREFIX + "☃": "v"}, "labels": {"📦": "📦"}}},
}
"""What no API server stores today; an aggregated or a future one might."""
RAW_NODES: dict[str, JSON] = {
    "status null": {"status": None},
    "a negative amount": {"status": {"allocatable": {"cpu": "-1", "pods": "110"}}},
    "no amount": {"status": {"allocatable": {"cpu": "☃", "pods": "many"}}},
    "labels null": {"metadata": {"labels": None}, "spec": {"taints": None}},
    "a label that is a number": {"metadata": {"labels": {"a": 5}}},
}


RAW_OTHERS: dict[str, JSON] = {
    "nothing": {},
    "spec null": {"spec": None, "status": None},
    "a number for a spec": {"spec": 5, "status": 5},
    "a list for everything": {"spec": [[]], "status": [], "provisioner": [], "capacity": [], "nodeTopology": []},
    "a number for a selector": {"spec": {"selector": 5, "nodeAffinity": 5, "drivers": 5, "source": 5}},
    "selectors of the wrong shape": {"spec": {"selector": {"matchLabels": [], "matchExpressions": {"a": []}}}},
    "nulls in lists": {
        "spec": {"selector": {"matchExpressions": [None]}, "drivers": [None], "accessModes": [None]},
        "allowedTopologies": [None, {"matchLabelExpressions": [None]}],
    },
    "no quantities": {"spec": {"capacity": {"storage": "☃"}, "resources": {"requests": {"storage": "-1e99"}}}},
    "a number for an owner": {"metadata": {"ownerReferences": [5]}},
}
"""Put for every kind that is followed beside pods and nodes."""


async def test_objects_that_no_api_server_should_store(
    embedded: EmbeddedCluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    store = embedded.server.store
    await embedded.create([make_node("good", cpu="8", carbon_zone="FR")])
    for sentence, tree in RAW_NODES.items():
        name = _slug(sentence)
        metadata = {"name": name, "uid": f"node-{name}", **tree.get("metadata", {})}
        store.put("nodes", ("", name), {"apiVersion": "v1", "kind": "Node", **tree, "metadata": metadata})

    def put_pods(suffix: str) -> None:
        for sentence, tree in RAW_PODS.items():
            name = _slug(sentence) + suffix
            made = make_pod(name)
            metadata = {**made["metadata"], "uid": f"uid-{name}", **tree.get("metadata", {})}
            whole = {**made, "status": {"phase": "Pending"}, **tree, "metadata": metadata}
            if isinstance(whole["spec"], dict):
                whole["spec"]["schedulerName"] = made["spec"]["schedulerName"]
            store.put("pods", ("default", name), whole)

    def put_others(suffix: str) -> None:
        for kind, (sentence, tree) in product(KINDS, RAW_OTHERS.items()):
            *_, group, version, resource = ("", *kind.path.strip("/").split("/"))
            served = BY_PATH["" if group == "api" else group, version, resource]
            name = _slug(sentence) + suffix
            metadata = {"name": name, "uid": f"{kind.name}-{name}", **tree.get("metadata", {})}
            if kind.namespaced:
                metadata["namespace"] = "default"
            whole = {"apiVersion": served.api_version, "kind": kind.name, **tree, "metadata": metadata}
            store.put(served.storage, (metadata.get("namespace", ""), name), whole)

    put_others("")
    put_pods("")
    scheduler = start_scheduler(embedded.plane.kubeconfig)
    await scheduler.ready()
    put_pods("-later")  # the same by watch
    put_others("-later")
    await embedded.create(make_pod(f"usual-{i}", cpu="500m") for i in range(10))
    assert await nodes_of(embedded, *(f"usual-{i}" for i in range(10))) == ["good"] * 10

    async def refused() -> bool:
        unreadable = ("a-negative-quantity", "no-quantity", "a-quantity-of-10-000-digits", "a-list-for-a-selector")
        return all(
            f"Pod default/{name}{suffix} cannot be scheduled: cannot read the pod: " in scheduler.text
            for name in unreadable
            for suffix in ("", "-later")
        )

    await eventually(refused, "what cannot be read is not scheduled, and says why")
    assert "Traceback" not in scheduler.text
    assert (scheduler.running, scheduler.exits) == (True, [])
    await scheduler.ready()
