"""Discovery and OpenAPI, as far as kubectl 1.36 and client-go ask for them.

The OpenAPI v3 documents name each kind's paths with the `fieldValidation` parameter (that is how kubectl learns that the
server validates) and no schemas; `kubectl explain` has nothing to show.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha512
from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver.documents import Document, encode
from carbon_scheduler.sim.apiserver.kinds import GROUPS, KINDS

if TYPE_CHECKING:
    from carbon_scheduler.sim.apiserver.kinds import Kind

VERSION: Final = "v1.36.3"
_JSON: Final = "application/json"
_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_VERSION_INFO: Final = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": VERSION,
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def document(path: str, accept: str) -> tuple[str, bytes] | None:
    """Content type and body of a path outside the resources; None when there is none."""
    aggregated = "as=APIGroupDiscoveryList" in accept and "v=v2;" in accept.replace(" ", "") + ";"
    return _document(path.rstrip("/"), aggregated=aggregated)


@cache
def _document(path: str, *, aggregated: bool) -> tuple[str, bytes] | None:
    if path in ("/healthz", "/livez", "/readyz"):
        return "text/plain; charset=utf-8", b"ok"
    if aggregated and path in ("/api", "/apis"):
        return _AGGREGATED, encode(_aggregated(core=path == "/api"))
    found = _plain(path)
    return None if found is None else (_JSON, encode(found))


def _plain(path: str) -> Document | None:
    match path.split("/")[1:]:
        case ["version"]:
            return _VERSION_INFO
        case []:
            return {
                "paths": [
                    "/api",
                    "/api/v1",
                    "/apis",
                    "/healthz",
                    "/livez",
                    "/readyz",
                    "/openapi/v2",
                    "/openapi/v3",
                    "/version",
                ]
            }
        case ["api"]:
            return {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
            }
        case ["apis"]:
            groups = [_group(group, version) for group, version in GROUPS if group]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group]:
            versions = [version for name, version in GROUPS if name == group]
            return {"kind": "APIGroup", "apiVersion": "v1"} | _group(group, versions[0]) if versions else None
        case ["api", "v1"]:
            return _resources("", "v1")
        case ["apis", group, version] if (group, version) in GROUPS:
            return _resources(group, version)
        case ["openapi", "v3"]:
            return {"paths": {place: {"serverRelativeURL": _openapi_url(place)} for place in _PLACES}}
        case ["openapi", "v3", *rest] if "/".join(rest) in _PLACES:
            return _openapi(*_PLACES["/".join(rest)])
        case ["openapi", "v2"]:
            paths = {path: item for group, version in GROUPS for path, item in _paths(group, version).items()}
            return {
                "swagger": "2.0",
                "info": {"title": "Kubernetes", "version": VERSION},
                "paths": paths,
                "definitions": {},
            }
    return None


_PLACES: Final = {
    f"apis/{group}/{version}" if group else f"api/{version}": (group, version) for group, version in GROUPS
}


def _group(group: str, version: str) -> Document:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _of(group: str, version: str) -> list[Kind]:
    return [kind for kind in KINDS if (kind.group, kind.version) == (group, version)]


def _subresources(kind: Kind) -> list[tuple[str, str, str, list[str]]]:
    """(name, group/version, kind, verbs)."""
    found: list[tuple[str, str, str, list[str]]] = []
    if kind.kind == "Pod":
        found += [("binding", "v1", "Binding", ["create"]), ("eviction", "policy/v1", "Eviction", ["create"])]
    if kind.kind == "Namespace":
        found.append(("finalize", "v1", "Namespace", ["update"]))
    if kind.status:
        found.append(("status", kind.api_version, kind.kind, ["get", "patch", "update"]))
    return found


def _verbs(kind: Kind) -> list[str]:
    if kind.kind == "Binding":
        return ["create"]
    return [verb for verb in _VERBS if not (kind.kind == "Namespace" and verb == "deletecollection")]


def _resources(group: str, version: str) -> Document:
    resources: list[Document] = []
    for kind in _of(group, version):
        entry: Document = {
            "name": kind.resource,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _verbs(kind),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        for name, group_version, other, verbs in _subresources(kind):
            sub_group, _, sub_version = group_version.rpartition("/")
            sub: Document = {
                "name": f"{kind.resource}/{name}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": other,
                "verbs": verbs,
            }
            if (sub_group, sub_version) != (group, version):
                sub |= {"group": sub_group, "version": sub_version}
            resources.append(sub)
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _aggregated(*, core: bool) -> Document:
    groups = [
        {
            "metadata": {"name": group or "", "creationTimestamp": None},
            "versions": [{"version": version, "resources": _discovered(group, version), "freshness": "Current"}],
        }
        for group, version in GROUPS
        if (group == "") is core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": groups}


def _discovered(group: str, version: str) -> list[Document]:
    found: list[Document] = []
    for kind in _of(group, version):
        entry: Document = {
            "resource": kind.resource,
            "responseKind": {"group": group, "version": version, "kind": kind.kind},
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "singularResource": kind.singular,
            "verbs": _verbs(kind),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        subresources: list[Document] = []
        for name, group_version, other, verbs in _subresources(kind):
            sub_group, _, sub_version = group_version.rpartition("/")
            response = {"group": sub_group, "version": sub_version, "kind": other}
            subresources.append({"subresource": name, "responseKind": response, "verbs": verbs})
        if subresources:
            entry["subresources"] = subresources
        found.append(entry)
    return found


def _paths(group: str, version: str) -> Document:
    """Each kind's object path with the operations in which clients look for the `fieldValidation` parameter."""
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    parameters = [{"in": "query", "name": "fieldValidation", "schema": {"type": "string", "uniqueItems": True}}]
    found: Document = {}
    for kind in _of(group, version):
        place = f"{root}/namespaces/{{namespace}}/{kind.resource}" if kind.namespaced else f"{root}/{kind.resource}"
        gvk = {"group": group, "version": version, "kind": kind.kind}

        def operation(action: str, gvk: Document = gvk) -> Document:
            return {
                "parameters": parameters,
                "responses": {},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
            }

        found[place] = {"post": operation("post")}
        found[f"{place}/{{name}}"] = {"put": operation("put"), "patch": operation("patch")}
    return found


def _openapi(group: str, version: str) -> Document:
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": _paths(group, version),
        "components": {"schemas": {}},
    }


def _openapi_url(place: str) -> str:
    digest = sha512(encode(_openapi(*_PLACES[place]))).hexdigest().upper()
    return f"/openapi/v3/{place}?hash={digest}"
