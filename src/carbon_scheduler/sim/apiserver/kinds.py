"""The kinds that the server knows, with what differs between them."""

from __future__ import annotations

from typing import Final

import msgspec


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of the API.

    `storage` names the collection: two kinds with the same one are two views of the same objects. `fields` maps further
    field selectors to paths (`metadata.name` and `metadata.namespace` are always there).
    """

    group: str
    version: str
    resource: str
    kind: str
    storage: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    """Has a `status` subresource; then other writes leave the status alone."""
    generation: bool = False
    """The server counts changes of the spec."""
    fields: dict[str, tuple[str, ...]] = {}

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()


_POD_FIELDS = {
    path: tuple(path.split("."))
    for path in (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    )
}
_OBJECT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_CORE_EVENT_FIELDS = {f"involvedObject.{name}": ("involvedObject", name) for name in _OBJECT_FIELDS} | {
    "reason": ("reason",),
    "reportingComponent": ("reportingComponent",),
    "source": ("source", "component"),
    "type": ("type",),
}
_EVENT_FIELDS = {f"regarding.{name}": ("involvedObject", name) for name in _OBJECT_FIELDS} | {
    "reason": ("reason",),
    "reportingController": ("reportingComponent",),
    "type": ("type",),
}


def _kind(
    group_version: str,
    resource: str,
    kind: str,
    short: str = "",
    *,
    cluster: bool = False,
    all_: bool = False,
    **more: object,
) -> Kind:
    group, _, version = group_version.rpartition("/")
    return msgspec.convert(
        {
            "group": group,
            "version": version,
            "resource": resource,
            "kind": kind,
            "storage": f"{resource}.{group}".rstrip("."),
            "namespaced": not cluster,
            "short_names": tuple(short.split()),
            "categories": ("all",) if all_ else (),
        }
        | more,
        Kind,
    )


_STORAGE = "storage.k8s.io/v1"
_RBAC = "rbac.authorization.k8s.io/v1"
KINDS: Final = (
    _kind("v1", "bindings", "Binding"),
    _kind("v1", "configmaps", "ConfigMap", "cm"),
    _kind("v1", "events", "Event", "ev", fields=_CORE_EVENT_FIELDS),
    _kind(
        "v1", "namespaces", "Namespace", "ns", cluster=True, status=True, fields={"status.phase": ("status", "phase")}
    ),
    _kind(
        "v1", "nodes", "Node", "no", cluster=True, status=True, fields={"spec.unschedulable": ("spec", "unschedulable")}
    ),
    _kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc", status=True),
    _kind("v1", "persistentvolumes", "PersistentVolume", "pv", cluster=True, status=True),
    _kind("v1", "pods", "Pod", "po", all_=True, status=True, generation=True, fields=_POD_FIELDS),
    _kind("v1", "replicationcontrollers", "ReplicationController", "rc", all_=True, status=True, generation=True),
    _kind("v1", "secrets", "Secret", fields={"type": ("type",)}),
    _kind("v1", "serviceaccounts", "ServiceAccount", "sa"),
    _kind("v1", "services", "Service", "svc", all_=True, status=True),
    _kind("apps/v1", "daemonsets", "DaemonSet", "ds", all_=True, status=True, generation=True),
    _kind("apps/v1", "deployments", "Deployment", "deploy", all_=True, status=True, generation=True),
    _kind("apps/v1", "replicasets", "ReplicaSet", "rs", all_=True, status=True, generation=True),
    _kind("apps/v1", "statefulsets", "StatefulSet", "sts", all_=True, status=True, generation=True),
    _kind("batch/v1", "cronjobs", "CronJob", "cj", all_=True, status=True, generation=True),
    _kind("batch/v1", "jobs", "Job", all_=True, status=True, generation=True),
    _kind("coordination.k8s.io/v1", "leases", "Lease"),
    _kind("events.k8s.io/v1", "events", "Event", "ev", storage="events", fields=_EVENT_FIELDS),
    _kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb", status=True, generation=True),
    _kind(_RBAC, "clusterrolebindings", "ClusterRoleBinding", cluster=True),
    _kind(_RBAC, "clusterroles", "ClusterRole", cluster=True),
    _kind(_RBAC, "rolebindings", "RoleBinding"),
    _kind(_RBAC, "roles", "Role"),
    _kind("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", "pc", cluster=True, generation=True),
    _kind(_STORAGE, "csidrivers", "CSIDriver", cluster=True),
    _kind(_STORAGE, "csinodes", "CSINode", cluster=True),
    _kind(_STORAGE, "csistoragecapacities", "CSIStorageCapacity"),
    _kind(_STORAGE, "storageclasses", "StorageClass", "sc", cluster=True),
    _kind(_STORAGE, "volumeattachments", "VolumeAttachment", cluster=True, status=True),
)
BY_PATH: Final = {(kind.group, kind.version, kind.resource): kind for kind in KINDS}
GROUPS: Final = tuple(dict.fromkeys((kind.group, kind.version) for kind in KINDS))


def core(resource: str) -> Kind:
    """A kind of the core group. KeyError when there is none."""
    return BY_PATH["", "v1", resource]


PODS: Final = core("pods")
NODES: Final = core("nodes")
NAMESPACES: Final = core("namespaces")
EVENTS: Final = core("events")
EVENTS_V1: Final = BY_PATH["events.k8s.io", "v1", "events"]
BINDINGS: Final = core("bindings")
LEASES: Final = BY_PATH["coordination.k8s.io", "v1", "leases"]
PRIORITY_CLASSES: Final = BY_PATH["scheduling.k8s.io", "v1", "priorityclasses"]
