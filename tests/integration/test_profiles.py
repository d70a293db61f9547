"""Several scheduler names in one process, by kube-scheduler's own file; and pods that no profile can serve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from api_objects import make_node, make_pod
from carbon_scheduler.kubescheduler import API_VERSION, KIND
from pod_outcomes import nodes_of, pending
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from real_cluster import Cluster
    from scheduler_process import SchedulerProcess

PACKING = {
    "name": "NodeResourcesFit",
    "args": {"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}]}},
}
GREEN = {
    "name": "NodeAffinity",
    "args": {
        "addedAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "green", "operator": "Exists"}]}]
            }
        }
    },
}


def _written(folder: Path, *profiles: dict[str, Any]) -> Path:
    """The file; JSON is YAML."""
    file = folder / "kube-scheduler.yaml"
    file.write_text(json.dumps({"apiVersion": API_VERSION, "kind": KIND, "profiles": list(profiles)}))
    return file


async def test_each_scheduler_name_has_its_profile(
    either_cluster: Cluster, start_scheduler: Callable[..., SchedulerProcess], tmp_path: Path
) -> None:
    """By default the emptier node wins, by the packing profile the fuller one; the third has no node; others' pods stay."""
    cluster = either_cluster
    file = _written(
        tmp_path,
        {"schedulerName": "default-scheduler"},
        {"schedulerName": "packing", "pluginConfig": [PACKING]},
        {"schedulerName": "green", "pluginConfig": [GREEN]},
    )
    await cluster.create([make_node("empty"), make_node("half-full")])
    await cluster.create([make_pod("occupant", scheduler=None, cpu="2", node="half-full")])
    scheduler = start_scheduler(cluster.plane.kubeconfig, "--kube-scheduler-config", str(file))
    await scheduler.ready()
    names = {"spread": "default-scheduler", "packed": "packing", "greens": "green", "foreign": "carbon-aware-scheduler"}
    await cluster.create([make_pod(pod, scheduler=name) for pod, name in names.items()])

    assert await nodes_of(cluster, "spread", "packed") == ["empty", "half-full"]
    condition = await pending(cluster, "greens")
    assert condition["reason"] == "Unschedulable"
    assert condition["message"].startswith(
        "0/2 nodes are available: 2 node(s) didn't match scheduler-enforced node affinity."
    )
    foreign = await cluster.get("Pod", "foreign")
    assert "nodeName" not in foreign["spec"]
    assert not foreign["status"].get("conditions")

    async def told() -> bool:
        events = (await cluster.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events"))["items"]
        said = {e["regarding"]["name"]: (e["reason"], e["reportingController"]) for e in events}
        by_pod = {name: what for name, what in said.items() if name in names}
        return by_pod == {
            "spread": ("Scheduled", "default-scheduler"),
            "packed": ("Scheduled", "packing"),
            "greens": ("FailedScheduling", "green"),
        }

    await eventually(told, "each event names the scheduler of its pod")
    counted = "carbon_scheduler_schedule_attempts_total"
    attempts = {name for name, value in (await scheduler.metrics()).items() if name.startswith(counted) and value}
    assert attempts == {
        f'{counted}{{profile="default-scheduler",result="scheduled"}}',
        f'{counted}{{profile="green",result="unschedulable"}}',
        f'{counted}{{profile="packing",result="scheduled"}}',
    }


async def test_a_pod_with_resource_claims_is_refused_and_says_so(
    either_cluster: Cluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    """Bound without its devices it could never start. The next pod goes on."""
    cluster = either_cluster
    await cluster.create([make_node("n")])
    scheduler = start_scheduler(cluster.plane.kubeconfig)
    await scheduler.ready()
    claims = [{"name": "gpu", "resourceClaimName": "gpu"}]
    await cluster.create([make_pod("claims", resourceClaims=claims), make_pod("plain")])
    assert await nodes_of(cluster, "plain") == ["n"]
    condition = await pending(cluster, "claims")
    assert condition["reason"] == "SchedulerError"
    assert condition["message"].startswith(
        "spec.resourceClaims is not empty: dynamic resource allocation (DRA) is not supported yet"
    )
    assert "schedulerName default-scheduler" in condition["message"]
    assert "nodeName" not in (await cluster.get("Pod", "claims"))["spec"]
