"""Rules of pods that go beyond storing them: binding, grace periods, what an update may change.

Sources: pkg/registry/core/pod/storage/storage.go (setPodNodeAndMetadata), strategy.go (CheckGracefulDelete), and
ValidatePodUpdate of pkg/apis/core/validation, release 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver import failures
from carbon_scheduler.sim.apiserver.documents import Document, copied, items, mapping, objects, present, text
from carbon_scheduler.sim.apiserver.failures import Cause, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMMUTABLE: Final = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check_target(binding: Document) -> None:
    """Raise Failure 500 (as the real server does) for a target that is no node. Whether the node exists is not checked."""
    kind = text(binding, "target", "kind")
    if kind not in ("", "Node"):
        raise Failure(500, "", f'target.kind: Unsupported value: "{kind}": supported values: "Node", "<empty>"')
    if not text(binding, "target", "name"):
        raise Failure(500, "", "target.name: Required value")


def bound(pod: Document, binding: Document, now: str) -> Document:
    """The pod after the Binding. Raises Failure 409. The size of the annotations is not checked, as upstream."""
    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    for what, field in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        wanted = text(binding, "metadata", field)
        if wanted and wanted != metadata[field]:
            raise failures.precondition("pods", "", namespace, name, what, wanted, metadata[field])
    node = text(pod, "spec", "nodeName")
    if "deletionTimestamp" in metadata:
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif node:
        why = f'pod {name} is already assigned to node "{node}"'
    elif items(pod, "spec", "schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    else:
        why = ""
    if why:
        raise failures.conflict("pods/binding", "", name, why)
    changed = dict(metadata)
    for field in ("annotations", "labels"):
        added = mapping(binding, "metadata", field)
        if added:
            changed[field] = {**mapping(metadata, field), **added}
    status = {key: value for key, value in mapping(pod, "status").items() if key != "nominatedNodeName"}
    status["conditions"] = with_condition(status, {"type": "PodScheduled", "status": "True"}, now)
    spec = {**mapping(pod, "spec"), "nodeName": text(binding, "target", "name")}
    return {**pod, "metadata": changed, "spec": spec, "status": status}


def with_condition(status: Document, condition: Document, now: str) -> list[Document]:
    """The conditions with this one added or replaced; the transition time moves only when the status does."""
    conditions = [dict(each) for each in objects(status, "conditions")]
    entry = {"type": condition["type"], "status": condition["status"], "lastProbeTime": None, "lastTransitionTime": now}
    entry |= condition
    for index, existing in enumerate(conditions):
        if existing.get("type") == condition["type"]:
            if existing.get("status") == condition["status"]:
                entry["lastTransitionTime"] = existing.get("lastTransitionTime")
            conditions[index] = entry
            return conditions
    return [*conditions, entry]


def evicted(pod: Document, now: str) -> Document:
    """The pod as an eviction marks it before it deletes it."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status = mapping(pod, "status")
    return {**pod, "status": {**status, "conditions": with_condition(status, condition, now)}}


def grace_period_s(pod: Document, asked_s: int | None) -> int:
    """How long a deleted pod may still run: 0 for one that is on no node or finished."""
    if not text(pod, "spec", "nodeName") or text(pod, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    default = mapping(pod, "spec").get("terminationGracePeriodSeconds")
    seconds = asked_s if asked_s is not None else default if isinstance(default, int) else 30
    return max(seconds, 1) if seconds < 0 else seconds


def forbidden_changes(old: Document, new: Document) -> list[Cause]:
    """What an update of a pod (not of its status) changes although it must not."""
    before, after = mapping(old, "spec"), mapping(new, "spec")
    causes = [*_gates(before, after)]
    if causes:
        return causes
    gated = present(before.get("schedulingGates"))
    if gated:
        selector, narrowed = mapping(before, "nodeSelector"), mapping(after, "nodeSelector")
        if any(narrowed.get(key) != value for key, value in selector.items()):
            why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            shown = "{" + ",".join(f'"{key}":"{value}"' for key, value in sorted(narrowed.items())) + "}"
            causes.append(Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", "spec.nodeSelector"))
    kept = items(before, "tolerations")
    if any(entry not in items(after, "tolerations") for entry in kept):
        why = "Forbidden: existing toleration can not be modified except its tolerationSeconds"
        causes.append(Cause("FieldValueForbidden", why, "spec.tolerations"))
    if not causes and _comparable(before, gated=gated) != _comparable(after, gated=gated):
        causes.append(Cause("FieldValueForbidden", _IMMUTABLE, "spec"))
    return causes


def forbidden_status(old: Document, new: Document) -> Iterator[Cause]:
    """What a status of a pod may not become (ValidatePodStatusUpdate)."""
    nominated = text(new, "status", "nominatedNodeName")
    if text(old, "spec", "nodeName") and nominated not in ("", text(old, "status", "nominatedNodeName")):
        why = "Forbidden: may not be set on pods that are already bound to a node"
        yield Cause("FieldValueForbidden", why, "status.nominatedNodeName")
    quality = text(new, "status", "qosClass")
    if quality != text(old, "status", "qosClass"):
        yield Cause("FieldValueInvalid", f'Invalid value: "{quality}": field is immutable', "status.qosClass")


def _gates(before: Document, after: Document) -> Iterator[Cause]:
    known = {text(gate, "name") for gate in objects(before, "schedulingGates")}
    for index, gate in enumerate(objects(after, "schedulingGates")):
        name = text(gate, "name")
        if name not in known:
            why = f"Forbidden: only deletion is allowed, but found new scheduling gate '{name}'"
            yield Cause("FieldValueForbidden", why, f"spec.schedulingGates[{index}].name")


def _comparable(spec: Document, *, gated: bool) -> Document:
    """The spec without what may change."""
    fixed = {
        key: value
        for key, value in spec.items()
        if key not in ("activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds")
        and not (gated and key in ("nodeSelector", "affinity"))
        and present(value)
    }
    for name in ("containers", "initContainers"):
        if name in fixed:
            fixed[name] = [
                {key: value for key, value in each.items() if key not in ("image", "imagePullPolicy")}
                for each in objects(copied(spec), name)
            ]
    return fixed
