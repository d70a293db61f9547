"""Lists and watches: what of a collection a client sees, at which resourceVersion, in which order."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.sim.apiserver import failures
from carbon_scheduler.sim.apiserver.documents import Document, encode

if TYPE_CHECKING:
    from carbon_scheduler.sim.apiserver.requests import ListOptions, WatchOptions
    from carbon_scheduler.sim.apiserver.store import Change, Collection, Key, Store, Stored
    from carbon_scheduler.sim.apiserver.views import View

_BATCH: Final = 256
_BAD_TOKEN: Final = "invalid continue token: continue key is not valid"
INITIAL_EVENTS_END: Final = {"k8s.io/initial-events-end": "true"}


class _Token(msgspec.Struct):
    """The continue token of release 1.36: where to go on, in the state of which resourceVersion (-1: of now)."""

    v: str
    rv: int
    start: str


def listed(store: Store, collection: Collection, options: ListOptions) -> tuple[list[Stored], Document]:
    """The objects of a list and its metadata (resourceVersion, continue, remainingItemCount).

    Raises Failure 400 for a bad token, 410 for a state that is compacted, 504 for one that is still to come.
    """
    version, after = store.resource_version, None
    if options.continue_token:
        token = _decoded(options.continue_token)
        after = _key(token.start)
        if token.rv >= 0:
            version = token.rv
            if version < collection.compacted:
                again = encode(_Token(token.v, -1, token.start))
                raise failures.expired(failures.CONTINUE_EXPIRED, urlsafe_b64encode(again).rstrip(b"=").decode())
    elif options.resource_version:
        if options.resource_version > store.resource_version:
            raise failures.too_large_resource_version(options.resource_version, store.resource_version)
        if options.exact:
            version = options.resource_version
    found = collection.at(version)
    if found is None:
        raise failures.expired(failures.LIST_EXPIRED)
    chosen = [stored for stored in found if (after is None or stored.key > after) and options.selector(stored.document)]
    metadata: Document = {"resourceVersion": str(version)}
    # A list at resourceVersion 0 comes whole from the real server's watch cache, whatever its limit.
    if 0 < options.limit < len(chosen) and options.resource_version != 0:
        page = chosen[: options.limit]
        namespace, name = page[-1].key
        start = f"{namespace}/{name}\0".lstrip("/")
        metadata["continue"] = urlsafe_b64encode(encode(_Token("meta.k8s.io/v1", version, start))).rstrip(b"=").decode()
        if not (options.selector.labels or options.selector.fields):
            metadata["remainingItemCount"] = len(chosen) - options.limit
        return page, metadata
    return chosen, metadata


def _decoded(token: str) -> _Token:
    try:
        decoded = msgspec.json.decode(urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_Token)
    except ValueError as error:
        raise failures.bad_request(f"{_BAD_TOKEN}: {error}") from error
    if decoded.v != "meta.k8s.io/v1":
        raise failures.bad_request(f"{_BAD_TOKEN}: server does not recognize this encoded version")
    return decoded


def _key(start: str) -> Key:
    namespace, slash, name = start.rstrip("\0").partition("/")
    return (namespace, name) if slash else ("", namespace)


class Feed:
    """One open watch: a position in its collection's log.

    A client that selects gets an object that enters its selection as ADDED and one that leaves it as DELETED.
    """

    def __init__(self, store: Store, collection: Collection, view: View, options: WatchOptions) -> None:
        self._store = store
        self._collection = collection
        self._view = view
        self._selector = options.selector
        version = options.resource_version
        self.expired = bool(version and version + 1 < collection.compacted and not options.initial_events)
        self._whole = options.initial_events or (options.initial_events is None and not version)
        self._ends_initial = options.initial_events is True and options.bookmarks
        self._position = collection.position(version) if version and not self._whole else collection.end

    def initial(self) -> list[bytes]:
        """The present state as ADDED events, with the bookmark that ends it, as far as they were asked for."""
        if not self._whole:
            return []
        chosen = [stored for stored in self._collection.listing() if self._selector(stored.document)]
        lines = [_line(b"ADDED", self._view.one(stored)) for stored in chosen]
        return [*lines, self.bookmark(INITIAL_EVENTS_END)] if self._ends_initial else lines

    def following(self) -> list[bytes] | None:
        """The next events, at most 256; [] when there are none yet, None when they are compacted."""
        lines: list[bytes] = []
        while not lines:
            changes = self._collection.changes(self._position, _BATCH)
            if changes is None:
                return None
            if not changes:
                break
            self._position += len(changes)
            lines = [line for change in changes if (line := self._shown(change))]
        return lines

    def bookmark(self, annotations: Document | None = None) -> bytes:
        """Everything up to now has been sent."""
        return _line(b"BOOKMARK", self._view.bookmark(self._store.resource_version, annotations or {}))

    def _shown(self, change: Change) -> bytes | None:
        stored, type_ = change.stored, change.type
        if not self._selector.everything:
            was = change.before is not None and self._selector(change.before.document)
            is_ = type_ != "DELETED" and self._selector(stored.document)
            if not (was or is_):
                return None
            if type_ == "MODIFIED" and not is_:
                type_, stored = "DELETED", change.left
            elif type_ == "MODIFIED" and not was:
                type_ = "ADDED"
        return _line(type_.encode(), self._view.one(stored))


def _line(type_: bytes, encoded: bytes) -> bytes:
    return b'{"type":"' + type_ + b'","object":' + encoded + b"}\n"


def error_line(failure: failures.Failure) -> bytes:
    """The event that ends a watch which cannot go on."""
    return _line(b"ERROR", encode(failure.status()))
