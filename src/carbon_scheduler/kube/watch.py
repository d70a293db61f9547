"""List and watch that is never deaf: whatever ends a stream, what the sink was told equals what the server has.

One `Reflector` per kind: a paged consistent list, then a watch from the list's version, taken up again from the last version
seen after any end of the stream (a clean end is normal: the API server ends a watch that reads slowly in the middle of a
burst). When that version is too old (410, an ERROR event) a fresh list is compared with what the sink knows, so that what was
deleted meanwhile is told too. Kept per object: its identity and version, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from carbon_scheduler.core import model
from carbon_scheduler.errors import AnswerTooLarge, ApiStatusError, ApiUnreachable, ClusterError
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.clock import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbon_scheduler.core.objects import AnyObject
    from carbon_scheduler.kube.client import ApiClient
    from carbon_scheduler.kube.convert import Converter
    from carbon_scheduler.kube.kinds import Kind

_log = logging.getLogger(__name__)

MIN_WATCH_S, MAX_WATCH_S = 300.0, 600.0
"""timeoutSeconds, spread so that watches do not all end together (client-go: 5 to 10 minutes)."""
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.25, 5.0
"""client-go goes up to 30 s; with a handful of streams 5 s harms no server, and an outage ends 5 s earlier for us."""
SHORT_S = 1.0
"""A stream that ended sooner than this without a change counts as a failure: else its renewal would be a busy loop."""
SERVER_FAILURES_BEFORE_RELIST = 5
"""After as many 5xx answers to one resume, the version itself is suspected (a restored etcd knows no such version yet)."""
MIN_PAGE = 16
WARN_EVERY_S = 60.0

W = TypeVar("W", bound=wire.Object)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resource(Generic[W, T]):
    """One kind to follow: where it is, how it is decoded, and what the sink gets of it."""

    path: str
    kind: str
    codec: wire.Codec[W]
    convert: Callable[[W], T]
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """An object was added or changed: as it is now."""

    obj: T


@dataclass(frozen=True, slots=True)
class Gone:
    """An object was deleted, or left the selection. `uid` is "namespace/name" for one without."""

    uid: str
    namespace: str
    name: str


Change = Changed[T] | Gone


class _Known(NamedTuple):
    namespace: str
    name: str
    version: str


class _Stale(Exception):
    """The version we have is of no use any more: list again. Not an error but a way through `run`."""


class Reflector(Generic[W, T]):
    """Follows one resource for ever and tells `sink`, synchronously and in order, one call per received piece.

    `synced` is set after the first complete list. For readiness and metrics: `relists` (lists after the first), `resumes`
    (streams taken up again), `events`, `unreadable` (objects without even a readable name), `last_heard_s` (monotonic
    time of the last sign of life), `problem` (why what the sink knows is out of date, "" when all is well).
    """

    def __init__(
        self,
        client: ApiClient,
        resource: Resource[W, T],
        sink: Callable[[list[Change[T]]], None],
        *,
        page_size: int = 500,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.relists = 0
        self.resumes = 0
        self.events = 0
        self.unreadable = 0
        self.last_heard_s: float | None = None
        self.problem = ""
        self._client = client
        self._sink = sink
        self._page_size = page_size
        self._known: dict[str, _Known] = {}
        self._version = ""
        self._backoff = Backoff(client.chance, base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
        self._progress = False
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._warned = False
        self._warned_s: float | None = None

    def __len__(self) -> int:
        """How many objects the sink knows."""
        return len(self._known)

    async def run(self) -> None:
        """Never returns; cancel it to stop. Raises only what the sink or the conversion raises: those are defects."""
        while True:
            await self._list_until_done()
            try:
                await self._watch_until_stale()
            except _Stale as stale:
                _log.info("%s: listing again: %s", self.resource.kind, stale)
                self.problem = f"listing again: {stale}"
                if not self._progress:
                    await self._client.clock.sleep(self._backoff.next_s())
            self.relists += 1

    async def relist(self) -> None:
        """Ends the stream, lists afresh and returns when the sink was told the outcome (on taking over leadership).

        The list begins after this call. `run` must be running.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wake.set()
        await done

    # -- list

    async def _list_until_done(self) -> None:
        while True:
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._list()
            except ClusterError as error:
                self._waiting = waiting + self._waiting
                if isinstance(error, AnswerTooLarge):
                    self._page_size = max(MIN_PAGE, self._page_size // 2)
                await self._failed(error)
                continue
            except BaseException:
                self._waiting = waiting + self._waiting
                raise
            for done in waiting:
                if not done.done():
                    done.set_result(None)
            return

    async def _list(self) -> None:
        """One consistent list. `resourceVersion` is unset: 0 may be answered from a cache that is behind."""
        names = {(known.namespace, known.name): uid for uid, known in self._known.items()}
        seen: set[str] = set()
        token = ""
        while True:
            params = {**self.resource.params, "limit": str(self._page_size)}
            if token:
                params["continue"] = token
            body = await self._client.request("GET", self.resource.path, params)
            try:
                page = self.resource.codec.page(body)
            except (ValueError, RecursionError) as error:
                raise ClusterError(f"GET {self.resource.path}: the answer is not a list: {str(error)[:200]}") from error
            self._heard()
            self.unreadable += page.unreadable
            changes: list[Change[T]] = []
            for item in page.items:
                uid, known = _identity(item)
                seen.add(uid)
                older = names.get((known.namespace, known.name))
                if older is not None and older != uid and older in self._known:
                    # Deleted and made again under its name while we were deaf: first the end of the one, then the other.
                    changes.append(self._forget(older))
                self._take(uid, known, item, changes)
            if changes:
                self._sink(changes)
            token = page.continue_
            if not token:
                self._version = page.resource_version
                break
        if gone := [self._forget(uid) for uid in list(self._known) if uid not in seen]:
            self._sink(list(gone))
        self._all_is_well()  # not before the last page: until then who knows what was missed
        self._progress = False
        self.synced.set()

    # -- watch

    async def _watch_until_stale(self) -> None:
        watching = asyncio.ensure_future(self._watch())
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({watching, woken}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
        finally:
            for task in (watching, woken):
                task.cancel()
            await asyncio.gather(watching, woken, return_exceptions=True)

    async def _watch(self) -> None:
        server_failures = 0
        while True:
            started_s = self._client.clock.monotonic()
            events = self.events
            try:
                await self._watch_once()
            except AnswerTooLarge as error:
                raise _Stale(str(error)) from error
            except ApiStatusError as error:
                if error.code == 410:
                    raise _Stale(str(error)) from error
                await self._failed(error)
                server_failures += error.code not in (401, 403, 429)
                if server_failures >= SERVER_FAILURES_BEFORE_RELIST:
                    raise _Stale(str(error)) from error
                continue
            except ApiUnreachable as error:
                self.resumes += 1
                if self.events > events:
                    self._backoff.reset()
                await self._failed(error)
                continue
            server_failures = 0
            self.resumes += 1
            if self.events > events or self._client.clock.monotonic() - started_s >= SHORT_S:
                self._backoff.reset()
            else:
                await self._client.clock.sleep(self._backoff.next_s())

    async def _watch_once(self) -> None:
        limit_s = MIN_WATCH_S + (MAX_WATCH_S - MIN_WATCH_S) * self._client.chance.random()
        params = {
            **self.resource.params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(limit_s)),
        }
        async with self._client.stream(self.resource.path, params) as pieces:
            self._heard()
            self._all_is_well()
            async for lines in pieces:
                self._heard()
                self._apply(lines)

    def _apply(self, lines: list[bytes]) -> None:
        changes: list[Change[T]] = []
        version = self._version
        stale: _Stale | None = None
        for line in lines:
            try:
                event = self.resource.codec.event(line)
            except wire.BrokenStream as error:
                stale = _Stale(str(error))
                break
            if event.type == "ERROR":
                status = event.status or wire.Status()
                stale = _Stale(f"the watch ended with {status.code}: {(status.message or '')[:200]}")
                break
            if event.object is None:
                self.unreadable += 1
                if event.type == "DELETED":
                    stale = _Stale("something unreadable was deleted")
                    break
                continue
            uid, known = _identity(event.object)
            if event.type in ("ADDED", "MODIFIED"):
                self._take(uid, known, event.object, changes)
            elif event.type == "DELETED" and uid in self._known:
                changes.append(self._forget(uid))
            version = known.version or version
            self.events += event.type != "BOOKMARK"
        # In one step, without an await between: the version goes on only with what the sink was told.
        if changes:
            self._sink(changes)
        self._version = version
        self._progress = True
        if stale is not None:
            raise stale

    # -- both

    def _take(self, uid: str, known: _Known, found: W, changes: list[Change[T]]) -> None:
        before = self._known.get(uid)
        if before is not None and before.version == known.version and known.version:
            return  # repeated: nothing new
        self._known[uid] = known
        changes.append(Changed(self.resource.convert(found)))

    def _forget(self, uid: str) -> Gone:
        known = self._known.pop(uid)
        return Gone(uid, known.namespace, known.name)

    def _heard(self) -> None:
        self.last_heard_s = self._client.clock.monotonic()

    def _all_is_well(self) -> None:
        self.problem = ""
        if self._warned:
            _log.info("%s: heard again", self.resource.kind)
            self._warned = False

    async def _failed(self, error: ClusterError) -> None:
        # The end of one stream is no news. A second failure in a row is, once, and again a minute later at the earliest.
        now_s = self._client.clock.monotonic()
        quiet = self._warned_s is not None and now_s - self._warned_s < WARN_EVERY_S
        if self._backoff.failures == 0 or self._warned or quiet:
            _log.debug("%s: %s", self.resource.kind, error)
        else:
            _log.warning("%s: %s; trying on", self.resource.kind, error)
            self._warned, self._warned_s = True, now_s
        self.problem = str(error)
        wait_s = self._backoff.next_s()
        if isinstance(error, ApiStatusError) and error.retry_after_s is not None:
            wait_s += error.retry_after_s
        await self._client.clock.sleep(wait_s)


def _identity(found: wire.Object) -> tuple[str, _Known]:
    meta = found.metadata or wire.Meta()
    namespace, name = meta.namespace or "", meta.name or ""
    return meta.uid or f"{namespace}/{name}", _Known(namespace, name, meta.resource_version or "")


def pods(converter: Converter) -> Resource[wire.Pod, model.Pod]:
    """All pods that have not ended, of all schedulers: each counts on its node (reference 2.3)."""
    return Resource(
        "/api/v1/pods",
        "Pod",
        wire.PODS,
        converter.pod,
        {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"},
    )


def nodes(converter: Converter) -> Resource[wire.Node, model.Node]:
    return Resource("/api/v1/nodes", "Node", wire.NODES, converter.node)


def namespaces(converter: Converter) -> Resource[wire.Namespace, model.Namespace]:
    return Resource("/api/v1/namespaces", "Namespace", wire.NAMESPACES, converter.namespace)


def others(kind: Kind) -> Resource[Any, AnyObject]:
    """One of the other kinds."""
    return Resource(kind.path, kind.name, kind.codec, kind.convert)
