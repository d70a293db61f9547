"""Pods with claims on the real API server and beside the real PersistentVolume controller: who binds what, and in which order.

A provisioner is played by the test: no CSI driver runs here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from pod_outcomes import an_event, bound, events_of, node_of, nodes_of, pending
from real_cluster import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from carbon_scheduler.sim.control_plane import ControlPlane
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
pytestmark = pytest.mark.control_plane

VOLUMES, CLASSES = "/api/v1/persistentvolumes", "/apis/storage.k8s.io/v1/storageclasses"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
PROVISIONER = "example.com/played-by-the-test"
SELECTED = "volume.kubernetes.io/selected-node"


@pytest.fixture(scope="module")
def plane(module_control_plane: Callable[..., ControlPlane]) -> ControlPlane:
    plane = module_control_plane(controller_manager=True)
    for name, provisioner in (("local", "kubernetes.io/no-provisioner"), ("made", PROVISIONER)):
        body = {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}
        plane.request("POST", CLASSES, body)
    return plane


@pytest.fixture
async def cluster(plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with Cluster(plane) as cluster:
        yield cluster
        await cluster.clear()
        for path in (CLAIMS, VOLUMES):
            await cluster.call("DELETE", path)
            await eventually(lambda path=path: _none_left(cluster, path), f"{path} is empty")


async def _none_left(cluster: Cluster, path: str) -> bool:
    """The controllers let go of what no pod uses any more."""
    return not (await cluster.call("GET", path))["items"]


@pytest.fixture
async def scheduler(
    cluster: Cluster, grid_url: str, start_scheduler: Callable[..., SchedulerProcess]
) -> SchedulerProcess:
    process = start_scheduler(cluster.plane.kubeconfig, grid_url=grid_url)
    await process.ready()
    return process


def claim(name: str, of_class: str, mode: str = "ReadWriteOnce") -> JSON:
    return {
        "metadata": {"name": name},
        "spec": {"storageClassName": of_class, "accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
    }


def volume(name: str, of_class: str, *nodes: str, mode: str = "ReadWriteOnce", **spec: Any) -> JSON:
    on = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}]}]
    return {
        "metadata": {"name": name},
        "spec": {
            "storageClassName": of_class,
            "accessModes": [mode],
            "capacity": {"storage": "1Gi"},
            "local": {"path": f"/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": on}},
            **spec,
        },
    }


def using(name: str, *claims: str) -> JSON:
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    return make_pod(name, volumes=volumes)


async def claim_is_bound_to(cluster: Cluster, name: str) -> str:
    found = await cluster.call("GET", f"{CLAIMS}/{name}")
    return str(found["spec"].get("volumeName", "")) if found["status"]["phase"] == "Bound" else ""


async def test_local_volumes_decide_the_node_and_are_bound_before_the_pod(
    cluster: Cluster, scheduler: SchedulerProcess
) -> None:
    await cluster.create([make_node(name) for name in ("a", "b", "c")])
    await asyncio.gather(
        *(cluster.call("POST", VOLUMES, volume(f"on-{node}", "local", node)) for node in ("a", "b")),
        *(cluster.call("POST", CLAIMS, claim(f"data-{i}", "local")) for i in range(3)),
    )
    await cluster.create([using(f"db-{i}", f"data-{i}") for i in range(2)])
    pods = await bound(cluster, "db-0", "db-1")
    assert sorted(map(node_of, pods)) == ["a", "b"]
    for i, pod in enumerate(pods):
        assert await claim_is_bound_to(cluster, f"data-{i}") == f"on-{node_of(pod)}"
        found = await cluster.call("GET", f"{VOLUMES}/on-{node_of(pod)}")
        stored = await cluster.call("GET", f"{CLAIMS}/data-{i}")
        assert found["spec"]["claimRef"]["uid"] == stored["metadata"]["uid"]
        assert found["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"] == "yes"
    await cluster.create([using("db-2", "data-2")])
    await pending(cluster, "db-2", "3 node(s) didn't find available persistent volumes to bind")
    await cluster.call("POST", VOLUMES, volume("on-c", "local", "c"))
    assert await nodes_of(cluster, "db-2") == ["c"]


async def test_a_volume_is_made_for_the_node_that_was_chosen_and_another_try_follows_a_failure(
    cluster: Cluster, scheduler: SchedulerProcess
) -> None:
    await cluster.create([make_node("a")])
    await cluster.call("POST", CLAIMS, claim("data", "made"))
    await cluster.create([using("db", "data")])

    async def selected() -> str:
        found = await cluster.call("GET", f"{CLAIMS}/data")
        return str(found["metadata"].get("annotations", {}).get(SELECTED, ""))

    await eventually(selected, "a node is selected for the claim")
    await asyncio.sleep(0.5)
    assert node_of(await cluster.get("Pod", "db")) == ""  # nothing is bound before its volume is
    await cluster.call("PATCH", f"{CLAIMS}/data", {"metadata": {"annotations": {SELECTED: None}}})
    condition = await pending(cluster, "db", "provisioning failed")
    assert (condition["reason"], condition["message"]) == (
        "SchedulerError",
        'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "data"',
    )
    await eventually(selected, "a node is selected for the claim once more")
    stored = await cluster.call("GET", f"{CLAIMS}/data")
    reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "default", "name": "data"}
    ref = {"claimRef": {**reference, "uid": stored["metadata"]["uid"]}}
    await cluster.call("POST", VOLUMES, volume("fresh", "made", await selected(), **ref))
    assert await nodes_of(cluster, "db") == ["a"]
    assert await claim_is_bound_to(cluster, "data") == "fresh"
    await an_event(cluster, "db", "Scheduled")
    assert len(await events_of(cluster, "db", "Scheduled")) == 1


async def test_a_claim_that_one_pod_may_use_at_a_time(cluster: Cluster, scheduler: SchedulerProcess) -> None:
    mode = "ReadWriteOncePod"
    await cluster.create([make_node("a"), make_node("b")])
    await cluster.call("POST", CLAIMS, claim("alone", "local", mode))
    await cluster.call("POST", VOLUMES, volume("both", "local", "a", "b", mode=mode))
    await cluster.create([using("first", "alone")])
    await bound(cluster, "first")
    await cluster.create([using("second", "alone")])
    await pending(
        cluster,
        "second",
        "2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
    )
    await cluster.delete("Pod", "first")
    await bound(cluster, "second")


async def test_an_immediate_claim_is_left_to_the_controller(cluster: Cluster, scheduler: SchedulerProcess) -> None:
    await cluster.create([make_node("a"), make_node("b")])
    await cluster.call("POST", CLAIMS, claim("now", ""))
    await cluster.create([using("db", "now")])
    await pending(cluster, "db", "pod has unbound immediate PersistentVolumeClaims")
    await cluster.call("POST", VOLUMES, volume("here", "", "b"))
    assert await nodes_of(cluster, "db") == ["b"]
