"""Builders of volumes, claims and what goes with them, and a cluster of them. Sizes as people write them: `size="2Gi"`."""

from __future__ import annotations

from typing import Any

from builders import bytes_of, make_pod
from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.model import Node, NodeName, NodeSelectorTerm, Pod, PodVolume, Requirement
from carbon_scheduler.core.objects import AnyObject, Claim, ClaimRef, StorageClass, Volume
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.providers.tables import grid_zones

CSI = "csi.example.com"
ZONE = "topology.kubernetes.io/zone"
Status = dict[str, tuple[str, str, tuple[str, ...]]]


def make_claim(name: str, size: str = "1Gi", of_class: str | None = "wait", volume: str = "", **fields: Any) -> Claim:
    """A claim in namespace default that waits; with `volume` one that is bound to it."""
    if volume:
        fields = {"bind_completed": True, "phase": "Bound", **fields}
    return Claim(
        fields.pop("namespace", "default"),
        name,
        uid=fields.pop("uid", f"uid-{name}"),
        volume_name=volume,
        class_name=of_class,
        access_modes=fields.pop("access_modes", ("ReadWriteOnce",)),
        request_b=bytes_of(size),
        resource_version=fields.pop("resource_version", "1"),
        **fields,
    )


def make_volume(
    name: str,
    size: str = "1Gi",
    of_class: str = "wait",
    *,
    on: tuple[str, ...] = (),
    claim: Claim | None = None,
    **fields: Any,
) -> Volume:
    """A free CSI volume, `on` nodes only; reserved for a `claim` by name and uid."""
    if on:
        fields["node_affinity"] = (NodeSelectorTerm((Requirement("kubernetes.io/hostname", "In", on),)),)
    if claim is not None:
        fields.setdefault("claim_ref", ClaimRef(claim.namespace, claim.name, claim.uid))
    return Volume(
        name,
        capacity_b=bytes_of(size),
        class_name=of_class,
        access_modes=fields.pop("access_modes", ("ReadWriteOnce",)),
        phase=fields.pop("phase", "Available"),
        source=fields.pop("source", ("csi", CSI, name)),
        resource_version=fields.pop("resource_version", "1"),
        **fields,
    )


def make_class(
    name: str = "wait", provisioner: str = CSI, mode: str = "WaitForFirstConsumer", **fields: Any
) -> StorageClass:
    return StorageClass(name, provisioner, mode, **fields)


LOCAL = make_class("local", "kubernetes.io/no-provisioner")


def using(*claims: str, name: str = "p", more: tuple[PodVolume, ...] = (), **fields: Any) -> Pod:
    """A pod with these claims."""
    volumes = (*(PodVolume("claim", claim) for claim in claims), *more)
    return make_pod(name, spec={"volumes": volumes}, **fields)


def make_cluster(*things: Node | Pod | AnyObject) -> Cluster:
    cluster = Cluster(grid_zones(), None)
    for thing in things:
        put(cluster, thing)
    return cluster


def put(cluster: Cluster, thing: Node | Pod | AnyObject) -> None:
    """As an event would; the cluster's state is then compared with one built anew."""
    if isinstance(thing, Node):
        cluster.put_node(thing)
    elif isinstance(thing, Pod):
        cluster.put_pod(thing)
    else:
        cluster.put_object(thing)
    cluster.debug_check()


def status_of(cluster: Cluster, pod: Pod) -> Status:
    """What the default profile says of each node."""
    verdict = Framework(default_profile(), cluster.snap).judge(pod)
    assert not verdict.error, verdict.error
    return dict(verdict.status())


def fitting(cluster: Cluster, pod: Pod) -> list[str]:
    return sorted(name for name, (code, _, _) in status_of(cluster, pod).items() if code == "Success")


def slot(cluster: Cluster, node: str) -> int:
    return cluster.snap.slot_of[NodeName(node)]
