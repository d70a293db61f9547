"""What a request asks for: path, verb and options, read and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.sim.apiserver import failures
from carbon_scheduler.sim.apiserver.kinds import BY_PATH, NAMESPACES, Kind
from carbon_scheduler.sim.apiserver.selectors import Selector, parse_fields, parse_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUBRESOURCES: Final = {"pods": ("binding", "eviction"), "namespaces": ("finalize",)}
_ITEM_VERBS: Final = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION_VERBS: Final = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("", "0", "f", "F", "FALSE", "false", "False")


class Target(msgspec.Struct, frozen=True):
    """Kind, place and verb of a request. `name` "" is the collection."""

    kind: Kind
    verb: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """As RBAC writes it: `pods`, `pods/binding`."""
        return f"{self.kind.resource}/{self.subresource}" if self.subresource else self.kind.resource


class ListOptions(msgspec.Struct, frozen=True):
    """`resource_version` None: not given (the newest state)."""

    selector: Selector
    resource_version: int | None = None
    exact: bool = False
    limit: int = 0
    continue_token: str = ""


class WatchOptions(msgspec.Struct, frozen=True):
    selector: Selector
    resource_version: int | None = None
    bookmarks: bool = False
    initial_events: bool | None = None
    """None: not said, then decided by the resourceVersion."""
    timeout_s: int | None = None


def parse_target(method: str, path: str, query: Mapping[str, str]) -> Target | None:
    """The target of an API path; None when it is no path of a known resource. Raises Failure 404, 405."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and not (group == "" and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    kind = BY_PATH.get((group, version, rest[0]))
    if kind is None or len(rest) > 3:
        raise failures.no_such_resource()
    name, subresource = (*rest[1:], "", "")[:2]
    if namespace and not kind.namespaced:
        raise failures.no_such_resource()
    if (
        subresource
        and not (kind.status and subresource == "status")
        and subresource not in _SUBRESOURCES.get(rest[0], ())
    ):
        raise failures.no_such_resource()
    return Target(kind, _verb(method, kind, namespace, name, subresource, query), namespace, name, subresource)


def _verb(method: str, kind: Kind, namespace: str, name: str, subresource: str, query: Mapping[str, str]) -> str:
    if subresource in ("binding", "eviction"):
        verb = "create" if method == "POST" else ""
    elif subresource:
        verb = _ITEM_VERBS.get(method, "") if method != "DELETE" else ""
    elif name:
        verb = _ITEM_VERBS.get(method, "")
    else:
        verb = _COLLECTION_VERBS.get(method, "")
        if kind.namespaced and not namespace and verb in ("create", "deletecollection"):
            verb = ""
        if kind is NAMESPACES and verb == "deletecollection":
            verb = ""
    if kind.kind == "Binding" and verb != "create":
        verb = ""
    if not verb or (name and kind.namespaced and not namespace):
        raise failures.method_not_allowed()
    return "watch" if verb == "list" and flag(query, "watch") else verb


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean of the query: anything but an explicit no is yes, as the real server reads it."""
    return query.get(name, "") not in _FALSE


def number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number of the query. Raises Failure 400."""
    written = query.get(name, "")
    if not written:
        return None
    digits = written.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise failures.bad_request(f'strconv.ParseInt: parsing "{written}": invalid syntax')
    return int(written)


def dry_run(query: Mapping[str, str], options_kind: str) -> bool:
    """Whether the write is only tried. Raises Failure 422 for anything but All."""
    written = query.get("dryRun", "")
    if written not in ("", "All"):
        why = f'Unsupported value: ["{written}"]: supported values: "All"'
        raise failures.invalid_options(options_kind, "dryRun", "FieldValueNotSupported", why)
    validation = query.get("fieldValidation", "")
    if validation not in ("", "Ignore", "Strict", "Warn"):
        why = f'Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"'
        raise failures.invalid_options(options_kind, "fieldValidation", "FieldValueNotSupported", why)
    return written == "All"


def selector(target: Target, query: Mapping[str, str]) -> Selector:
    """Raises Failure 400 for what cannot be parsed."""
    return Selector(
        target.namespace,
        parse_labels(query.get("labelSelector", "")),
        parse_fields(target.kind, query.get("fieldSelector", "")),
    )


def list_options(target: Target, query: Mapping[str, str]) -> ListOptions:
    """Raises Failure 400 and 422 for what does not fit together."""
    if query.get("sendInitialEvents"):
        raise _forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
    match = query.get("resourceVersionMatch", "")
    given = query.get("resourceVersion", "")
    if match not in ("", "Exact", "NotOlderThan"):
        why = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        raise failures.invalid_options("ListOptions", "resourceVersionMatch", "FieldValueNotSupported", why)
    if match and not given:
        raise _forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match == "Exact" and given == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise _forbidden("resourceVersionMatch", why)
    token = query.get("continue", "")
    if token and given not in ("", "0"):
        raise failures.bad_request("specifying resource version is not allowed when using continue")
    limit = number(query, "limit") or 0
    version = _version(given, "invalid resource version: ")
    exact = match == "Exact" or (bool(version) and limit > 0 and not match)
    return ListOptions(selector(target, query), version, exact, limit, token)


def watch_options(target: Target, query: Mapping[str, str]) -> WatchOptions:
    """Raises Failure 400, 422 and, for a resourceVersion that is no number, 500 as the real server does."""
    initial = query.get("sendInitialEvents", "")
    match = query.get("resourceVersionMatch", "")
    if initial and match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise _forbidden("resourceVersionMatch", why)
    if match and not initial:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise _forbidden("resourceVersionMatch", why)
    timeout_s = number(query, "timeoutSeconds")
    try:
        version = _version(query.get("resourceVersion", ""), "")
    except failures.Failure as failure:
        raise failures.Failure(500, "", failure.message) from failure
    return WatchOptions(
        selector=selector(target, query),
        resource_version=version,
        bookmarks=flag(query, "allowWatchBookmarks"),
        initial_events=initial in _TRUE if initial else None,
        timeout_s=timeout_s,
    )


def _version(written: str, prefix: str) -> int | None:
    if not written:
        return None
    if not (written.isascii() and written.isdigit() and len(written) < 20):
        why = f'strconv.ParseUint: parsing "{written}": invalid syntax'
        raise failures.bad_request(f'{prefix}resourceVersion: Invalid value: "{written}": {why}')
    return int(written)


def _forbidden(field: str, why: str) -> failures.Failure:
    return failures.invalid_options("ListOptions", field, "FieldValueForbidden", f"Forbidden: {why}")
