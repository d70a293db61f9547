"""Rules that the contract suite does not reach: repeatability, the clock, namespaces' end, capacity of the log."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from carbon_scheduler.sim.apiserver import EmbeddedApiServer
from carbon_scheduler.sim.apiserver.documents import encode
from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.kinds import PODS, core
from carbon_scheduler.sim.apiserver.registry import DeleteOptions, Registry
from carbon_scheduler.sim.apiserver.store import KEPT_CHANGES, Store

NOON = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
POD = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}


def _registry(seed: int = 0) -> Registry:
    return Registry(Store(), lambda: NOON, seed)


def test_equal_seeds_give_equal_objects() -> None:
    first, second, other = (_registry(seed).create(PODS, "default", POD).document for seed in (1, 1, 2))
    assert first == second
    assert first["metadata"]["uid"] != other["metadata"]["uid"]
    assert first["metadata"]["creationTimestamp"] == "2026-11-25T12:00:00Z"


def test_what_is_sent_in_is_not_shared_with_what_is_stored() -> None:
    registry = _registry()
    body = {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    stored = registry.create(PODS, "default", body)
    assert body["spec"] == {"containers": [{"name": "c", "image": "x"}]}
    body["metadata"]["labels"]["a"] = "changed"  # type: ignore[index]
    assert stored.document["metadata"]["labels"] == {"a": "b"}


def test_nulls_are_as_good_as_absent() -> None:
    container = {"name": "c", "image": "x", "resources": None, "ports": None, "env": None, "imagePullPolicy": None}
    body = {
        "metadata": {"name": "p", "labels": None, "annotations": None, "finalizers": None, "ownerReferences": None},
        "spec": {
            "containers": [container],
            "tolerations": None,
            "nodeSelector": None,
            "affinity": None,
            "priority": None,
        },
        "status": None,
    }
    plain = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    assert _registry().create(PODS, "default", body).document == _registry().create(PODS, "default", plain).document


def test_the_end_of_a_namespace_takes_everything_in_it() -> None:
    registry = _registry()
    registry.create(core("namespaces"), "", {"metadata": {"name": "n"}})
    registry.create(PODS, "n", POD)
    registry.create(core("configmaps"), "n", {"metadata": {"name": "c"}})
    registry.create(core("configmaps"), "default", {"metadata": {"name": "c"}})
    registry.finish_namespace("n")
    assert [key for collection in registry.store.collections() for key in collection.objects if key[0] == "n"] == []
    assert ("default", "c") in registry.store.collection("configmaps").objects
    with pytest.raises(Failure, match='namespaces "n" not found'):
        registry.create(PODS, "n", POD)


def test_the_log_is_bounded() -> None:
    store = Store()
    for _ in range(KEPT_CHANGES + 1):
        store.put("configmaps", ("ns", "a"), {"metadata": {"name": "a"}})
    collection = store.collection("configmaps")
    assert collection.changes(0, 1) is None
    kept = collection.changes(collection.position(collection.compacted - 1), KEPT_CHANGES)
    assert kept is not None
    assert KEPT_CHANGES // 2 <= len(kept) <= KEPT_CHANGES
    assert collection.at(collection.compacted - 1) is None


def test_manifests_are_loaded_with_their_status_and_namespaces() -> None:
    server = EmbeddedApiServer()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        **POD,
        "metadata": {"name": "p", "namespace": "new", "resourceVersion": "7"},
    }
    running = {**pod, "status": {"phase": "Running"}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    assert server.load([{"apiVersion": "v1", "kind": "List", "items": [node, running]}]) == 2
    assert server.registry.get(PODS, "new", "p").document["status"]["phase"] == "Running"
    with pytest.raises(Failure, match="load: got apiVersion 'v9', kind 'Pod'; expected one of"):
        server.load([{**pod, "apiVersion": "v9"}])


def test_stored_versions_stay_as_they_were_whatever_follows() -> None:
    registry = _registry()
    created = registry.create(
        PODS,
        "default",
        {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    )
    strategic, merge = "application/strategic-merge-patch+json", "application/merge-patch+json"
    versions = [created]
    frozen = [encode(created.document)]
    conditions = {"conditions": [{"type": "A", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00.5Z"}]}
    for content_type, patch, subresource in (
        (merge, {"metadata": {"labels": {"c": "d"}}}, ""),
        (strategic, {"spec": {"containers": [{"name": "c", "image": "y"}]}}, ""),
        (strategic, {"status": conditions}, "status"),
        (merge, {"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}}, ""),
        (strategic, {"metadata": {"annotations": {"x": "y"}}, "status": {"phase": "Running"}}, "status"),
    ):
        versions.append(
            registry.patch(PODS, "default", "p", content_type, patch, subresource=subresource)  # type: ignore[arg-type]
        )
        frozen.append(encode(versions[-1].document))
    registry.bind("default", "p", {"metadata": {"name": "p", "annotations": {"z": "1"}}, "target": {"name": "n"}})
    registry.delete(PODS, "default", "p", DeleteOptions())
    registry.delete(PODS, "default", "p", DeleteOptions(grace_period_s=0))
    assert [encode(version.document) for version in versions] == frozen
    assert len({version.resource_version for version in versions}) == len(versions)
