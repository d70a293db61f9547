"""How stored objects go out: as themselves, as Table rows for kubectl, or as metadata only; encoded once per version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from carbon_scheduler.sim.apiserver import events, failures
from carbon_scheduler.sim.apiserver.documents import Document, encode
from carbon_scheduler.sim.apiserver.kinds import KINDS
from carbon_scheduler.sim.apiserver.tables import columns, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from carbon_scheduler.sim.apiserver.kinds import Kind
    from carbon_scheduler.sim.apiserver.store import Stored


class View(Protocol):
    """One way to write objects of a kind. All results are JSON."""

    def one(self, stored: Stored) -> bytes: ...

    def many(self, stored: Iterable[Stored], metadata: Document) -> bytes: ...

    def bookmark(self, resource_version: int, annotations: Document) -> bytes: ...


class ObjectView:
    """Objects as they are."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._convert = events.view_of(kind)
        self._name = kind.api_version
        self._head = encode({"kind": kind.kind, "apiVersion": kind.api_version})[:-1] + b","

    def one(self, stored: Stored) -> bytes:
        return self._head + stored.tail(self._name, self._convert)

    def many(self, stored: Iterable[Stored], metadata: Document) -> bytes:
        head = encode({"kind": f"{self._kind.kind}List", "apiVersion": self._name, "metadata": metadata})[:-1]
        name, convert = self._name, self._convert
        return head + b',"items":[' + b",".join(b"{" + each.tail(name, convert) for each in stored) + b"]}"

    def bookmark(self, resource_version: int, annotations: Document) -> bytes:
        metadata: Document = {"resourceVersion": str(resource_version)}
        if annotations:
            metadata["annotations"] = annotations
        body: Document = {"kind": self._kind.kind, "apiVersion": self._name, "metadata": metadata}
        if self._kind.kind == "Pod":
            body |= {"spec": {"containers": None}, "status": {}}
        return encode(body)


class MetadataView:
    """PartialObjectMetadata."""

    def _partial(self, metadata: Document) -> Document:
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}

    def one(self, stored: Stored) -> bytes:
        return encode(self._partial(stored.document["metadata"]))

    def many(self, stored: Iterable[Stored], metadata: Document) -> bytes:
        partial = [self._partial(each.document["metadata"]) for each in stored]
        return encode(
            {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": partial,
            }
        )

    def bookmark(self, resource_version: int, annotations: Document) -> bytes:
        return encode(self._partial({"resourceVersion": str(resource_version), "annotations": annotations}))


class TableView:
    """Rows for `kubectl get`. In a watch only the first event carries the columns, as upstream."""

    def __init__(self, kind: Kind, now: Callable[[], datetime], include: str) -> None:
        self._kind = kind
        self._now = now
        self._include = include
        self._columns_sent = False

    def one(self, stored: Stored) -> bytes:
        definitions = None if self._columns_sent else columns(self._kind)
        self._columns_sent = True
        return self._table(
            [stored], {"resourceVersion": stored.document["metadata"].get("resourceVersion", "")}, definitions
        )

    def many(self, stored: Iterable[Stored], metadata: Document) -> bytes:
        return self._table(stored, metadata, columns(self._kind))

    def bookmark(self, resource_version: int, annotations: Document) -> bytes:
        return self._table([], {"resourceVersion": str(resource_version)}, None)

    def _table(self, stored: Iterable[Stored], metadata: Document, definitions: list[Document] | None) -> bytes:
        now = self._now()
        rows: list[Document] = []
        for each in stored:
            entry: Document = {"cells": row(self._kind, each.document, now)}
            if self._include == "Object":
                entry["object"] = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, **each.document}
            elif self._include != "None":
                partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
                entry["object"] = {**partial, "metadata": each.document["metadata"]}
            rows.append(entry)
        return encode(
            {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "columnDefinitions": definitions,
                "rows": rows,
            }
        )


_PLAIN: Final = ("", "*/*", "application/*", "application/json")
_PLAIN_VIEWS: Final = {(kind.api_version, kind.kind): ObjectView(kind) for kind in KINDS}


def negotiate(kind: Kind, accept: str, now: Callable[[], datetime], include_object: str) -> View:
    """The view that an Accept header asks for. Raises Failure 406 when none of its types can be had."""
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media not in _PLAIN:
            continue
        wanted = dict(part.partition("=")[::2] for part in parameters)
        match wanted.get("as", ""):
            case "Table" if wanted.get("v") == "v1":
                return TableView(kind, now, include_object)
            case "PartialObjectMetadata" | "PartialObjectMetadataList" if wanted.get("v") == "v1":
                return MetadataView()
            case "":
                return _PLAIN_VIEWS[kind.api_version, kind.kind]
    raise failures.not_acceptable()
