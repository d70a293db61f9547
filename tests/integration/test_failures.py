"""What breaks in a cluster breaks here, in the middle of many pods on a real API server: in the end each pod is bound once.

The pods fill their nodes to the last millicore, so that room lost by the scheduler leaves a pod unbound, and room counted
twice over-allocates a node. Who bound what is taken from the API server's audit log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from api_objects import make_node, make_pod
from audit_log import AuditLog
from carbon_scheduler.kube.kinds import KINDS
from cluster_checks import PodWatch, decision, over_allocated
from real_cluster import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from carbon_scheduler.sim.control_plane import ControlPlane
    from scheduler_process import SchedulerProcess

pytestmark = pytest.mark.control_plane

ZONES: Final = ("FR", "DE", "PL", "SE", "US-NY-NYIS")
PODS_A_NODE: Final = 20
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
LEASE: Final = "carbon-aware-scheduler"
LEASE_S: Final = 15
FENCED: Final = 14
BINDINGS_AT_ONCE: Final = 48
ACCOUNT: Final = "system:serviceaccount:kube-system:carbon-aware-scheduler"
MANIFEST: Final = Path(__file__).parents[2] / "deploy/k8s.yaml"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    return AuditLog(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def plane(module_control_plane: Callable[..., ControlPlane], audit: AuditLog) -> ControlPlane:
    """Shared by this file; its users `first` and `second` may do everything, and the audit log tells them apart."""
    users = dict.fromkeys(("first", "second"), ("system:masters",))
    return module_control_plane(users=users, extra_args=audit.arguments)


@pytest.fixture
async def cluster(plane: ControlPlane, audit: AuditLog) -> AsyncIterator[Cluster]:
    """Without pods, nodes and lease. The audit log of the test begins here."""
    async with Cluster(plane) as cluster:
        await cluster.clear()
        leases = (await cluster.call("GET", LEASES))["items"]
        for lease in (lease["metadata"]["name"] for lease in leases):
            await cluster.call("DELETE", f"{LEASES}/{lease}")
        audit.forget()
        yield cluster
        await cluster.clear()


def full_nodes(pods: int, pool: str = "all") -> list[dict[str, Any]]:
    """Nodes in five grid zones with room for exactly so many pods of `pods_of`."""
    return [
        make_node(f"{pool}-{i}", cpu="4", carbon_zone=ZONES[i % len(ZONES)], labels={"pool": pool})
        for i in range(pods // PODS_A_NODE)
    ]


def pods_of(count: int, pool: str = "all", **options: Any) -> list[dict[str, Any]]:
    return [make_pod(f"{pool}-{i}", cpu="200m", nodeSelector={"pool": pool}, **options) for i in range(count)]


async def check_all_bound_once(
    cluster: Cluster, watch: PodWatch, audit: AuditLog, count: int, *, unrecorded: int = 0
) -> None:
    """`unrecorded`: how many Bindings may have been carried out without a record of their success: an API server that is
    killed writes none, and one whose client is killed writes that the client was gone. The watch saw them all.
    """
    pods = await cluster.list("Pod")
    assert len(pods) == count
    assert [pod["metadata"]["name"] for pod in pods if not pod["spec"].get("nodeName")] == []
    assert watch.changed == {}
    bindings = audit.bindings()
    assert [name for name, times in Counter(one.name for one in bindings).items() if times > 1] == []
    assert count - unrecorded <= len(bindings) <= count
    pod_of = {pod["metadata"]["name"]: pod for pod in pods}
    for one in bindings:
        pod = pod_of[one.name]
        assert one.body["metadata"].get("uid") == pod["metadata"]["uid"]
        assert one.body["target"]["name"] == pod["spec"]["nodeName"]
    for pod in pods:
        assert decision(pod)["node"] == pod["spec"]["nodeName"]
    assert over_allocated(await cluster.list("Node"), pods) == {}


async def scheduled_events(cluster: Cluster, watch: PodWatch) -> Counter[str]:
    """Uid of a pod of this test -> Scheduled events."""
    listed = await cluster.call("GET", "/apis/events.k8s.io/v1/events?fieldSelector=reason=Scheduled")
    uids = (event["regarding"]["uid"] for event in listed["items"])
    return Counter(uid for uid in uids if uid in watch.of)


@pytest.mark.slow
async def test_killed_in_the_middle_of_2000_pods_it_binds_the_rest_after_its_restart(
    cluster: Cluster, audit: AuditLog, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    await cluster.create(full_nodes(2000))
    async with PodWatch(cluster) as watch:
        process = start_scheduler(cluster.plane.kubeconfig, supervise=True)
        await process.ready()
        filling = asyncio.create_task(cluster.create(pods_of(2000)))
        await watch.until(600, within_s=60)
        process.kill()
        await filling
        await watch.until(2000, within_s=60)
        await process.ready()
        assert process.exits == [-9]
        await check_all_bound_once(cluster, watch, audit, 2000, unrecorded=BINDINGS_AT_ONCE)
        assert watch.gaps == 0
        # The new one has bound a good part: it was killed in the middle. What it finds bound it leaves alone.
        metrics = await process.metrics()
        bound = metrics['carbon_scheduler_binds_total{result="bound"}']
        assert 100 < bound <= 1400
        assert metrics.get('carbon_scheduler_binds_total{result="refused"}', 0) == 0
        assert await process.terminate() == 0
    # Events are best effort: those that waited when it was killed are lost, none is written twice.
    events = await scheduled_events(cluster, watch)
    assert set(events.values()) == {1}
    assert len(events) >= bound


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_api_server_that_is_down_for_20_s_delays_pods_and_loses_none(
    cluster: Cluster, audit: AuditLog, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    """One scheduler without election and one with, each with pods and nodes of its own."""
    each = 800
    for pool in ("steady", "elected"):
        await cluster.create(full_nodes(each, pool))
        await cluster.create(pods_of(each, pool, scheduler=pool))
    async with PodWatch(cluster) as watch:
        kubeconfig = cluster.plane.kubeconfig
        steady, elected = (
            start_scheduler(
                kubeconfig, *args, name=pool, supervise=True, settings={"CARBON_SCHEDULER_SCHEDULER_NAME": pool}
            )
            for pool, args in {"steady": (), "elected": ("--leader-elect",)}.items()
        )
        await watch.until(400, within_s=60)
        cluster.plane.stop_api_server(kill=True)
        spent_s = steady.cpu_s
        await asyncio.sleep(20)
        bound = watch.bound
        assert steady.cpu_s - spent_s < 3, "it is busy while there is nobody to talk to"
        cluster.plane.start_api_server()  # not in a thread: it would end with it
        await watch.until(2 * each, within_s=60)
        assert 400 <= bound < 2 * each  # it was in the middle
        assert steady.exits == []
        assert len(elected.exits) >= 1
        assert set(elected.exits) <= {3, FENCED}
        assert "lease" in elected.text
        for process in (steady, elected):
            await process.ready()
        # Both go on afterwards: the watches live.
        more = {pool: f"late-{pool}" for pool in ("steady", "elected")}
        for pool, name in more.items():
            await cluster.create([make_node(name, carbon_zone="FR", labels={"pool": name})])
            await cluster.create([make_pod(name, scheduler=pool, nodeSelector={"pool": name})])
        await watch.until(2 * each + 2, within_s=10)
        assert steady.exits == []
        await check_all_bound_once(cluster, watch, audit, 2 * each + 2, unrecorded=2 * BINDINGS_AT_ONCE)
        for process in (steady, elected):
            assert await process.terminate() == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_leader_that_was_stopped_for_30_s_writes_nothing_more_and_exits(
    cluster: Cluster, audit: AuditLog, plane: ControlPlane, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    await cluster.create(full_nodes(1000))
    async with PodWatch(cluster) as watch:
        first = start_scheduler(plane.kubeconfig_for(plane.tokens["first"]), "--leader-elect", name="first")
        await eventually(lambda: _held_by_another(cluster, ""), "the first leads")
        second = start_scheduler(plane.kubeconfig_for(plane.tokens["second"]), "--leader-elect", name="second")
        await second.ready()
        filling = asyncio.create_task(cluster.create(pods_of(1000)))
        await watch.until(300, within_s=60)
        first.freeze()
        frozen = datetime.now().astimezone()
        await filling
        await asyncio.sleep(30 - (datetime.now().astimezone() - frozen).total_seconds())
        thawed = datetime.now().astimezone()
        first.thaw()
        assert await first.ended() == FENCED, first.last_words
        await watch.until(1000, within_s=60)
        await check_all_bound_once(cluster, watch, audit, 1000)
        assert await second.terminate() == 0

    # The first one's lease ended for everybody 15 s after its last renewal had arrived.
    renewals = [one for one in audit.requests("first") if one.resource == "leases" and one.code in (200, 201)]
    expired = [one.received for one in renewals if one.writes][-1] + timedelta(seconds=LEASE_S)
    assert frozen < expired < thawed
    assert [one for one in audit.requests("first") if one.writes and one.received > expired] == []
    writes = [one for one in audit.requests("second") if one.writes and one.code in (200, 201)]
    assert (writes[0].verb, writes[0].resource) == ("update", "leases")
    assert writes[0].received >= expired
    bound_by = {user: {one.name for one in audit.bindings(user)} for user in ("first", "second")}
    assert 300 <= len(bound_by["first"]) < 1000
    assert len(bound_by["first"]) + len(bound_by["second"]) == 1000
    # What the pods say agrees: all decisions of the second are later than those of the first, by time and by number.
    made = {pod["metadata"]["name"]: decision(pod) for pod in await cluster.list("Pod")}
    for key in ("at", "seq"):
        assert max(made[name][key] for name in bound_by["first"]) < min(made[name][key] for name in bound_by["second"])
    assert max(datetime.fromisoformat(made[name]["at"]) for name in bound_by["first"]) < expired


@pytest.mark.slow
async def test_told_to_stop_in_the_middle_it_ends_what_it_began_and_the_next_one_leads_at_once(
    cluster: Cluster, audit: AuditLog, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    await cluster.create(full_nodes(1000))
    async with PodWatch(cluster) as watch:
        first = start_scheduler(cluster.plane.kubeconfig, "--leader-elect", name="first")
        await eventually(lambda: _held_by_another(cluster, ""), "the first leads")
        second = start_scheduler(cluster.plane.kubeconfig, "--leader-elect", name="second")
        await second.ready()
        await second.said("Waiting for the lease")
        holder = (await _lease(cluster))["holderIdentity"]
        filling = asyncio.create_task(cluster.create(pods_of(1000)))
        await watch.until(300, within_s=60)
        assert await first.terminate() == 0, first.last_words
        # Not after the 15 s of the lease: the retry period, with its jitter, is at most 4.4 s.
        await eventually(lambda: _held_by_another(cluster, holder), "the second leads", within_s=10)
        await filling
        await watch.until(1000, within_s=60)
        await check_all_bound_once(cluster, watch, audit, 1000)
        await eventually(lambda: _says_it_leads(second), "its metric says that it leads", within_s=5)
        assert (await second.metrics())['carbon_scheduler_binds_total{result="bound"}'] > 100  # it was in the middle
        assert await second.terminate() == 0
    assert not (await _lease(cluster))["holderIdentity"]
    # Told to stop, each has written the events of all that it bound.
    assert await scheduled_events(cluster, watch) == Counter(dict.fromkeys(watch.of, 1))


async def test_the_rights_of_the_manifest_are_enough(
    cluster: Cluster, audit: AuditLog, plane: ControlPlane, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    """Bound, unschedulable, evicted, events and their repetition, lease, restart: no call is forbidden, none needs more."""
    objects = [one for one in yaml.safe_load_all(MANIFEST.read_text()) if one]
    for one in objects:
        if one["kind"] not in ("Deployment", "Secret"):
            plane.request("POST", _collection(one), one)
    await cluster.create([*full_nodes(PODS_A_NODE), make_node("none", cpu="0", unschedulable=True)])
    async with PodWatch(cluster) as watch:
        kubeconfig = plane.service_account_kubeconfig("kube-system", LEASE)
        process = start_scheduler(kubeconfig, "--leader-elect")
        await cluster.create(
            [*pods_of(10), make_pod("huge", cpu="64", annotations={"carbon-scheduler.io/placement": "?"})]
        )
        await watch.until(10, within_s=30)
        await eventually(lambda: _condition(cluster, "huge"), "the huge pod is marked", within_s=10)
        # A node that changes makes it look again, and count up its event.
        await cluster.patch("Node", "all-0", {"status": {"allocatable": {"cpu": "5"}}})
        await cluster.patch("Node", "all-0", {"metadata": {"labels": {"disk": "ssd"}}})
        await cluster.delete("Pod", "all-3")
        await eventually(lambda: _wrote(audit, "patch", "events"), "the event is counted up", within_s=20)
        await cluster.create([make_pod("urgent", cpu="3500m", priorityClassName="system-cluster-critical")])
        await eventually(lambda: _wrote(audit, "delete", "pods"), "a pod has to make room", within_s=20)
        assert await process.terminate() == 0
    process.start()
    await process.ready()
    assert await process.terminate() == 0
    requests = audit.requests(ACCOUNT)
    assert [one for one in requests if one.code in (401, 403)] == []
    assert "answered 403" not in process.text
    done = {(one.verb, one.resource) for one in requests if one.code in (200, 201)}
    assert done >= {
        *((verb, resource) for verb in ("list", "watch") for resource in ("pods", "nodes", "namespaces")),
        *((verb, kind.path.rpartition("/")[2]) for verb in ("list", "watch") for kind in KINDS),
        ("create", "pods/binding"),
        ("patch", "pods/status"),
        ("delete", "pods"),
        ("create", "events"),
        ("patch", "events"),
        ("create", "leases"),
        ("get", "leases"),
        ("update", "leases"),
    }
    reasons = {event["reason"] for event in (await cluster.call("GET", "/apis/events.k8s.io/v1/events"))["items"]}
    assert {"Scheduled", "FailedScheduling", "InvalidAnnotation", "Preempted"} <= reasons


async def test_the_rights_of_preemption_can_be_taken_out_with_it(
    cluster: Cluster,
    audit: AuditLog,
    plane: ControlPlane,
    start_scheduler: Callable[..., SchedulerProcess],
    tmp_path: Path,
) -> None:
    """The last two rules of the ClusterRole, as the manifest says. What is not followed is not asked for."""
    (role,) = [one for one in yaml.safe_load_all(MANIFEST.read_text()) if one and one["kind"] == "ClusterRole"]
    assert [rule["resources"] for rule in role["rules"][-2:]] == [["poddisruptionbudgets"], ["pods"]]
    role["metadata"]["name"] = account = "without-preemption"
    del role["rules"][-2:]
    plane.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    plane.request(
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}],
        },
    )
    plane.request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": account}})
    await cluster.create(full_nodes(PODS_A_NODE))
    async with PodWatch(cluster) as watch:
        kubeconfig = plane.service_account_kubeconfig("default", account)
        process = start_scheduler(kubeconfig, settings={"CARBON_SCHEDULER_PREEMPTION": "false"})
        await cluster.create([*pods_of(5), make_pod("huge", cpu="64", priority=None)])
        await watch.until(5, within_s=30)
        await eventually(lambda: _condition(cluster, "huge"), "the huge pod is marked", within_s=10)
        assert await process.terminate() == 0
    requests = audit.requests(f"system:serviceaccount:default:{account}")
    assert [one for one in requests if one.code in (401, 403)] == []
    assert ("list", "poddisruptionbudgets") not in {(one.verb, one.resource) for one in requests}
    assert ("list", "csinodes") in {(one.verb, one.resource) for one in requests}


async def _lease(cluster: Cluster) -> dict[str, Any]:
    spec: dict[str, Any] = (await cluster.call("GET", f"{LEASES}/{LEASE}"))["spec"]
    return spec


async def _held_by_another(cluster: Cluster, holder: str) -> bool:
    leases = (await cluster.call("GET", LEASES))["items"]
    return any((lease["spec"].get("holderIdentity") or holder) != holder for lease in leases)


async def _says_it_leads(process: SchedulerProcess) -> bool:
    return (await process.metrics())["carbon_scheduler_leader"] == 1


async def _condition(cluster: Cluster, pod: str) -> dict[str, Any] | None:
    conditions = (await cluster.get("Pod", pod))["status"].get("conditions") or []
    return next((one for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"), None)


async def _wrote(audit: AuditLog, verb: str, resource: str) -> bool:
    return any((one.verb, one.resource) == (verb, resource) for one in audit.requests(ACCOUNT))


def _collection(one: dict[str, Any]) -> str:
    version, plural = one["apiVersion"], f"{one['kind'].lower()}s"
    prefix = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    namespace = one["metadata"].get("namespace")
    return f"{prefix}/namespaces/{namespace}/{plural}" if namespace else f"{prefix}/{plural}"
