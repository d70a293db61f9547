"""Conditions give way to Bindings: what is queued, what is under way, what is said again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from carbon_scheduler.core.decision import Nominate, Unschedulable
from carbon_scheduler.core.model import NodeName, PodUid
from carbon_scheduler.live.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = PodUid("a"), PodUid("b")


class SlowWriter:
    """Each request waits for `answer`; a failed one is tried again while it is wanted, as the real one does."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self._answers: asyncio.Queue[bool] = asyncio.Queue()

    async def answer(self, *, well: bool = True) -> None:
        self._answers.put_nowait(well)
        await _settle()

    async def condition(self, effect: Unschedulable | Nominate, still_wanted: Callable[[], bool]) -> bool:
        while True:
            assert isinstance(effect, Unschedulable)
            self.begun.append(effect.message)
            if await self._answers.get():
                self.done.append(effect.message)
                return True
            if not still_wanted():
                return False


def said(uid: PodUid, message: str) -> Unschedulable:
    return Unschedulable(uid, "default", uid, "Unschedulable", message, patch=True)


async def _settle() -> None:
    """All tasks run until each waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_text_that_is_under_way_is_not_written_twice() -> None:
    writer = SlowWriter()
    conditions = Conditions(writer)
    assert conditions.want(said(A, "full"))
    writing = asyncio.create_task(conditions.write(A))
    await _settle()
    assert not conditions.want(said(A, "full"))
    await writer.answer()
    await writing
    assert writer.done == ["full"]
    assert conditions.want(said(A, "full")), "it is wanted again: the API server may have lost it"


async def test_the_latest_text_wins_and_comes_after_the_one_under_way() -> None:
    writer = SlowWriter()
    conditions = Conditions(writer)
    conditions.want(said(A, "first"))
    first = asyncio.create_task(conditions.write(A))
    await _settle()
    assert conditions.want(said(A, "second"))
    second = asyncio.create_task(conditions.write(A))
    assert not conditions.want(said(A, "third")), "the call that is to come will write it"
    await _settle()
    assert writer.begun == ["first"]
    await writer.answer()
    await writer.answer()
    await asyncio.gather(first, second)
    assert writer.done == ["first", "third"]


async def test_the_text_under_way_wanted_again_after_another_one_is_written_last() -> None:
    writer = SlowWriter()
    conditions = Conditions(writer)
    conditions.want(said(A, "first"))
    first = asyncio.create_task(conditions.write(A))
    await _settle()
    conditions.want(said(A, "second"))
    assert not conditions.want(said(A, "first"))
    second = asyncio.create_task(conditions.write(A))
    await writer.answer()
    await writer.answer()
    await asyncio.gather(first, second)
    assert writer.done == ["first", "first"]


async def test_a_binding_drops_what_is_queued() -> None:
    writer = SlowWriter()
    conditions = Conditions(writer)
    conditions.want(said(A, "full"))
    conditions.want(said(B, "full as well"))
    await conditions.make_way(A)
    await conditions.write(A)
    assert writer.begun == []
    other = asyncio.create_task(conditions.write(B))
    await writer.answer()
    await other
    assert writer.done == ["full as well"]


async def test_a_binding_waits_for_the_request_under_way_and_no_longer() -> None:
    writer = SlowWriter()
    conditions = Conditions(writer)
    conditions.want(said(A, "full"))
    writing = asyncio.create_task(conditions.write(A))
    await _settle()
    binding = asyncio.create_task(conditions.make_way(A))
    await conditions.make_way(B)  # another pod's is not held up
    await _settle()
    assert not binding.done()
    await writer.answer(well=False)
    await asyncio.gather(binding, writing)
    assert writer.begun == ["full"], "not tried again: the pod is being bound"


async def test_a_nomination_taken_away_meanwhile_is_not_written() -> None:
    written: list[Unschedulable | Nominate] = []

    class Writer:
        async def condition(self, effect: Unschedulable | Nominate, still_wanted: Callable[[], bool]) -> bool:
            written.append(effect)
            return still_wanted()

    n, clear = NodeName("n"), Nominate(A, "default", A)
    there = Nominate(A, "default", A, n)
    kept = msgspec.structs.replace(said(A, "full"), nominate=n)
    table: dict[str, tuple[list[Unschedulable | Nominate], object]] = {
        "cleared after": ([kept, clear], msgspec.structs.replace(kept, nominate="")),
        "cleared before": ([clear, kept], kept),
        "not spoken of after": ([kept, said(A, "fuller")], msgspec.structs.replace(said(A, "fuller"), nominate=n)),
        "not spoken of after it was cleared": (
            [clear, said(A, "full")],
            msgspec.structs.replace(said(A, "full"), nominate=""),
        ),
        "cleared twice": ([clear, clear], clear),
        "nominated after": ([said(A, "full"), there], msgspec.structs.replace(said(A, "full"), nominate=n)),
        "nominated before": ([there, said(A, "full")], msgspec.structs.replace(said(A, "full"), nominate=n)),
        "as the API server has it, while something else waits": (
            [kept, msgspec.structs.replace(said(A, "full"), nominate="", patch=False)],
            msgspec.structs.replace(said(A, "full"), nominate=""),
        ),
    }
    for case, (effects, want) in table.items():
        conditions = Conditions(Writer())
        assert [conditions.want(effect) for effect in effects] == [True, False], case
        await conditions.write(A)
        assert written.pop() == want, case
    assert not Conditions(Writer()).want(msgspec.structs.replace(kept, patch=False)), "the API server has it"
