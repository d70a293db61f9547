"""The validation that people run into: names, labels, annotations, quantities, the fields a scheduler reads.

Texts are those of kube-apiserver 1.36 (apimachinery/pkg/util/validation, pkg/apis/core/validation). Most other fields are
stored as they come.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver.documents import (
    Document,
    annotations_b,
    encode,
    items,
    mapping,
    objects,
    present,
    text,
)
from carbon_scheduler.sim.apiserver.failures import Cause
from carbon_scheduler.sim.apiserver.kinds import EVENTS_V1
from carbon_scheduler.sim.apiserver.quantities import parse
from carbon_scheduler.sim.apiserver.times import check_micro_time, check_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.sim.apiserver.kinds import Kind

MAX_ANNOTATIONS_B: Final = 262_144
MAX_NOTE: Final = 1024
"""Characters of an event's note."""

_SUBDOMAIN_FORM: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_FORM: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_KEY_FORM: Final = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_FORM: Final = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
SUBDOMAIN: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN_FORM}')"
)
_LABEL: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_FORM}')"
)
_KEY: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_KEY_FORM}')"
)
_VALUE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE_FORM}')"
)
_STANDARD_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
_LABEL_NAMED: Final = frozenset({"Namespace", "Service"})
_PATH_NAMED: Final = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})


def validate(kind: Kind, document: Document, *, new: bool) -> list[Cause]:
    """What is wrong with an object about to be stored, in the server's order; an empty list when nothing is."""
    causes = list(_metadata(kind, mapping(document, "metadata")))
    match kind.kind:
        case "Pod":
            causes += _pod(document)
        case "Node":
            causes += _node(document)
        case "Lease":
            causes += _lease(document)
        case "Event":
            causes += _event(document, strict=new and kind is EVENTS_V1)
    return causes


def new_finalizers(old: Document, new: Document) -> list[Cause]:
    """What an update of an object that is being deleted must not do: add finalizers."""
    known = items(old, "metadata", "finalizers")
    added = [str(entry) for entry in items(new, "metadata", "finalizers") if entry not in known]
    if not added:
        return []
    shown = ", ".join(f'"{entry}"' for entry in sorted(added))
    why = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{shown}}}"
    return [Cause("FieldValueForbidden", why, "metadata.finalizers")]


def invalid(field: str, value: object, why: str) -> Cause:
    shown = encode(value).decode() if isinstance(value, dict | list | str) else str(value)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", field)


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", field)


def unsupported(field: str, value: str, *known: str) -> Cause:
    shown = ", ".join(f'"{word}"' for word in known)
    return Cause("FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {shown}', field)


def check_types(kind: Kind, document: Document) -> None:
    """Raise ValueError, in the words of Go's decoder, for values that do not fit its structs, in the fields read here."""
    for name in ("labels", "annotations"):
        for value in mapping(document, "metadata", name).values():
            _expect(str, value, f"ObjectMeta.metadata.{name}", "string")
    for name in ("spec", "status", "metadata"):
        _expect(dict, document.get(name), f"{kind.kind}.{name}", f"{kind.version}.{kind.kind}{name.title()}")
    if kind.kind == "Pod":
        spec = mapping(document, "spec")
        for name in ("containers", "initContainers"):
            _expect(list, spec.get(name), f"PodSpec.spec.{name}", "[]v1.Container")
            for entry in items(spec, name):
                _expect(dict, "null" if entry is None else entry, f"PodSpec.spec.{name}", "v1.Container")
        _expect(list, spec.get("tolerations"), "PodSpec.spec.tolerations", "[]v1.Toleration")
        for name in ("nodeName", "schedulerName", "priorityClassName", "restartPolicy"):
            _expect(str, spec.get(name), f"PodSpec.spec.{name}", "string")
        _expect(int, spec.get("priority"), "PodSpec.spec.priority", "int32")
    _decode_times(kind, document)
    _decode_quantities(kind, document)


_JSON_TYPES: Final = {str: "string", int: "number", float: "number", bool: "bool", list: "array", dict: "object"}


def _expect(wanted: type, value: object, field: str, go_type: str) -> None:
    if value is not None and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        found = _JSON_TYPES.get(type(value), "value")
        raise ValueError(f"json: cannot unmarshal {found} into Go struct field {field} of type {go_type}")


def _decode_times(kind: Kind, document: Document) -> None:
    """Raise ValueError for a time that Go could not parse."""
    match kind.kind:
        case "Lease":
            for name in ("acquireTime", "renewTime"):
                check_micro_time(mapping(document, "spec").get(name))
        case "Event":
            check_micro_time(document.get("eventTime"))
            check_micro_time(mapping(document, "series").get("lastObservedTime"))
        case "Pod" | "Node":
            for condition in objects(document, "status", "conditions"):
                for name in ("lastProbeTime", "lastHeartbeatTime", "lastTransitionTime"):
                    check_time(condition.get(name))


def _decode_quantities(kind: Kind, document: Document) -> None:
    """Raise ValueError for a quantity that is none."""
    scopes: list[Document] = []
    if kind.kind == "Pod":
        spec = mapping(document, "spec")
        scopes = [mapping(spec, "overhead")]
        for holder in (spec, *objects(spec, "containers"), *objects(spec, "initContainers")):
            scopes += [mapping(holder, "resources", "requests"), mapping(holder, "resources", "limits")]
    elif kind.kind == "Node":
        scopes = [mapping(document, "status", "capacity"), mapping(document, "status", "allocatable")]
    for scope in scopes:
        for quantity in scope.values():
            parse(quantity)


def _metadata(kind: Kind, metadata: Document) -> Iterator[Cause]:
    name = text(metadata, "name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind.kind in _PATH_NAMED:
        if "/" in name or "%" in name or name in (".", ".."):
            yield invalid("metadata.name", name, "may not contain '/'")
    elif kind.kind in _LABEL_NAMED:
        if len(name) > 63 or not re.fullmatch(_LABEL_FORM, name):
            yield invalid("metadata.name", name, _LABEL if len(name) <= 63 else "must be no more than 63 bytes")
    elif len(name) > 253 or not re.fullmatch(_SUBDOMAIN_FORM, name):
        yield invalid("metadata.name", name, SUBDOMAIN if len(name) <= 253 else "must be no more than 253 bytes")
    yield from _labels("metadata.labels", mapping(metadata, "labels"))
    annotations = mapping(metadata, "annotations")
    for key in annotations:
        yield from _key("metadata.annotations", key)
    if annotations_b(annotations) > MAX_ANNOTATIONS_B:
        yield Cause(
            "FieldValueTooLong", f"Too long: may not be more than {MAX_ANNOTATIONS_B} bytes", "metadata.annotations"
        )


def _labels(field: str, labels: Document) -> Iterator[Cause]:
    for key, value in labels.items():
        yield from _key(field, key)
        if len(value) > 63:
            yield invalid(field, value, "must be no more than 63 bytes")
        if not re.fullmatch(_VALUE_FORM, value):
            yield invalid(field, value, _VALUE)


def _key(field: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN_FORM, prefix):
        yield invalid(field, key, f"prefix part {SUBDOMAIN}" if prefix else "prefix part must be non-empty")
    if not name:
        yield invalid(field, key, "name part must be non-empty")
    elif len(name) > 63:
        yield invalid(field, key, "name part must be no more than 63 bytes")
    if not re.fullmatch(_KEY_FORM, name):
        yield invalid(field, key, _KEY)


def _pod(document: Document) -> Iterator[Cause]:
    spec = mapping(document, "spec")
    if not items(spec, "containers"):
        yield required("spec.containers")
    seen: set[str] = set()
    for name in ("containers", "initContainers"):
        for index, container in enumerate(objects(spec, name)):
            yield from _container(f"spec.{name}[{index}]", container, seen)
    policy = text(spec, "restartPolicy")
    if policy not in ("Always", "OnFailure", "Never"):
        yield unsupported("spec.restartPolicy", policy, "Always", "OnFailure", "Never")
    yield from _labels("spec.nodeSelector", mapping(spec, "nodeSelector"))
    for index, toleration in enumerate(objects(spec, "tolerations")):
        field = f"spec.tolerations[{index}].operator"
        operator = text(toleration, "operator")
        if not text(toleration, "key") and operator != "Exists":
            why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield invalid(field, operator, why)
        if operator not in ("", "Equal", "Exists"):
            yield unsupported(field, operator, "Equal", "Exists")
    gates = items(spec, "schedulingGates")
    if gates and text(spec, "nodeName") and not text(document, "metadata", "deletionTimestamp"):
        yield Cause(
            "FieldValueForbidden",
            "Forbidden: cannot be set until all schedulingGates have been cleared",
            "spec.nodeName",
        )
    nominated = text(document, "status", "nominatedNodeName")
    if nominated and not re.fullmatch(_SUBDOMAIN_FORM, nominated):
        yield invalid("status.nominatedNodeName", nominated, SUBDOMAIN)


def _container(field: str, container: Document, seen: set[str]) -> Iterator[Cause]:
    name = text(container, "name")
    if not name:
        yield required(f"{field}.name")
    elif not re.fullmatch(_LABEL_FORM, name) or len(name) > 63:
        yield invalid(f"{field}.name", name, _LABEL)
    elif name in seen:
        yield Cause("FieldValueDuplicate", f'Duplicate value: "{name}"', f"{field}.name")
    seen.add(name)
    if not text(container, "image"):
        yield required(f"{field}.image")
    resources = mapping(container, "resources")
    limits = mapping(resources, "limits")
    for part in ("limits", "requests"):
        for resource, quantity in sorted(mapping(resources, part).items()):
            here = f"{field}.resources.{part}[{resource}]"
            amount = parse(quantity)
            if amount < 0:
                yield invalid(here, str(quantity), "must be greater than or equal to 0")
            if "/" not in resource and resource not in _STANDARD_RESOURCES and not resource.startswith("hugepages-"):
                yield invalid(here, resource, "must be a standard resource type or fully qualified")
                yield invalid(here, resource, "must be a standard resource for containers")
            if "/" in resource and amount != amount.to_integral_value():
                yield invalid(here, str(quantity), "must be an integer")
            if part == "requests" and resource in limits and amount > parse(limits[resource]):
                why = f"must be less than or equal to {resource} limit of {limits[resource]}"
                yield invalid(f"{field}.resources.requests", str(quantity), why)
            elif part == "requests" and "/" in resource and resource not in limits:
                why = "Limit must be set for non overcommitable resources"
                yield required(f"{field}.resources.limits", why)


def _node(document: Document) -> Iterator[Cause]:
    for name in ("capacity", "allocatable"):
        for resource, quantity in mapping(document, "status", name).items():
            if parse(quantity) < 0:
                yield invalid(f"status.{name}.{resource}", str(quantity), "must be greater than or equal to 0")
    for index, taint in enumerate(objects(document, "spec", "taints")):
        field = f"metadata.taints[{index}]"  # so upstream calls it
        yield from _key(f"{field}.key", text(taint, "key"))
        effect = text(taint, "effect")
        if not effect:
            yield required(f"{field}.effect")
        elif effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            yield unsupported(f"{field}.effect", effect, "NoSchedule", "PreferNoSchedule", "NoExecute")


def _lease(document: Document) -> Iterator[Cause]:
    for name in ("leaseDurationSeconds", "leaseTransitions"):
        value = mapping(document, "spec").get(name)
        least = 1 if name == "leaseDurationSeconds" else 0
        if isinstance(value, int) and value < least:
            why = "must be greater than 0" if least else "must be greater than or equal to 0"
            yield invalid(f"spec.{name}", value, why)


def _event(document: Document, *, strict: bool) -> Iterator[Cause]:
    """The checks of new-style events: those with an eventTime or made through events.k8s.io (`strict`)."""
    if text(document, "metadata", "namespace") != (text(document, "involvedObject", "namespace") or "default"):
        yield invalid(
            "involvedObject.namespace", text(document, "involvedObject", "namespace"), "does not match event.namespace"
        )
    if present(document.get("eventTime")):
        for name in ("reportingComponent", "reportingInstance", "action", "reason"):
            if not text(document, name):
                yield required("reportingController" if name == "reportingComponent" else name)
        if len(text(document, "message")) > MAX_NOTE:
            yield invalid("message", "", f"can have at most {MAX_NOTE} characters")
    elif strict:
        yield required("eventTime")
    if strict and text(document, "type") not in ("Normal", "Warning"):
        yield invalid("type", text(document, "type"), "has invalid value: " + text(document, "type"))
