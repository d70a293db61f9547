"""Columns and rows that `kubectl get` shows, with the real server's names and priorities (pkg/printers/internalversion)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carbon_scheduler.sim.apiserver.documents import Document, items, mapping, objects, text
from carbon_scheduler.sim.apiserver.durations import ago, human_duration, seconds_between

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from carbon_scheduler.sim.apiserver.kinds import Kind

Cell = Any
_WORKLOAD: Final = "+Containers +Images +Selector"
_COLUMNS: Final = {
    "Pod": "Name Ready Status Restarts Age +IP +Node +Nominated_Node +Readiness_Gates",
    "Node": "Name Status Roles Age Version +Internal-IP +External-IP +OS-Image +Kernel-Version +Container-Runtime",
    "Namespace": "Name Status Age",
    "Event": "Last_Seen Type Reason Object +Subobject +Source Message +First_Seen +Count +Name",
    "Lease": "Name Holder Age",
    "Deployment": f"Name Ready Up-to-date Available Age {_WORKLOAD}",
    "ReplicaSet": f"Name Desired Current Ready Age {_WORKLOAD}",
    "ReplicationController": f"Name Desired Current Ready Age {_WORKLOAD}",
    "StatefulSet": "Name Ready Age +Containers +Images",
    "DaemonSet": f"Name Desired Current Ready Up-to-date Available Node_Selector Age {_WORKLOAD}",
    "Job": f"Name Status Completions Duration Age {_WORKLOAD}",
    "CronJob": f"Name Schedule Timezone Suspend Active Last_Schedule Age {_WORKLOAD}",
    "Service": "Name Type Cluster-IP External-IP Port(s) Age +Selector",
    "PersistentVolumeClaim": "Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age +VolumeMode",
    "PersistentVolume": (
        "Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age +VolumeMode"
    ),
    "StorageClass": "Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
    "PodDisruptionBudget": "Name Min_Available Max_Unavailable Allowed_Disruptions Age",
    "PriorityClass": "Name Value Global-Default Age PreemptionPolicy",
    "ConfigMap": "Name Data Age",
    "Secret": "Name Type Data Age",
    "ServiceAccount": "Name Age",
    "CSINode": "Name Drivers Age",
    "Role": "Name Created_At",
    "ClusterRole": "Name Created_At",
    "RoleBinding": "Name Role Age +Users +Groups +ServiceAccounts",
    "ClusterRoleBinding": "Name Role Age +Users +Groups +ServiceAccounts",
    "CSIDriver": ("Name AttachRequired PodInfoOnMount StorageCapacity TokenRequests RequiresRepublish Modes Age"),
    "CSIStorageCapacity": "Name Created_At",
    "VolumeAttachment": "Name Attacher PV Node Attached Age",
}
_FALLBACK: Final = "Name Age"
_INTEGERS: Final = frozenset({"Desired", "Current", "Available", "Allowed Disruptions", "Value", "Drivers", "Active"})
_BOOLEANS: Final = frozenset(
    {
        "Global-Default",
        "Suspend",
        "Attached",
        "AttachRequired",
        "PodInfoOnMount",
        "StorageCapacity",
        "RequiresRepublish",
    }
)


def columns(kind: Kind) -> list[Document]:
    """The columnDefinitions of a kind's Table. A leading + in the table above is priority 1: shown with `-o wide`."""
    found: list[Document] = []
    for word in _COLUMNS.get(kind.kind, _FALLBACK).split():
        name = word.lstrip("+").replace("_", " ")
        type_ = "integer" if name in _INTEGERS else "boolean" if name in _BOOLEANS else "string"
        type_ = "date" if name == "Created At" else type_
        found.append(
            {
                "name": name,
                "type": type_,
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": 1 if word.startswith("+") else 0,
            }
        )
    return found


def row(kind: Kind, document: Document, now: datetime) -> list[Cell]:
    """The cells of one object, in the order of `columns`."""
    printer = _PRINTERS.get(kind.kind)
    name = text(document, "metadata", "name")
    age = ago(document, now)
    return printer(document, name, age, now) if printer else [name, age]


def _or_none(value: str) -> str:
    return value or "<none>"


def _pod(pod: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec, status = mapping(pod, "spec"), mapping(pod, "status")
    statuses = list(objects(status, "containerStatuses"))
    ready = sum(each.get("ready") is True for each in statuses)
    restarts = sum(int(each.get("restartCount") or 0) for each in statuses)
    gates = items(spec, "readinessGates")
    met = {text(each, "type") for each in objects(status, "conditions") if text(each, "status") == "True"}
    gate_cell = f"{sum(text(gate, 'conditionType') in met for gate in gates)}/{len(gates)}" if gates else "<none>"
    return [
        name,
        f"{ready}/{len(items(spec, 'containers'))}",
        pod_status(pod),
        str(restarts),
        age,
        _or_none(text(status, "podIP")),
        _or_none(text(spec, "nodeName")),
        _or_none(text(status, "nominatedNodeName")),
        gate_cell,
    ]


def pod_status(pod: Document) -> str:
    """The word in kubectl's STATUS column (printPod)."""
    status = mapping(pod, "status")
    shown = text(status, "reason") or text(status, "phase")
    for condition in objects(status, "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "reason") == "SchedulingGated":
            shown = "SchedulingGated"
    for container in objects(status, "containerStatuses"):
        for state in ("waiting", "terminated"):
            reason = text(container, "state", state, "reason")
            if reason:
                shown = reason
    if text(pod, "metadata", "deletionTimestamp") and text(status, "phase") not in ("Succeeded", "Failed"):
        shown = "Unknown" if text(status, "reason") == "NodeLost" else "Terminating"
    return shown


def _node(node: Document, name: str, age: str, now: datetime) -> list[Cell]:
    status = mapping(node, "status")
    words = [
        "Ready" if text(condition, "status") == "True" else "NotReady"
        for condition in objects(status, "conditions")
        if text(condition, "type") == "Ready"
    ] or ["Unknown"]
    if mapping(node, "spec").get("unschedulable") is True:
        words.append("SchedulingDisabled")
    labels = mapping(node, "metadata", "labels")
    roles = [key.rpartition("/")[2] for key in labels if key.startswith("node-role.kubernetes.io/")]
    roles += [str(labels["kubernetes.io/role"])] if labels.get("kubernetes.io/role") else []
    addresses = {text(each, "type"): text(each, "address") for each in objects(status, "addresses")}
    facts = mapping(status, "nodeInfo")
    kernel, architecture = text(facts, "kernelVersion"), text(facts, "architecture")
    if kernel and architecture:
        kernel = f"{kernel} ({architecture})"
    return [
        name,
        ",".join(words),
        _or_none(",".join(sorted(filter(None, roles)))),
        age,
        text(facts, "kubeletVersion"),
        _or_none(addresses.get("InternalIP", "")),
        _or_none(addresses.get("ExternalIP", "")),
        text(facts, "osImage") or "<unknown>",
        kernel or "<unknown>",
        text(facts, "containerRuntimeVersion") or "<unknown>",
    ]


def _event(event: Document, name: str, age: str, now: datetime) -> list[Cell]:
    first = text(event, "firstTimestamp") or text(event, "eventTime")
    last = text(event, "series", "lastObservedTime") or text(event, "lastTimestamp") or first
    regarding = mapping(event, "involvedObject")
    source = ", ".join(filter(None, (text(event, "source", "component"), text(event, "source", "host"))))
    if not source:
        source = ", ".join(filter(None, (text(event, "reportingComponent"), text(event, "reportingInstance"))))
    count = mapping(event, "series").get("count") or event.get("count") or 1
    return [
        human_duration(seconds_between(last, now)) if last else "<unknown>",
        text(event, "type"),
        text(event, "reason"),
        f"{text(regarding, 'kind').lower()}/{text(regarding, 'name')}",
        text(regarding, "fieldPath"),
        source,
        text(event, "message").strip(),
        human_duration(seconds_between(first, now)) if first else "<unknown>",
        count,
        name,
    ]


def _selector(spec: Document) -> str:
    selector = mapping(spec, "selector")
    labels = mapping(selector, "matchLabels") if "matchLabels" in selector else selector
    return _or_none(",".join(f"{key}={value}" for key, value in labels.items() if isinstance(value, str)))


def _workload(template: Document) -> list[Cell]:
    containers = list(objects(template, "spec", "containers"))
    return [",".join(text(each, "name") for each in containers), ",".join(text(each, "image") for each in containers)]


def _count(document: Document, *path: str) -> int:
    value = mapping(document, *path[:-1]).get(path[-1])
    return value if isinstance(value, int) else 0


def _deployment(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    wanted = _count(each, "spec", "replicas")
    ready = f"{_count(each, 'status', 'readyReplicas')}/{wanted}"
    updated, available = _count(each, "status", "updatedReplicas"), _count(each, "status", "availableReplicas")
    shown = _workload(mapping(each, "spec", "template"))
    return [name, ready, str(updated), str(available), age, *shown, _selector(mapping(each, "spec"))]


def _replicas(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    counts = [
        _count(each, "spec", "replicas"),
        _count(each, "status", "replicas"),
        _count(each, "status", "readyReplicas"),
    ]
    return [name, *counts, age, *_workload(mapping(each, "spec", "template")), _selector(mapping(each, "spec"))]


def _stateful_set(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    ready = f"{_count(each, 'status', 'readyReplicas')}/{_count(each, 'spec', 'replicas')}"
    return [name, ready, age, *_workload(mapping(each, "spec", "template"))]


def _daemon_set(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    fields = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    counts = [_count(each, "status", field) for field in fields]
    template = mapping(each, "spec", "template")
    chosen = mapping(template, "spec", "nodeSelector")
    nodes = _or_none(",".join(f"{key}={value}" for key, value in chosen.items()))
    return [name, *counts, nodes, age, *_workload(template), _selector(mapping(each, "spec"))]


def _job(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec, status = mapping(each, "spec"), mapping(each, "status")
    done = {
        text(condition, "type") for condition in objects(status, "conditions") if text(condition, "status") == "True"
    }
    word = next((word for word in ("Complete", "Failed", "Suspended") if word in done), "Running")
    start, end = text(status, "startTime"), text(status, "completionTime")
    duration = human_duration(seconds_between(start, now) - (seconds_between(end, now) if end else 0)) if start else ""
    completions = f"{_count(status, 'succeeded')}/{_count(spec, 'completions') or 1}"
    return [name, word, completions, duration, age, *_workload(mapping(spec, "template")), _selector(spec)]


def _cron_job(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec, last = mapping(each, "spec"), text(each, "status", "lastScheduleTime")
    return [
        name,
        text(spec, "schedule"),
        _or_none(text(spec, "timeZone")),
        spec.get("suspend") is True,
        len(items(each, "status", "active")),
        human_duration(seconds_between(last, now)) if last else "<none>",
        age,
        *_workload(mapping(spec, "jobTemplate", "spec", "template")),
        "<none>",
    ]


def _service(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec = mapping(each, "spec")
    ports = ",".join(f"{port.get('port')}/{text(port, 'protocol')}" for port in objects(spec, "ports"))
    address = text(spec, "clusterIP")
    return [name, text(spec, "type"), _or_none(address), "<none>", _or_none(ports), age, _selector(spec)]


def _modes(spec: Document) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(mode, str(mode)) for mode in items(spec, "accessModes") if isinstance(mode, str))


def _claim(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec, status = mapping(each, "spec"), mapping(each, "status")
    bound = text(spec, "volumeName")
    return [
        name,
        text(status, "phase"),
        bound,
        text(status, "capacity", "storage") if bound else "",
        _modes(status) if bound else "",
        text(spec, "storageClassName"),
        "<unset>",
        age,
        text(spec, "volumeMode"),
    ]


def _volume(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec, status = mapping(each, "spec"), mapping(each, "status")
    claim = mapping(spec, "claimRef")
    return [
        name,
        text(spec, "capacity", "storage"),
        _modes(spec),
        text(spec, "persistentVolumeReclaimPolicy"),
        text(status, "phase"),
        f"{text(claim, 'namespace')}/{text(claim, 'name')}" if claim else "",
        text(spec, "storageClassName"),
        "<unset>",
        text(status, "reason"),
        age,
        text(spec, "volumeMode"),
    ]


def _budget(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec = mapping(each, "spec")
    least, most = (spec.get(field) for field in ("minAvailable", "maxUnavailable"))
    allowed = _count(each, "status", "disruptionsAllowed")
    return [name, "N/A" if least is None else str(least), "N/A" if most is None else str(most), allowed, age]


def _binding(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in objects(each, "subjects"):
        who = text(subject, "name")
        if text(subject, "kind") == "ServiceAccount":
            who = f"{text(subject, 'namespace')}/{who}"
        subjects.setdefault(text(subject, "kind"), []).append(who)
    role = f"{text(each, 'roleRef', 'kind')}/{text(each, 'roleRef', 'name')}"
    return [name, role, age, *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount"))]


def _driver(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    spec = mapping(each, "spec")
    flags = [spec.get(field) is True for field in ("attachRequired", "podInfoOnMount", "storageCapacity")]
    tokens = ",".join(text(request, "audience") for request in objects(spec, "tokenRequests")) or "<unset>"
    modes = ",".join(str(mode) for mode in items(spec, "volumeLifecycleModes")) or "<none>"
    return [name, *flags, tokens, spec.get("requiresRepublish") is True, modes, age]


def _created(each: Document, name: str, age: str, now: datetime) -> list[Cell]:
    return [name, text(each, "metadata", "creationTimestamp")]


_PRINTERS: Final[dict[str, Callable[[Document, str, str, datetime], list[Cell]]]] = {
    "Pod": _pod,
    "Node": _node,
    "Event": _event,
    "Namespace": lambda each, name, age, now: [name, text(each, "status", "phase"), age],
    "Lease": lambda each, name, age, now: [name, text(each, "spec", "holderIdentity"), age],
    "Deployment": _deployment,
    "ReplicaSet": _replicas,
    "ReplicationController": _replicas,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "PodDisruptionBudget": _budget,
    "StorageClass": lambda each, name, age, now: [
        name,
        text(each, "provisioner"),
        text(each, "reclaimPolicy"),
        text(each, "volumeBindingMode"),
        each.get("allowVolumeExpansion") is True,
        age,
    ],
    "PriorityClass": lambda each, name, age, now: [
        name,
        each.get("value") or 0,
        each.get("globalDefault") is True,
        age,
        text(each, "preemptionPolicy"),
    ],
    "ConfigMap": lambda each, name, age, now: [
        name,
        len(mapping(each, "data")) + len(mapping(each, "binaryData")),
        age,
    ],
    "Secret": lambda each, name, age, now: [name, text(each, "type"), len(mapping(each, "data")), age],
    "CSINode": lambda each, name, age, now: [name, len(items(each, "spec", "drivers")), age],
    "Role": _created,
    "ClusterRole": _created,
    "CSIStorageCapacity": _created,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "CSIDriver": _driver,
    "VolumeAttachment": lambda each, name, age, now: [
        name,
        text(each, "spec", "attacher"),
        text(each, "spec", "source", "persistentVolumeName"),
        text(each, "spec", "nodeName"),
        mapping(each, "status").get("attached") is True,
        age,
    ],
}
