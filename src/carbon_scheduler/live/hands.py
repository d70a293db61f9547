"""Carries effects out: Bindings by workers of their own, reads, conditions and evictions by others, events in the background.

What comes of a Binding goes back as an event. Nothing here waits for anything else but a Binding for a condition of the same
pod, and nothing decides.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from carbon_scheduler.core import events
from carbon_scheduler.live.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from carbon_scheduler.core.decision import (
        Bind,
        BindVolumes,
        Evict,
        Nominate,
        Overcommitted,
        PodWarning,
        ReadPod,
        Unschedulable,
    )
    from carbon_scheduler.kube.clock import Clock
    from carbon_scheduler.kube.recorder import EventRecorder
    from carbon_scheduler.kube.writes import Writer
    from carbon_scheduler.observe.log import Narrator
    from carbon_scheduler.observe.metrics import Metrics

    Work = Coroutine[object, object, None]

DRAIN_S: Final = 5.0
"""How long a clean end waits for Bindings under way, then for reads and conditions, then for events."""


class Hands:
    """`answer` takes the events that come back. `concurrency` Bindings, and as many other requests, are under way at most."""

    def __init__(
        self,
        writer: Writer,
        recorder: EventRecorder,
        narrator: Narrator,
        metrics: Metrics,
        clock: Clock,
        answer: Callable[[events.Event], None],
        concurrency: int,
    ) -> None:
        self._writer = writer
        self._conditions = Conditions(writer)
        self._recorder = recorder
        self._narrator = narrator
        self._metrics = metrics
        self._clock = clock
        self._answer = answer
        self._concurrency = concurrency
        self._binds: asyncio.Queue[tuple[Bind, float]] = asyncio.Queue()
        self._chores: asyncio.Queue[Work] = asyncio.Queue()

    @property
    def busy(self) -> bool:
        """Enough Bindings are waiting: deciding further ahead would use older data and pass by higher priorities."""
        return self._binds.qsize() >= 4 * self._concurrency

    def workers(self) -> list[Work]:
        """To be run until cancelled. They raise LeaseLost, and defects."""
        self._recorder.start()
        return [worker() for worker in (self._bind_for_ever, self._do_chores) for _ in range(self._concurrency)]

    # -- effects ---------------------------------------------------------------------------------------------------

    def bind(self, effect: Bind) -> None:
        self._binds.put_nowait((effect, self._clock.monotonic()))

    def bind_volumes(self, effect: BindVolumes) -> None:
        self._chores.put_nowait(self._bind_volumes(effect))

    def read(self, effect: ReadPod) -> None:
        self._chores.put_nowait(self._read(effect))

    def unschedulable(self, effect: Unschedulable) -> None:
        self._recorder.failed_scheduling(effect)
        if self._conditions.want(effect):
            self._chores.put_nowait(self._conditions.write(effect.uid))

    def nominate(self, effect: Nominate) -> None:
        if self._conditions.want(effect):
            self._chores.put_nowait(self._conditions.write(effect.uid))

    def evict(self, effect: Evict) -> None:
        if effect.cancelled:
            self._recorder.preempted(effect)
            return
        self._chores.put_nowait(self._evict(effect))

    def warn(self, effect: PodWarning) -> None:
        self._recorder.warning(effect)

    def overcommitted(self, effect: Overcommitted) -> None:
        self._recorder.overcommitted(effect)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def drain(self) -> bool:
        """Finishes what was begun, within limits. Whether no Binding is under way any more."""
        bound = await _within(DRAIN_S, self._binds.join())
        await _within(DRAIN_S, self._chores.join())
        await self._recorder.close(DRAIN_S)
        return bound

    def drop(self) -> None:
        """Forgets what nobody will do any more."""
        while not self._chores.empty():
            self._chores.get_nowait().close()

    # -- workers ---------------------------------------------------------------------------------------------------

    async def _bind_for_ever(self) -> None:
        while True:
            effect, decided_s = await self._binds.get()
            try:
                await self._bind(effect, decided_s)
            finally:
                self._binds.task_done()

    async def _bind(self, effect: Bind, decided_s: float) -> None:
        await self._conditions.make_way(effect.uid)
        answer = await self._writer.bind(effect)
        at = self._clock.monotonic()
        self._metrics.bind(answer.outcome)
        match answer.outcome:
            case "bound":
                self._narrator.recovered("binding", "Bindings reach the API server again")
                self._narrator.scheduled(effect)
                self._recorder.scheduled(effect)
                self._metrics.attempt("scheduled", at - decided_s, effect.scheduler_name)
                self._metrics.scheduled(effect.attempts, effect.waited_s + at - decided_s)
            case "refused" if answer.code == 0:
                self._narrator.problem("binding", f"{answer.message}; the pods concerned are decided again")
            case "refused":
                self._narrator.refused(effect, answer.code, answer.message)
            case "unknown":
                self._narrator.unknown(effect)
        self._answer(answer.event(effect, at, self._clock.wall()))

    async def _do_chores(self) -> None:
        while True:
            chore = await self._chores.get()
            try:
                await chore
            finally:
                self._chores.task_done()

    async def _evict(self, effect: Evict) -> None:
        answer = await self._writer.evict(effect)
        self._metrics.eviction(answer.outcome)
        match answer.outcome:
            case "evicted":
                self._narrator.recovered("eviction", "Pods can be evicted again")
                self._narrator.evicted(effect)
                self._recorder.preempted(effect)
            case "failed":
                self._narrator.not_evicted(effect, answer.message)
            case "gone":
                pass
        self._answer(answer.event(effect, self._clock.monotonic(), self._clock.wall()))

    async def _bind_volumes(self, effect: BindVolumes) -> None:
        problem = await self._writer.bind_volumes(effect)
        now = self._clock.monotonic(), self._clock.wall()
        if problem:
            self._answer(events.VolumesNotWritten(*now, effect.uid, effect.seq, problem))
        else:
            self._answer(events.VolumesWritten(*now, effect.uid, effect.seq))

    async def _read(self, effect: ReadPod) -> None:
        pod = await self._writer.read_pod(effect.namespace, effect.name, effect.uid)
        self._answer(events.PodRead(self._clock.monotonic(), self._clock.wall(), effect.uid, effect.seq, pod))


async def _within(limit_s: float, waiting: Work) -> bool:
    """Whether it ended in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await waiting
            return True
    return False
