"""Kubernetes events about pods and nodes, written as upstream writes them and never in the way of anything else.

Source: k8s.io/client-go v0.36.3 tools/events (event_recorder.go, event_broadcaster.go): names, fields, series, times.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from carbon_scheduler.core.decision import Overcommitted
from carbon_scheduler.errors import ApiStatusError, ApiUnreachable, ClusterError, LeaseLost
from carbon_scheduler.kube.client import STRATEGIC_MERGE, segment
from carbon_scheduler.kube.clock import Backoff

if TYPE_CHECKING:
    from carbon_scheduler.core import decision
    from carbon_scheduler.kube.client import ApiClient

_log = logging.getLogger(__name__)

QUEUE: Final = 1000
TRIES: Final = 12
SERIES_END_S: Final = 360.0
SERIES_REFRESH_S: Final = 1800.0
SWEEP_S: Final = 60.0
MAX_SERIES: Final = 4096
MAX_NOTE_B: Final = 1024
MAX_FIELD: Final = 128
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes two events the same: repeats count up a series instead of making objects.

    Upstream's (getKey) has the pod's resourceVersion instead of the note. A new text of the condition changes that, so there
    too a new reason becomes an event of its own; the same reason need not, as it does there after each write to the pod.
    """

    namespace: str
    name: str
    uid: str
    type: str
    reason: str
    action: str
    controller: str
    note: str


@dataclass(slots=True)
class _Series:
    event: dict[str, object]
    name: str
    made_s: float
    count: int = 1
    last_s: float = 0.0
    written: int = 1
    """The count that the API server was told last."""
    written_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Write:
    namespace: str
    name: str
    event: dict[str, object]
    series: dict[str, object] | None = None


class EventRecorder:
    """Takes events at once, writes them in the background.

    At most `QUEUE` wait; what comes when the queue is full is dropped and counted in `dropped` (as upstream does: the older
    ones tell how it began). `failed` counts those that the API server would not have. `start` it in the loop, `close` it at
    the end.
    """

    def __init__(self, client: ApiClient, *, hostname: str | None = None, workers: int = 8, queue: int = QUEUE) -> None:
        self.dropped = 0
        self.written = 0
        self.failed = 0
        self._client = client
        self._hostname = hostname or socket.gethostname()
        self._workers = workers
        self._queue: asyncio.Queue[_Write] = asyncio.Queue(queue)
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self._complained = False
        self._last_ns = 0

    def start(self) -> None:
        """Starts the workers in the running loop."""
        self._tasks = [asyncio.create_task(self._work(), name=f"events-{n}") for n in range(self._workers)]
        self._tasks.append(asyncio.create_task(self._sweep_for_ever(), name="event-series"))

    def scheduled(self, effect: decision.Bind) -> None:
        """Normal Scheduled: the pod was bound. Happens once per pod, so no series is kept for it."""
        note = f"Successfully assigned {effect.namespace}/{effect.name} to {effect.node}"
        self._new(self._key(effect, "Normal", "Scheduled", "Binding", note))

    def failed_scheduling(self, effect: decision.Unschedulable) -> None:
        """Warning FailedScheduling: an attempt ended without a node."""
        self._repeated(self._key(effect, "Warning", "FailedScheduling", "Scheduling", effect.message))

    def preempted(self, effect: decision.Evict) -> None:
        """Normal Preempted, on the victim: happens once per pod."""
        note = f"Preempted by pod {effect.preemptor_uid} on node {effect.node}"
        if effect.cancelled:
            note += " (in kube-scheduler memory)."
        related = _pod_reference(effect.preemptor_namespace, effect.preemptor_name, effect.preemptor_uid)
        self._new(self._key(effect, "Normal", "Preempted", "Preempting", note), related)

    def overcommitted(self, effect: Overcommitted) -> None:
        """Warning Overcommitted, on the node: once for each spell. Events about nodes live in the namespace `default`."""
        node: dict[str, object] = {"kind": "Node", "apiVersion": "v1", "name": effect.node, "uid": effect.uid}
        self._new(self._key(effect, "Warning", "Overcommitted", "Scheduling", effect.message), regarding=node)

    def warning(self, effect: decision.PodWarning) -> None:
        """A Warning with the effect's own reason."""
        self._repeated(self._key(effect, "Warning", effect.reason, "Scheduling", effect.message))

    async def close(self, limit_s: float = 5.0) -> None:
        """Writes what waits, for at most `limit_s`, and ends. What is left then counts as dropped."""
        self._sweep(self._client.clock.wall(), ending=True)
        if self._tasks:
            joined = asyncio.ensure_future(self._queue.join())
            await asyncio.wait({joined}, timeout=limit_s)
            joined.cancel()
        self.dropped += self._queue.qsize()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def __len__(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    # -- taking in

    def _key(
        self,
        effect: decision.Bind | decision.Unschedulable | decision.Evict | decision.PodWarning | Overcommitted,
        kind: Literal["Normal", "Warning"],
        reason: str,
        action: str,
        note: str,
    ) -> _Key:
        if isinstance(effect, Overcommitted):
            who = "default", str(effect.node), effect.uid
        else:
            who = effect.namespace, effect.name, str(effect.uid)
        return _Key(*who, kind, reason[:MAX_FIELD], action, effect.scheduler_name, cut_note(note))

    def _repeated(self, key: _Key) -> None:
        now_s = self._client.clock.wall()
        series = self._series.get(key)
        if series is None:
            series = self._new(key)
            if series is not None:
                self._series[key] = series
                if len(self._series) > MAX_SERIES:
                    self._series.popitem(last=False)
            return
        series.count += 1
        series.last_s = now_s
        if series.count == 2:  # the first repeat is told at once, later ones by the sweep
            self._tell(key.namespace, series)

    def _new(
        self, key: _Key, related: dict[str, object] | None = None, regarding: dict[str, object] | None = None
    ) -> _Series | None:
        """`regarding` is the key's pod without one."""
        now_s = self._client.clock.wall()
        # A float of seconds is good to 0.2 us only: two events of one moment still need two names.
        self._last_ns = now_ns = max(int(now_s * 1e9), self._last_ns + 1)
        name = f"{key.name}.{now_ns:x}"
        if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
            name = str(uuid.uuid4())
        event: dict[str, object] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": key.namespace},
            "eventTime": _micro_time(now_s),
            "reportingController": key.controller,
            "reportingInstance": f"{key.controller}-{self._hostname}"[:MAX_FIELD],
            "action": key.action,
            "reason": key.reason,
            "regarding": regarding or _pod_reference(key.namespace, key.name, key.uid),
            "note": key.note,
            "type": key.type,
        }
        if related is not None:
            event["related"] = related
        if not self._put(_Write(key.namespace, name, event)):
            return None
        return _Series(event, name, now_s, last_s=now_s, written_s=now_s)

    def _tell(self, namespace: str, series: _Series) -> None:
        told: dict[str, object] = {"count": series.count, "lastObservedTime": _micro_time(series.last_s)}
        if self._put(_Write(namespace, series.name, series.event, told)):
            series.written = series.count
            series.written_s = self._client.clock.wall()

    def _put(self, write: _Write) -> bool:
        try:
            self._queue.put_nowait(write)
        except asyncio.QueueFull:
            self.dropped += 1
            return False
        return True

    # -- writing

    async def _work(self) -> None:
        while True:
            write = await self._queue.get()
            try:
                await self._write(write)
            except LeaseLost:  # nothing may be written any more; who renews the lease ends the process
                self.dropped += 1
                return
            finally:
                self._queue.task_done()

    async def _write(self, write: _Write) -> None:
        backoff = Backoff(self._client.chance, base_s=1.0, cap_s=10.0)
        for _ in range(TRIES):
            try:
                await self._once(write)
            except ApiStatusError as error:
                if error.code < 500 and error.code != 429:
                    # A namespace that is being deleted takes no events (403). One that exists already is written.
                    if error.code != 409:
                        self._complain(error)
                    return
                problem: ClusterError = error
            except ApiUnreachable as error:
                problem = error
            else:
                self.written += 1
                self._complained = False
                return
            await self._client.clock.sleep(backoff.next_s())
        self._complain(problem)

    async def _once(self, write: _Write) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{segment(write.namespace)}/events"
        if write.series is not None:
            try:
                patch = msgspec.json.encode({"series": write.series})
                one = f"{path}/{segment(write.name)}"
                await self._client.request("PATCH", one, body=patch, content_type=STRATEGIC_MERGE)
            except ApiStatusError as error:
                if error.code != 404:  # events expire after an hour: then it is made again, with its series
                    raise
            else:
                return
        event = write.event if write.series is None else {**write.event, "series": write.series}
        await self._client.request("POST", path, body=msgspec.json.encode(event))

    def _complain(self, error: ClusterError) -> None:
        self.failed += 1
        if not self._complained:
            self._complained = True
            _log.warning("an event was not written: %s", error)

    # -- series

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._client.clock.sleep(SWEEP_S)
            self._sweep(self._client.clock.wall())

    def _sweep(self, now_s: float, ending: bool = False) -> None:
        """Ends series that were quiet for six minutes with their last count; refreshes long ones each half hour."""
        for key, series in list(self._series.items()):
            quiet = now_s - series.last_s >= SERIES_END_S
            due = quiet or ending or now_s - series.written_s >= SERIES_REFRESH_S
            if due and series.count > series.written:
                self._tell(key.namespace, series)
            if quiet:
                del self._series[key]


def cut_note(note: str) -> str:
    """At most 1,024 bytes, " ..." at the end when cut (truncateMessage, schedule_one.go), never inside a letter."""
    raw = note.encode("utf-8", "replace")
    if len(raw) <= MAX_NOTE_B:
        return raw.decode()
    return raw[: MAX_NOTE_B - 4].decode(errors="ignore") + " ..."


def _pod_reference(namespace: str, name: str, uid: str) -> dict[str, object]:
    return {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": uid}


def _micro_time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
