"""Carrying effects out: what becomes of them goes back as events, and a clean end finishes what was begun."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from builders import WALL
from carbon_scheduler.core import events
from carbon_scheduler.core.decision import Bind, Decision, Evict
from carbon_scheduler.core.model import NodeName, PodUid
from carbon_scheduler.kube.clock import SystemClock
from carbon_scheduler.kube.writes import BindAnswer, EvictAnswer
from carbon_scheduler.live import hands as module
from carbon_scheduler.live.hands import Hands
from carbon_scheduler.observe.log import Narrator, Sink
from carbon_scheduler.observe.metrics import Metrics
from carbon_scheduler.observe.redact import Redactor


def bind(name: str, seq: int = 1) -> Bind:
    decision = Decision(
        seq, int(WALL * 1e6), NodeName("n"), None, None, None, None, None, 1, "off", NodeName("n"), None
    )
    return Bind(PodUid(f"u-{name}"), "default", name, NodeName("n"), decision)


class FakeWriter:
    """Answers each Binding as it is told; `gate` holds them back while it is not set."""

    def __init__(self, answer: BindAnswer) -> None:
        self.answer = answer
        self.evictions: dict[str, EvictAnswer] = {}
        self.gate = asyncio.Event()
        self.asked: list[str] = []

    async def evict(self, effect: Evict) -> EvictAnswer:
        return self.evictions[effect.name]

    async def bind(self, effect: Bind) -> BindAnswer:
        self.asked.append(effect.name)
        await self.gate.wait()
        return self.answer


class FakeRecorder:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.closed = False

    def start(self) -> None: ...

    def preempted(self, effect: Evict) -> None:
        self.said.append(f"{effect.name} for {effect.preemptor_name}")

    def scheduled(self, effect: Bind) -> None:
        self.said.append(effect.name)

    async def close(self, limit_s: float) -> None:
        self.closed = True


@asynccontextmanager
async def working(
    writer: FakeWriter, concurrency: int = 2
) -> AsyncIterator[tuple[Hands, list[Any], list[str], FakeRecorder]]:
    heard: list[Any] = []
    lines: list[str] = []
    recorder = FakeRecorder()
    hands = Hands(
        writer,  # type: ignore[arg-type]
        recorder,  # type: ignore[arg-type]
        Narrator(Sink("text", lines.append, Redactor())),
        Metrics(),
        SystemClock(),
        heard.append,
        concurrency,
    )
    tasks = [asyncio.ensure_future(worker) for worker in hands.workers()]
    try:
        yield hands, heard, lines, recorder
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


OUTCOMES: dict[str, tuple[BindAnswer, type, list[str]]] = {
    "bound": (BindAnswer("bound", 201), events.Bound, ["a"]),
    "refused": (BindAnswer("refused", 409, "no"), events.Refused, []),
    "never sent": (BindAnswer("refused", 0, "connection refused"), events.Refused, []),
    "lost": (BindAnswer("unknown", 0, "cut"), events.Unknown, []),
}


@pytest.mark.parametrize(("answer", "want", "recorded"), OUTCOMES.values(), ids=OUTCOMES)
async def test_the_outcome_of_a_binding_comes_back_as_an_event(
    answer: BindAnswer, want: type, recorded: list[str]
) -> None:
    writer = FakeWriter(answer)
    writer.gate.set()
    async with working(writer) as (hands, heard, _, recorder):
        hands.bind(bind("a", seq=7))
        assert await hands.drain()
        assert [(type(event), event.uid, event.seq) for event in heard] == [(want, "u-a", 7)]
        assert recorder.said == recorded
        assert recorder.closed


async def test_it_is_busy_when_four_times_as_many_wait_as_can_be_sent() -> None:
    writer = FakeWriter(BindAnswer("bound", 201))
    async with working(writer, concurrency=2) as (hands, heard, _, _):
        for n in range(9):
            hands.bind(bind(f"p{n}"))
        await asyncio.sleep(0)
        assert not hands.busy  # two are under way, seven wait
        hands.bind(bind("one more"))
        assert hands.busy
        writer.gate.set()
        assert await hands.drain()
        assert len(heard) == 10
        assert not hands.busy


async def test_a_binding_that_does_not_end_is_said_to_be_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.01)
    async with working(FakeWriter(BindAnswer("bound", 201))) as (hands, heard, _, recorder):
        hands.bind(bind("stuck"))
        assert not await hands.drain()
        assert heard == []
        assert recorder.closed


async def test_what_becomes_of_victims_is_told_and_comes_back() -> None:
    writer = FakeWriter(BindAnswer("bound"))
    writer.evictions = {
        "low": EvictAnswer("evicted", 200),
        "gone": EvictAnswer("gone", 404),
        "kept": EvictAnswer("failed", 403, "forbidden"),
        "kept-too": EvictAnswer("failed", 403, "forbidden"),
    }
    async with working(writer) as (hands, heard, lines, recorder):
        for name in writer.evictions:
            uid = PodUid(f"u-{name}")
            hands.evict(Evict(uid, "default", name, NodeName("n"), PodUid("u-high"), "default", "high"))
        assert await hands.drain()
    found = {event.uid: type(event) for event in heard}
    assert found == {
        "u-low": events.Evicted,
        "u-gone": events.Evicted,
        "u-kept": events.NotEvicted,
        "u-kept-too": events.NotEvicted,
    }
    assert recorder.said == ["low for high"]
    assert sum("evicted from n to make room for default/high" in line for line in lines) == 1
    assert sum("was not evicted: forbidden" in line for line in lines) == 1, "a problem is said once"
