"""What the API server fills in when an object is created, as far as a scheduler or kubectl relies on it.

Sources: pkg/apis/core/v1/defaults.go and the admission plugins Priority, DefaultTolerationSeconds, of release 1.36.
Left out: service account tokens, default storage class.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver import label_keys
from carbon_scheduler.sim.apiserver.documents import Document, copied, items, mapping, objects, present, text
from carbon_scheduler.sim.apiserver.failures import forbidden
from carbon_scheduler.sim.apiserver.kinds import NAMESPACES, NODES, PRIORITY_CLASSES
from carbon_scheduler.sim.apiserver.quantities import canonical
from carbon_scheduler.sim.apiserver.times import whole_seconds

if TYPE_CHECKING:
    from carbon_scheduler.sim.apiserver.kinds import Kind
    from carbon_scheduler.sim.apiserver.store import Store

GATED: Final = "Scheduling is blocked due to non-empty scheduling gates"
_RESOURCE_MAPS: Final = ("requests", "limits")
_TOLERATED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


FIRST_OBJECTS: Final[list[tuple[Kind, Document]]] = [
    *(
        (NAMESPACES, {"metadata": {"name": name}})
        for name in ("default", "kube-node-lease", "kube-public", "kube-system")
    ),
    (
        PRIORITY_CLASSES,
        {
            "metadata": {"name": "system-cluster-critical"},
            "value": 2_000_000_000,
            "description": "Used for system critical pods that must run in the cluster, but can be moved to another node if "
            "necessary.",
        },
    ),
    (
        PRIORITY_CLASSES,
        {
            "metadata": {"name": "system-node-critical"},
            "value": 2_000_001_000,
            "description": "Used for system critical pods that must not be moved from their current node.",
        },
    ),
]
"""What every cluster starts with."""


def fill_in(kind: Kind, document: Document, store: Store, now: str) -> None:
    """Apply the defaults of `kind` to a document about to be created. Raises Failure for an unknown priority class.

    `now` is the time of creation, RFC 3339.
    """
    match kind.kind:
        case "Pod":
            _pod(document, store, now)
        case "Node":
            _node(document)
        case "Namespace":
            metadata = document["metadata"]
            metadata["labels"] = {**mapping(metadata, "labels"), "kubernetes.io/metadata.name": metadata["name"]}
            document["spec"] = {"finalizers": ["kubernetes"]}
            document["status"] = {"phase": "Active"}
        case "PriorityClass":
            document.setdefault("value", 0)
            document.setdefault("preemptionPolicy", "PreemptLowerPriority")
        case "PersistentVolume":
            document["status"] = {"phase": "Pending"}
            _spec(document).setdefault("persistentVolumeReclaimPolicy", "Retain")
            _spec(document).setdefault("volumeMode", "Filesystem")
        case "PersistentVolumeClaim":
            document["status"] = {"phase": "Pending"}
            _spec(document).setdefault("volumeMode", "Filesystem")
        case "StorageClass":
            document.setdefault("reclaimPolicy", "Delete")
            document.setdefault("volumeBindingMode", "Immediate")
        case "Secret":
            encoded = {key: _base64(value) for key, value in mapping(document, "stringData").items()}
            document.pop("stringData", None)
            if encoded:
                document["data"] = {**mapping(document, "data"), **encoded}
            document.setdefault("type", "Opaque")
        case "Service":
            _service(_spec(document))
            document["status"] = {"loadBalancer": {}}
        case _ if kind.status:
            document["status"] = {}
            _controller(kind, document)


def normalise(kind: Kind, document: Document, old: Document) -> None:
    """What every later write of a pod or node goes through; `old` is what it replaces."""
    if kind.kind == "Pod":
        spec = _spec(document)
        _pod_spec(spec)
        for name in ("priority", "priorityClassName", "preemptionPolicy"):
            if name in mapping(old, "spec"):
                spec.setdefault(name, mapping(old, "spec")[name])
        _tolerate(spec)
    elif kind.kind == "Node":
        spec = _spec(document)
        _drop_empty(spec)
        if spec.get("unschedulable") is False:
            del spec["unschedulable"]


def normalise_status(kind: Kind, document: Document) -> None:
    """What a write of the status goes through: Go writes some times of a condition even when there is none."""
    status = mapping(document, "status")
    _drop_empty(status)
    if kind.kind == "Pod":
        for one, many in (("podIP", "podIPs"), ("hostIP", "hostIPs")):
            address = text(status, one)
            if address and text(next(iter(objects(status, many)), {}), "ip") != address:
                status[many] = [{"ip": address}]
    times = {"Pod": ("lastProbeTime", "lastTransitionTime"), "Node": ("lastHeartbeatTime", "lastTransitionTime")}
    for condition in objects(document, "status", "conditions"):
        for name in times.get(kind.kind, ()):
            written = condition.get(name)
            condition[name] = whole_seconds(written) if isinstance(written, str) else None
    if kind.kind == "Node":
        _node_resources(document)


def _drop_empty(spec: Document) -> None:
    for name in [name for name, value in spec.items() if value in ("", [])]:
        del spec[name]


def _spec(document: Document) -> Document:
    spec = document.get("spec")
    if not isinstance(spec, dict):
        spec = document["spec"] = {}
    return spec


def _containers(spec: Document) -> list[Document]:
    return [*objects(spec, "initContainers"), *objects(spec, "containers")]


def _pod(document: Document, store: Store, now: str) -> None:
    spec = _spec(document)
    _pod_spec(spec)
    _priority(document, spec, store)
    _tolerate(spec)
    label_keys.merge(document)
    status: Document = {"phase": "Pending", "qosClass": quality_of_service(spec)}
    if present(spec.get("schedulingGates")):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": now,
                "reason": "SchedulingGated",
                "message": GATED,
            }
        ]
    document["status"] = status


def _pod_spec(spec: Document) -> None:
    _drop_empty(spec)
    for container in _containers(spec):
        _container(container)
    for name, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("securityContext", {}),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
    ):
        if spec.get(name) in (None, ""):
            spec[name] = copied(value)
    if spec.get("hostNetwork") is True:
        for container in _containers(spec):
            for port in objects(container, "ports"):
                if not present(port.get("hostPort")) and "containerPort" in port:
                    port["hostPort"] = port["containerPort"]


def _container(container: Document) -> None:
    image = text(container, "image")
    tag = image.rpartition("/")[2].partition(":")[2]
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") and "@" not in image else "IfNotPresent")
    for port in objects(container, "ports"):
        port.setdefault("protocol", "TCP")
    for variable in objects(container, "env"):
        reference = mapping(variable, "valueFrom", "fieldRef")
        if reference:
            reference.setdefault("apiVersion", "v1")
    resources = mapping(container, "resources")
    for name in _RESOURCE_MAPS:
        quantities = mapping(resources, name)
        for resource, quantity in quantities.items():
            quantities[resource] = canonical(quantity)
    limits = mapping(resources, "limits")
    if limits:
        resources["requests"] = {**limits, **mapping(resources, "requests")}


def _priority(document: Document, spec: Document, store: Store) -> None:
    """The Priority admission plugin."""
    name = text(spec, "priorityClassName")
    classes = store.collection(PRIORITY_CLASSES.storage).objects
    found: Document | None = None
    if name:
        stored = classes.get(("", name))
        if stored is None:
            pod = text(document, "metadata", "name")
            raise forbidden("pods", "", pod, f"no PriorityClass with name {name} was found")
        found = stored.document
    else:
        defaults = [stored.document for stored in classes.values() if stored.document.get("globalDefault") is True]
        if defaults:
            found = min(defaults, key=lambda each: int(each.get("value") or 0))
            spec["priorityClassName"] = found["metadata"]["name"]
    value = int(found.get("value") or 0) if found else 0
    given = spec.get("priority")
    if given is not None and given != value:
        why = (
            f"the integer value of priority ({given}) must not be provided in pod spec; priority admission controller "
            f"computed {value} from the given PriorityClass name"
        )
        raise forbidden("pods", "", text(document, "metadata", "name"), why)
    spec["priority"] = value
    policy = text(found, "preemptionPolicy") if found else ""
    spec.setdefault("preemptionPolicy", policy or "PreemptLowerPriority")


def _tolerate(spec: Document) -> None:
    """The DefaultTolerationSeconds admission plugin: five minutes for each of the two taints that nothing tolerates yet."""
    tolerations = [entry for entry in items(spec, "tolerations") if isinstance(entry, dict)]
    for key in _TOLERATED:
        if not any(
            (text(entry, "key") in ("", key)) and text(entry, "effect") in ("", "NoExecute") for entry in tolerations
        ):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec["tolerations"] = tolerations


def quality_of_service(spec: Document) -> str:
    """BestEffort, Burstable or Guaranteed (pkg/apis/core/v1/helper/qos), over cpu and memory."""
    scopes = [mapping(spec, "resources")] if present(mapping(spec, "resources")) else []
    scopes = scopes or [mapping(container, "resources") for container in _containers(spec)]
    asked = False
    guaranteed = bool(scopes)
    for scope in scopes:
        requests, limits = mapping(scope, "requests"), mapping(scope, "limits")
        for resource in ("cpu", "memory"):
            request, limit = requests.get(resource), limits.get(resource)
            asked = asked or present(request) or present(limit)
            guaranteed = guaranteed and limit is not None and request in (None, limit)
    return "BestEffort" if not asked else "Guaranteed" if guaranteed else "Burstable"


def _node(document: Document) -> None:
    _spec(document)
    status = document.get("status")
    if not isinstance(status, dict):
        status = document["status"] = {}
    if "capacity" in status and not present(status.get("allocatable")):
        status["allocatable"] = copied(status["capacity"])
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    facts = mapping(status, "nodeInfo")
    status["nodeInfo"] = {
        **dict.fromkeys(
            (
                "machineID",
                "systemUUID",
                "bootID",
                "kernelVersion",
                "osImage",
                "containerRuntimeVersion",
                "kubeletVersion",
                "kubeProxyVersion",
                "operatingSystem",
                "architecture",
            ),
            "",
        ),
        **facts,
    }
    normalise(NODES, document, {})
    normalise_status(NODES, document)


def _node_resources(document: Document) -> None:
    for name in ("capacity", "allocatable"):
        resources = mapping(document, "status", name)
        for resource, quantity in resources.items():
            resources[resource] = canonical(quantity)


def _service(spec: Document) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in objects(spec, "ports"):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _controller(kind: Kind, document: Document) -> None:
    spec = _spec(document)
    if kind.kind in ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"):
        spec.setdefault("replicas", 1)
    if kind.kind == "Job":
        spec.setdefault("parallelism", 1)
        spec.setdefault("completions", 1)
        spec.setdefault("backoffLimit", 6)
        spec.setdefault("suspend", False)
    if kind.kind == "CronJob":
        spec.setdefault("concurrencyPolicy", "Allow")
        spec.setdefault("suspend", False)


def _base64(value: object) -> str:
    return b64encode(str(value).encode()).decode()
