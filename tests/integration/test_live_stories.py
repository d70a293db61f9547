"""What happens to a pod over time, on one real API server: the same story with kube-scheduler and with ours, told alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from api_objects import make_node, make_pod
from pod_outcomes import bound
from real_cluster import Cluster, eventually
from scheduler_process import SchedulerProcess
from twins import SCHEDULERS, SETTLE_S, Twins, World, plain, scheduled_condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from carbon_scheduler.sim.control_plane import ControlPlane

JSON = dict[str, Any]
pytestmark = pytest.mark.control_plane

FLAGS: Final = {
    "kube-scheduler": ["--kube-api-qps=5000", "--kube-api-burst=5000"],
    "kube-apiserver": ["--disable-admission-plugins=Priority,StorageObjectInUseProtection,DefaultStorageClass"],
}
BINDINGS: Final = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
POLICIES: Final = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
CLAIMS: Final = "/api/v1/namespaces/default/persistentvolumeclaims"
DENIES: Final = {
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "no-bindings"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/binding"]}
            ]
        },
        "validations": [{"expression": "false", "message": "bindings are closed today"}],
    },
}
BINDS_IT: Final = {
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "no-bindings"},
    "spec": {"policyName": "no-bindings", "validationActions": ["Deny"]},
}


@pytest.fixture(scope="module")
def plane(module_control_plane: Callable[..., ControlPlane]) -> ControlPlane:
    return module_control_plane(scheduler=True, extra_args=FLAGS)


@pytest.fixture(scope="module")
def ours(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchedulerProcess]:
    process = SchedulerProcess(plane.kubeconfig, folder=tmp_path_factory.mktemp("ours"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def stage(plane: ControlPlane, ours: SchedulerProcess) -> AsyncIterator[Stage]:
    await ours.ready()
    async with Cluster(plane) as cluster:
        yield Stage(cluster)


class Stage:
    """Tells a story to either scheduler, each time from an empty cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.twins = Twins(cluster, World(cluster))
        self._world = World(cluster)

    async def alike(self, story: Callable[[Stage, str, str], Awaitable[list[JSON]]]) -> list[JSON]:
        """What there is to tell, which must be the same of both. A story gets the pod's name and its scheduler's."""
        told = []
        for whose, scheduler in SCHEDULERS.items():
            await self._world.clear()
            told.append([plain(one) for one in await story(self, f"pod-{whose}", scheduler)])
        await self._world.clear()
        theirs, mine = told
        assert mine == theirs, f"ours {mine}, theirs {theirs}"
        return mine

    async def create(self, *objects: JSON) -> None:
        """Nodes and pods, and time for both to hear of them."""
        await self.cluster.create(objects)
        await asyncio.sleep(SETTLE_S)

    async def waits_for_its_volume(self, name: str, scheduler: str, annotations: JSON, **more: Any) -> JSON:
        """A node, and a pod on its way there whose claim nobody provisions."""
        slow = {"kind": "StorageClass", "metadata": {"name": "slow"}, "provisioner": "example.com/slow"}
        await self.cluster.call("POST", CLASSES, slow | {"volumeBindingMode": "WaitForFirstConsumer"})
        claim = {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "annotations": annotations},
            "spec": {
                "storageClassName": "slow",
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        await self.cluster.call("POST", CLAIMS, claim)
        await self.create(make_node("only", cpu="4"))
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        await self.cluster.create([make_pod(name, scheduler=scheduler, volumes=[volume], **more)])
        return await self.seen(name, _nominated, "it says where it will be")

    async def seen(self, name: str, ready: Callable[[JSON], object], what: str) -> JSON:
        """The pod's status once it is so."""
        found: JSON = {}

        async def there() -> bool:
            nonlocal found
            found = await self.cluster.get("Pod", name)
            return bool(ready(found))

        await eventually(there, what, every_s=0.02)
        return {"nominated": found["status"].get("nominatedNodeName"), "conditions": found["status"].get("conditions")}


def _nominated(pod: JSON) -> object:
    return pod["status"].get("nominatedNodeName")


def _message(words: str) -> Callable[[JSON], bool]:
    return lambda pod: words in scheduled_condition(pod).get("message", "")


async def test_a_binding_that_is_denied(stage: Stage) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        call = stage.cluster.call
        await stage.create(make_node("only"))
        await call("POST", POLICIES, DENIES)
        await call("POST", BINDINGS, BINDS_IT)
        try:
            await asyncio.sleep(1.5)  # the API server takes in policies once a second
            await stage.cluster.create([make_pod(name, scheduler=scheduler)])
            refused = await stage.seen(name, _message("closed today"), "the pod is told")
            unschedulable = await stage.twins.tell_unschedulable(name)
        finally:
            await call("DELETE", f"{BINDINGS}/no-bindings")
            await call("DELETE", f"{POLICIES}/no-bindings")
        await bound(stage.cluster, name)
        return [refused, unschedulable]

    refused, _ = await stage.alike(story)
    (condition,) = refused["conditions"]
    assert condition["reason"] == "SchedulerError"
    assert condition["message"].startswith('running Bind plugin "DefaultBinder": pods "pod-twin" is forbidden: ')


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"example.com/a": "b"}, 'provisioning failed for PVC "data"'),
        ({}, 'selectedNode annotation reset for PVC "data"'),
    ],
    ids=["the claim has other annotations", "it has none"],
)
async def test_a_pod_that_waits_for_its_volume_and_does_not_get_it(
    stage: Stage, others: dict[str, str], why: str
) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        call = stage.cluster.call
        waits = await stage.waits_for_its_volume(name, scheduler, others)

        async def asked() -> bool:
            found = (await call("GET", f"{CLAIMS}/data"))["metadata"].get("annotations", {})
            return bool(found.get("volume.kubernetes.io/selected-node") == "only")

        await eventually(asked, "the provisioner is told the node")
        await stage.cluster.patch("Node", "only", {"spec": {"unschedulable": True}})  # so that it is not tried again
        await asyncio.sleep(SETTLE_S)
        none = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": None}}}
        await call("PATCH", f"{CLAIMS}/data", none)
        failed = await stage.seen(name, _message('PVC "data"'), "the pod is told")
        later = await stage.seen(name, _message("unschedulable"), "it is tried again")
        return [waits, failed, later]

    waits, failed, _ = await stage.alike(story)
    assert (waits["nominated"], failed["nominated"]) == ("only", None)
    assert failed["conditions"][0]["message"] == (f'running PreBind plugin "VolumeBinding": binding volumes: {why}')


async def test_room_that_was_made_is_of_no_use_any_more(stage: Stage) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        await stage.create(
            make_node("only", cpu="4"), make_pod("low", scheduler=None, cpu="3", node="only", priority=0)
        )
        await stage.cluster.create([make_pod(name, scheduler=scheduler, cpu="3", priority=10)])
        made = await stage.seen(name, _nominated, "room is made")
        await asyncio.sleep(SETTLE_S)
        await stage.cluster.patch("Node", "only", {"spec": {"unschedulable": True}})
        await stage.cluster.delete("Pod", "low")
        lost = await stage.seen(name, _message("unschedulable"), "it was in vain")
        return [made, lost]

    made, lost = await stage.alike(story)
    assert (made["nominated"], lost["nominated"]) == ("only", None)


async def test_who_waits_for_room_that_a_more_important_pod_needs_looks_elsewhere(stage: Stage) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        low = make_pod("low", scheduler=None, cpu="3", node="only", priority=0)
        other = make_pod("other", scheduler=None, cpu="1", node="only", priority=0)
        await stage.create(make_node("only", cpu="4"), low, other)
        await stage.cluster.create([make_pod(f"{name}-middle", scheduler=scheduler, cpu="3", priority=10)])
        first = await stage.seen(f"{name}-middle", _nominated, "room is made")
        await asyncio.sleep(SETTLE_S)
        await stage.cluster.create([make_pod(f"{name}-high", scheduler=scheduler, cpu="4", priority=20)])
        high = await stage.seen(f"{name}-high", _nominated, "more room is made")
        cleared = await stage.seen(
            f"{name}-middle",
            lambda pod: not _nominated(pod) and "preemption: " in scheduled_condition(pod)["message"],
            "its nomination is taken away, and there is no other place",
        )
        return [first, high, cleared]

    first, high, cleared = await stage.alike(story)
    assert (first["nominated"], high["nominated"], cleared["nominated"]) == ("only", "only", None)


async def test_without_nodes_then_with_one_that_is_full_then_with_room(stage: Stage) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        await stage.create(make_pod(name, scheduler=scheduler, cpu="3"))
        none = await stage.seen(name, scheduled_condition, "there is no node")
        at_first = (await stage.cluster.get("Pod", name))["status"]["conditions"][0]["lastTransitionTime"]
        await asyncio.sleep(1.1)
        await stage.create(make_node("small", cpu="1"))
        full = await stage.seen(name, _message("Insufficient"), "it does not fit")
        then = (await stage.cluster.get("Pod", name))["status"]["conditions"][0]["lastTransitionTime"]
        await stage.create(make_node("large", cpu="8"))
        await bound(stage.cluster, name)
        _, done = await stage.twins.tell_scheduled(name)
        return [none, full, done, {"transition": at_first == then}]

    none, _, _, transition = await stage.alike(story)
    assert none["conditions"][0]["message"] == "no nodes available to schedule pods"
    assert transition == {"transition": True}, "the time of the transition, not of the message"


async def test_a_pod_that_waits_for_its_volume_gives_way(stage: Stage) -> None:
    """It is not deleted: it only has to look for another node."""

    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        await stage.waits_for_its_volume(name, scheduler, {}, cpu="3", priority=0)
        await asyncio.sleep(SETTLE_S)
        await stage.cluster.create([make_pod(f"{name}-high", scheduler=scheduler, cpu="3", priority=10)])
        await bound(stage.cluster, f"{name}-high")
        pod, events = await stage.twins.when(name, lambda _, events: any(e["reason"] == "Preempted" for e in events))
        assert "deletionTimestamp" not in pod["metadata"]
        told = [one for one in events if one["reason"] == "Preempted"]
        first = [one for one in events if "VolumeBinding" in one["note"]]
        later = await stage.seen(name, _message("Insufficient cpu"), "it waits for room")
        return [{"preempted": told}, {"event": first[0] if first else None}, later]

    told, first, _ = await stage.alike(story)
    assert [event["note"] for event in told["preempted"]] == [
        "Preempted by pod UID on node only (in kube-scheduler memory)."
    ]
    assert first["event"]["reason"] == "FailedScheduling"


async def test_a_pod_that_is_deleted_while_it_waits_for_its_volume_frees_its_room(stage: Stage) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        kept = {"finalizers": ["example.com/kept"]}
        await stage.waits_for_its_volume(name, scheduler, {}, cpu="3", meta=kept)
        await stage.create(make_pod(f"{name}-next", scheduler=scheduler, cpu="3"))
        full = await stage.seen(f"{name}-next", scheduled_condition, "there is no room")
        await stage.cluster.delete("Pod", name)
        try:
            await bound(stage.cluster, f"{name}-next")
        finally:
            await stage.cluster.patch("Pod", name, {"metadata": {"finalizers": None}})
        return [full]

    await stage.alike(story)


async def test_a_condition_says_which_generation_of_the_pod_it_is_about(stage: Stage) -> None:
    async def story(stage: Stage, name: str, scheduler: str) -> list[JSON]:
        await stage.create(make_node("only", cpu="1", taints=[{"key": "a", "effect": "NoSchedule"}]))
        await stage.cluster.create([make_pod(name, scheduler=scheduler, cpu="3")])
        first = await stage.seen(name, _message("taint"), "there is a taint")
        tolerations = (await stage.cluster.get("Pod", name))["spec"]["tolerations"]
        more = {"spec": {"tolerations": [*tolerations, {"key": "a", "operator": "Exists"}]}}
        await stage.cluster.patch("Pod", name, more)
        then = await stage.seen(name, _message("Insufficient cpu"), "there is no room")
        return [first, then]

    first, then = await stage.alike(story)
    assert [one["conditions"][0]["observedGeneration"] for one in (first, then)] == [1, 2]
