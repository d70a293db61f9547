"""Kubernetes API objects as the dicts of their JSON, with defaults, for tests that speak HTTP.

Every keyword that is not named ends up in `spec`; `meta` and `status` are merged likewise.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]
SCHEDULER = "carbon-aware-scheduler"


def make_node(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "16Gi",
    pods: str = "110",
    carbon_zone: str | None = None,
    labels: dict[str, str] | None = None,
    taints: list[JSON] | None = None,
    unschedulable: bool = False,
    meta: JSON | None = None,
    **spec: Any,
) -> JSON:
    """A Ready node. `carbon_zone` sets the label `carbon-zone`; `taints` e.g. [{"key": "a", "effect": "NoSchedule"}].

    Created with POST its status is kept, since the API server leaves a new node's status as it is sent.
    """
    resources = {"cpu": cpu, "memory": memory, "pods": pods}
    all_labels = {
        "kubernetes.io/hostname": name,
        **({"carbon-zone": carbon_zone} if carbon_zone else {}),
        **(labels or {}),
    }
    if taints:
        spec["taints"] = taints
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": all_labels, **(meta or {})},
        "spec": spec,
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
        },
    }


def make_pod(
    name: str,
    *,
    namespace: str = "default",
    scheduler: str | None = SCHEDULER,
    cpu: str | None = "100m",
    memory: str | None = "64Mi",
    node: str | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    meta: JSON | None = None,
    **spec: Any,
) -> JSON:
    """A pending pod of one container, for our scheduler. `node` makes it a bound one; None leaves a request out."""
    requests = {key: value for key, value in {"cpu": cpu, "memory": memory}.items() if value is not None}
    container = {"name": "main", "image": "registry.example/app:1", "resources": {"requests": requests}}
    metadata: JSON = {"name": name, "namespace": namespace, **(meta or {})}
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    spec.setdefault("containers", [container])
    if scheduler:
        spec["schedulerName"] = scheduler
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def make_binding(
    pod: str,
    node: str,
    *,
    namespace: str = "default",
    uid: str | None = None,
    annotations: dict[str, str] | None = None,
) -> JSON:
    """The body of POST .../pods/NAME/binding."""
    metadata: JSON = {"name": pod, "namespace": namespace}
    if uid:
        metadata["uid"] = uid
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": metadata,
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
