"""The objects, their history, and one resourceVersion for all of them.

Each collection keeps its objects and a log of changes. A watch is a position in that log, so watchers share the encoded
lines and a slow one costs nothing; a list at an earlier resourceVersion is the present with the later changes undone.
Everything happens on one thread and nothing here awaits: a read followed by a write is atomic.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from carbon_scheduler.sim.apiserver.documents import Document, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ChangeType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED"]
Key: TypeAlias = tuple[str, str]
"""(namespace, name); "" namespace for what belongs to none. Sorts as the real server lists."""

KEPT_CHANGES: Final = 20_000
"""Changes per collection that can be watched again; beyond it the oldest half is compacted."""
FIRST_RESOURCE_VERSION: Final = 100


class Stored:
    """One version of one object, without `kind` and `apiVersion`, which belong to the view.

    `tail(view)` is the JSON from behind those two on, encoded once for all lists and watches.
    """

    __slots__ = ("_tails", "document", "key", "resource_version")

    def __init__(self, key: Key, document: Document, resource_version: int) -> None:
        self.key = key
        self.document = document
        self.resource_version = resource_version
        self._tails: dict[str, bytes] = {}

    def tail(self, view: str, convert: Callable[[Document], Document] | None) -> bytes:
        """`"metadata":{...},...}` as `view` shows it. Cost: one encoding per version and view."""
        tail = self._tails.get(view)
        if tail is None:
            document = convert(self.document) if convert else self.document
            tail = self._tails[view] = encode(document)[1:]
        return tail


class Change:
    """One entry of a log. `stored` of a deletion carries the resourceVersion of the deletion; `before` is what was there."""

    __slots__ = ("_left", "before", "stored", "type")

    def __init__(self, type_: ChangeType, stored: Stored, before: Stored | None) -> None:
        self.type = type_
        self.stored = stored
        self.before = before
        self._left: Stored | None = None

    @property
    def resource_version(self) -> int:
        return self.stored.resource_version

    @property
    def left(self) -> Stored:
        """What a watch sends that the object has just left the selection of: the old state at the new resourceVersion."""
        if self._left is None:
            old = (self.before or self.stored).document
            self._left = Stored(self.stored.key, _at(old, self.resource_version), self.resource_version)
        return self._left


class Collection:
    """All objects of one storage, with the log of their changes. Made by the Store."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[Key, Stored] = {}
        self.compacted = 0
        """The oldest state that can still be listed; a watch can still start one before it."""
        self._log: list[Change] = []
        self._dropped = 0
        self._order: list[Key] | None = None
        self._listeners: set[Callable[[], None]] = set()

    @property
    def end(self) -> int:
        """The position behind the last change: where a new watch of "now" starts."""
        return self._dropped + len(self._log)

    def position(self, resource_version: int) -> int:
        """The position of the first change after `resource_version`."""
        return self._dropped + bisect_right(self._log, resource_version, key=lambda change: change.resource_version)

    def changes(self, position: int, limit: int) -> Sequence[Change] | None:
        """Up to `limit` changes from `position` on; None when some of them are compacted."""
        start = position - self._dropped
        return None if start < 0 else self._log[start : start + limit]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each change; returns the call that ends it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def wake(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def listing(self) -> Iterable[Stored]:
        """All objects in the order of their keys."""
        if self._order is None:
            self._order = sorted(self.objects)
        return map(self.objects.__getitem__, self._order)

    def at(self, resource_version: int) -> Iterable[Stored] | None:
        """All objects as they were then, in the order of their keys; None when that is compacted."""
        if resource_version < self.compacted:
            return None
        past: dict[Key, Stored | None] = {}
        for change in reversed(self._log[self.position(resource_version) - self._dropped :]):
            past[change.stored.key] = change.before
        if not past:
            return self.listing()
        now = {key: stored for key, stored in self.objects.items() if key not in past}
        merged = now | {key: stored for key, stored in past.items() if stored is not None}
        return map(merged.__getitem__, sorted(merged))

    def record(self, change: Change) -> None:
        key = change.stored.key
        if change.type == "DELETED":
            del self.objects[key]
            self._order = None
        else:
            if key not in self.objects:
                self._order = None
            self.objects[key] = change.stored
        self._log.append(change)
        if len(self._log) > KEPT_CHANGES:
            self._drop(KEPT_CHANGES // 2)
        self.wake()

    def compact(self, resource_version: int) -> None:
        """Forget the states before `resource_version`."""
        self._drop(self.position(resource_version - 1) - self._dropped)
        self.compacted = max(self.compacted, resource_version)

    def _drop(self, count: int) -> None:
        if count > 0:
            self.compacted = self._log[count - 1].resource_version + 1
            del self._log[:count]
            self._dropped += count


class Store:
    """All collections, and the one counter of versions."""

    def __init__(self) -> None:
        self.resource_version = FIRST_RESOURCE_VERSION
        self._collections: dict[str, Collection] = {}

    def collection(self, name: str) -> Collection:
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = Collection(name)
        return found

    def collections(self) -> Iterable[Collection]:
        return tuple(self._collections.values())

    def put(self, storage: str, key: Key, document: Document) -> Stored:
        """Create or replace an object. The stored document is `document` with the new resourceVersion in its metadata."""
        collection = self.collection(storage)
        before = collection.objects.get(key)
        self.resource_version += 1
        stored = Stored(key, _at(document, self.resource_version), self.resource_version)
        collection.record(Change("MODIFIED" if before else "ADDED", stored, before))
        return stored

    def remove(self, storage: str, key: Key) -> Stored:
        """Delete an object that is there; returns its last state, with the resourceVersion of the deletion."""
        collection = self.collection(storage)
        before = collection.objects[key]
        self.resource_version += 1
        stored = Stored(key, _at(before.document, self.resource_version), self.resource_version)
        collection.record(Change("DELETED", stored, before))
        return stored

    def compact(self, resource_version: int | None = None) -> None:
        """Forget all states before `resource_version` (None: before now): older lists and watches get 410."""
        upto = self.resource_version if resource_version is None else resource_version
        for collection in self._collections.values():
            collection.compact(upto)


def _at(document: Document, resource_version: int) -> Document:
    return {**document, "metadata": {**document["metadata"], "resourceVersion": str(resource_version)}}
