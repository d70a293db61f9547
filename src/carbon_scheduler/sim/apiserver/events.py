"""core/v1 and events.k8s.io/v1 events: two views of the same objects, stored as core/v1 (pkg/apis/events/v1/conversion.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver.kinds import EVENTS_V1

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.sim.apiserver.documents import Document
    from carbon_scheduler.sim.apiserver.kinds import Kind

_RENAMED: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_ORIGINAL: Final = {new: old for old, new in _RENAMED.items()}
_ALWAYS: Final[Document] = {
    "involvedObject": {},
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
"""Fields that Go writes even when they are empty."""


def shown(document: Document) -> Document:
    """A stored event as events.k8s.io/v1 shows it."""
    return {
        _RENAMED.get(key, key): value
        for key, value in document.items()
        if value != "" or key not in ("reportingComponent", "reportingInstance")
    }


def stored(document: Document) -> Document:
    """An events.k8s.io/v1 event as it is stored."""
    return {_ORIGINAL.get(key, key): value for key, value in document.items()}


def fill_in(document: Document) -> None:
    for key, value in _ALWAYS.items():
        if document.get(key) is None:
            document[key] = dict(value) if isinstance(value, dict) else value


def view_of(kind: Kind) -> Callable[[Document], Document] | None:
    """How `kind` shows a stored document; None when as it is."""
    return shown if kind is EVENTS_V1 else None
