"""The demo's cluster: 24 nodes in eight grid zones and 60 pods of several kinds, as objects of the Kubernetes API.

Small enough to read the whole result, and every rule that a newcomer asks about occurs once: a node that is cordoned, tainted
or too small, a node whose grid zone comes from its cloud region or from the default, pods that tolerate, select, share
a host port, fit nowhere, are gated, or belong to another scheduler.
"""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import Any, Final

SCHEDULER: Final = "carbon-aware-scheduler"
NAMESPACE: Final = "default"
DEFAULT_ZONE: Final = "US-NY-NYIS"
"""Of the node that says nothing about itself."""

Object = dict[str, Any]
"""An API object as JSON. `Any`: this is where objects are made, for servers that check them."""

# place -> (label `carbon-zone`, cloud's prefix of the provider id, region)
_PLACES: Final = {
    "stockholm": ("SE-SE3", "aws:///eu-north-1a", "eu-north-1"),
    "paris": ("FR", "gce://demo/europe-west9-a", "europe-west9"),
    "london": ("GB", "gce://demo/europe-west2-a", "europe-west2"),
    "california": ("US-CA-CISO", "", ""),  # an operator's own spelling: the table of aliases knows it as US-CAL-CISO
    "newyork": ("US-NY-NYIS", "", ""),
    "frankfurt": ("DE", "gce://demo/europe-west3-a", "europe-west3"),
    "dublin": ("IE", "aws:///eu-west-1a", "eu-west-1"),
    "warsaw": ("PL", "", ""),
}
_UNLABELLED: Final = frozenset({"frankfurt-3", "dublin-3", "newyork-3"})
_TAINT: Final = {"key": "dedicated", "value": "training", "effect": "NoSchedule"}


def nodes() -> list[Object]:
    """24 nodes of 4 CPUs and 16 GiB, Ready. The cleanest zone has room for few, so that the next cleanest is seen too."""
    return [_node(place, number) for place in _PLACES for number in (1, 2, 3)]


def _node(place: str, number: int) -> Object:
    zone, cloud, region = _PLACES[place]
    name = f"{place}-{number}"
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    if region:
        labels["topology.kubernetes.io/region"] = region
    if name not in _UNLABELLED:
        labels["carbon-zone"] = zone
    spec: Object = {"providerID": f"{cloud}/{name}"} if cloud else {}
    if name == "stockholm-2":
        spec["unschedulable"] = True  # what `kubectl cordon` does
    if name == "stockholm-3":
        spec["taints"] = [_TAINT]
    size = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"}
    if name == "paris-3":
        size |= {"cpu": "300m", "memory": "512Mi"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"capacity": size, "allocatable": size, "conditions": [ready]},
    }


def pods() -> list[Object]:
    """60 pods in the order in which they are created: the kinds take turns, as they do in a busy cluster."""
    kinds = [
        [_pod("web", n, "500m", "256Mi") for n in range(1, 19)],
        [_pod("api", n, "1", "1Gi") for n in range(1, 9)],
        [_pod("batch", n, "2", "2Gi", restartPolicy="Never") for n in range(1, 13)],
        [_pod("training", n, "1", "4Gi", tolerations=[{**_TAINT, "operator": "Equal"}]) for n in range(1, 5)],
        [_pod("frankfurt", n, "500m", "512Mi", nodeSelector=_region("europe-west3")) for n in range(1, 4)],
        [_pod("europe", n, "1", "1Gi", affinity=_in_regions("eu-west-1", "europe-west3")) for n in range(1, 5)],
        [_pod("proxy", n, "250m", "128Mi", host_port=8080) for n in range(1, 4)],
        [_pod("besteffort", n) for n in range(1, 4)],
        [
            _pod("huge", 1, "64", "256Gi"),
            _pod("nvme", 1, "500m", "256Mi", nodeSelector={"disktype": "nvme"}),
            _pod("gated", 1, "500m", "256Mi", schedulingGates=[{"name": "example.com/quota"}]),
            _pod("other", 1, "1", "1Gi", schedulerName="default-scheduler", nodeName="stockholm-1"),
            _pod("other", 2, "1", "1Gi", schedulerName="default-scheduler"),
        ],
    ]
    turns = chain.from_iterable(zip_longest(*kinds))
    return [pod for pod in turns if pod is not None]


def _pod(kind: str, number: int, cpu: str = "", memory: str = "", host_port: int = 0, **spec: Any) -> Object:
    container: Object = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu, "memory": memory}}
    if host_port:
        container["ports"] = [{"containerPort": 80, "hostPort": host_port, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{kind}-{number}", "namespace": NAMESPACE, "labels": {"app": kind}},
        "spec": {"schedulerName": SCHEDULER, "containers": [container], **spec},
    }


def _region(name: str) -> Object:
    return {"topology.kubernetes.io/region": name}


def _in_regions(*names: str) -> Object:
    term = {"key": "topology.kubernetes.io/region", "operator": "In", "values": list(names)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
