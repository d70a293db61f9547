"""The three kinds of patches: JSON merge (RFC 7386), JSON patch (RFC 6902), Kubernetes' strategic merge.

A strategic merge joins the lists named in `MERGE_KEYS` by that key and replaces every other list, as the struct tags of
k8s.io/api say. Server-side apply is carried out as a strategic merge without owners of fields: nothing is taken away when
a manager stops naming a field, and there are never conflicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from carbon_scheduler.sim.apiserver.documents import Document, copied, decode, mapping
from carbon_scheduler.sim.apiserver.failures import Failure, bad_request, rejected_patch, unsupported_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MERGE_KEYS: Final = {
    ("status", "conditions"): "type",
    ("status", "addresses"): "type",
    ("status", "podIPs"): "ip",
    ("status", "hostIPs"): "ip",
    ("metadata", "ownerReferences"): "uid",
    ("spec", "schedulingGates"): "name",
    ("spec", "imagePullSecrets"): "name",
    ("spec", "hostAliases"): "ip",
    ("spec", "topologySpreadConstraints"): "topologyKey",
    ("spec", "volumes"): "name",
    ("spec", "containers"): "name",
    ("spec", "initContainers"): "name",
    ("spec", "ephemeralContainers"): "name",
    ("spec", "ports"): "port",
    ("containers", "env"): "name",
    ("containers", "ports"): "containerPort",
    ("containers", "volumeMounts"): "mountPath",
    ("containers", "volumeDevices"): "devicePath",
    ("initContainers", "env"): "name",
    ("initContainers", "ports"): "containerPort",
    ("initContainers", "volumeMounts"): "mountPath",
}
"""(name of the list that the object is in, or the field above; name of the list) -> the key that its entries merge by."""
_SETS: Final = {("metadata", "finalizers")}
"""Lists of plain values that merge as sets. (Taints and tolerations are atomic.)"""


def check_type(content_type: str) -> None:
    """Raise Failure 415 for a content type that is no patch."""
    if content_type not in _PATCHES:
        raise unsupported_patch()


def applied(document: Document, content_type: str, body: bytes | Document) -> Document:
    """`document` with a patch of that content type applied; it is not changed itself. Raises Failure 400, 415, 422, 500."""
    check_type(content_type)
    return _PATCHES[content_type](document, body)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386. Neither argument is changed."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Document, above: str = "") -> Document:
    """A strategic merge patch applied to `target`, which is not changed. Raises Failure for directives that contradict."""
    if patch.get("$patch") == "replace":
        return {key: copied(value) for key, value in patch.items() if key != "$patch"}
    result: Document = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [entry for entry in result.get(name) or [] if entry not in value]
        elif key.startswith("$retainKeys"):
            result = {name: kept for name, kept in result.items() if name in value}
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            if value.get("$patch") == "delete":
                result.pop(key, None)
            else:
                result[key] = strategic(result.get(key), value, key)
        elif isinstance(value, list):
            order = patch.get(f"$setElementOrder/{key}")
            result[key] = _lists(result.get(key), value, (above, key), order)
        else:
            result[key] = value
    for key, order in patch.items():
        name = key.partition("/")[2]
        if key.startswith("$setElementOrder/") and name not in patch and isinstance(result.get(name), list):
            merge_key = MERGE_KEYS.get((above, name))
            result[name] = _arranged(result[name], order if isinstance(order, list) else [], result[name], merge_key)
    return result


def _lists(current: Any, patch: list[Any], where: tuple[str, str], order: Any) -> list[Any]:
    """One list merged by its key, as a set, or replaced. `order` is the patch's $setElementOrder, if any."""
    key = MERGE_KEYS.get(where)
    before: list[Any] = list(current) if isinstance(current, list) else []
    if key is None and where not in _SETS:
        return [copied(entry) for entry in patch]
    if {"$patch": "replace"} in patch:
        return [copied(entry) for entry in patch if entry != {"$patch": "replace"}]
    merged = list(dict.fromkeys([*before, *patch])) if key is None else _merged_by_key(before, patch, where[1], key)
    return _arranged(merged, order if isinstance(order, list) else patch, before, key)


def _merged_by_key(before: list[Any], patch: list[Any], name: str, key: str) -> list[Any]:
    merged = list(before)
    for entry in patch:
        if not isinstance(entry, dict) or key not in entry:
            raise Failure(500, "", f"map: {entry} does not contain declared merge key: {key}")
        place = next((i for i, each in enumerate(merged) if _identity(each, key) == entry[key]), None)
        if entry.get("$patch") == "delete":
            if place is not None:
                del merged[place]
        elif place is None:
            merged.append(strategic({}, entry, name))
        else:
            merged[place] = strategic(merged[place], entry, name)
    return merged


def _identity(entry: Any, key: str | None) -> Any:
    return entry.get(key) if key and isinstance(entry, dict) else entry


def _arranged(merged: list[Any], order: list[Any], before: list[Any], key: str | None) -> list[Any]:
    """Entries of the patch in its order, the others in theirs; interleaved as they were before, new entries first
    (mergeSortedSlice of apimachinery/pkg/util/strategicpatch)."""
    wanted = [_identity(entry, key) for entry in order]
    was = [_identity(entry, key) for entry in before]
    named = [entry for entry in merged if _identity(entry, key) in wanted]
    named.sort(key=lambda entry: wanted.index(_identity(entry, key)))
    others = [entry for entry in merged if _identity(entry, key) not in wanted]
    result: list[Any] = []
    while named and others:
        left, right = _identity(others[0], key), _identity(named[0], key)
        first = others if left in was and right in was and was.index(left) < was.index(right) else named
        result.append(first.pop(0))
    return [*result, *named, *others]


def json_patch(target: Document, operations: Iterable[Any]) -> Document:
    """RFC 6902. `target` is not changed. Raises Failure 422 when an operation does not apply, without saying which, as
    the real server does."""
    document: Any = copied(target)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise rejected_patch() from error
    if not isinstance(document, dict):
        raise rejected_patch()
    return document


def _operate(document: Any, operation: Document) -> Any:
    verb, path = operation["op"], _pointer(operation["path"])
    match verb:
        case "test":
            if _resolve(document, path) != operation["value"]:
                raise ValueError("test failed")
            return document
        case "add":
            return _put(document, path, copied(operation["value"]), insert=True)
        case "replace":
            _resolve(document, path)
            return _put(document, path, copied(operation["value"]), insert=False)
        case "remove":
            _take(document, path)
            return document
        case "copy":
            return _put(document, path, copied(_resolve(document, _pointer(operation["from"]))), insert=True)
        case "move":
            return _put(document, path, _take(document, _pointer(operation["from"])), insert=True)
    raise ValueError(verb)


def _pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(path)
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _resolve(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _put(document: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent, last = _resolve(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        index = len(parent) if last == "-" else int(last)
        if not 0 <= index <= len(parent):
            raise IndexError(last)
        if insert:
            parent.insert(index, value)
        else:
            parent[index] = value
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise TypeError(last)
    return document


def _take(document: Any, path: list[str]) -> Any:
    parent, last = _resolve(document, path[:-1]), path[-1]
    return parent.pop(int(last)) if isinstance(parent, list) else parent.pop(last)


def _parsed(body: bytes | Document, said_before: str) -> object:
    if isinstance(body, dict):
        return body
    try:
        return decode(body)
    except msgspec.DecodeError as error:
        why = "unexpected end of JSON input" if "truncated" in str(error) else str(error)
        raise bad_request(f"{said_before}{why}") from error


def _object(body: bytes | Document, said_before: str = "") -> Document:
    patch = _parsed(body, said_before)
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
    return patch


def _json_merge(document: Document, body: bytes | Document) -> Document:
    merged = merge(document, _object(body, "error decoding patch: "))
    return mapping(merged)


def _strategic(document: Document, body: bytes | Document) -> Document:
    return strategic(document, _object(body))


def _operations(document: Document, body: bytes | Document) -> Document:
    operations = _parsed(body, "error decoding patch: ")
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    return json_patch(document, operations)


_PATCHES: Final[dict[str, Callable[[Document, bytes | Document], Document]]] = {
    "application/merge-patch+json": _json_merge,
    "application/strategic-merge-patch+json": _strategic,
    "application/json-patch+json": _operations,
    "application/apply-patch+yaml": _strategic,
}
