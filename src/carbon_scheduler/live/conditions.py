"""PodScheduled=False on pods that wait, and where room is kept for them: one write a pod at a time, the latest text wins, and
none after its Binding.

A Binding sets the condition to True. A write of False that arrived after it would stay on a running pod for ever, so what is
queued for a pod is dropped when its Binding is due, and what is under way is waited for (kube-scheduler's queue of API calls,
v1.36 backend/api_dispatcher, gives Bindings the same right of way).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from carbon_scheduler.core.decision import Nominate, Unschedulable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from carbon_scheduler.core.model import PodUid

    Write = Unschedulable | Nominate

    class Writes(Protocol):
        async def condition(self, effect: Write, still_wanted: Callable[[], bool]) -> bool: ...


class _Writing:
    """A write under way. `wanted` False: not to be tried again."""

    def __init__(self, effect: Write) -> None:
        self.effect = effect
        self.wanted = True
        self.ended = asyncio.Event()


class Conditions:
    """`want` says what shall be written, `write` does it when its turn comes. All in one loop."""

    def __init__(self, writer: Writes) -> None:
        self._writer = writer
        self._wanted: dict[PodUid, Write] = {}
        self._under_way: dict[PodUid, _Writing] = {}

    def want(self, effect: Write) -> bool:
        """Whether somebody has to call `write` for it: not when the same is under way, or a call is to come anyway, or when the
        API server has it already and nothing else is about to be written."""
        uid = effect.uid
        busy, queued = self._under_way.get(uid), self._wanted.get(uid)
        if isinstance(effect, Unschedulable) and not effect.patch:
            if busy is None and queued is None:
                return False
            effect = msgspec.structs.replace(effect, patch=True)
        if busy is not None and queued is None and _same(busy.effect, effect):
            return False
        self._wanted[uid] = effect if queued is None else _both(queued, effect)
        return queued is None

    async def write(self, uid: PodUid) -> None:
        """Writes what is wanted for the pod by now, if anything still is."""
        await self._idle(uid)
        effect = self._wanted.pop(uid, None)
        if effect is None:
            return
        writing = self._under_way[uid] = _Writing(effect)
        try:
            await self._writer.condition(effect, lambda: writing.wanted)
        finally:
            del self._under_way[uid]
            writing.ended.set()

    async def make_way(self, uid: PodUid) -> None:
        """Before a Binding: what is queued is dropped, what is under way ends with its present request."""
        self._wanted.pop(uid, None)
        if (busy := self._under_way.get(uid)) is not None:
            busy.wanted = False
        await self._idle(uid)

    async def _idle(self, uid: PodUid) -> None:
        while (busy := self._under_way.get(uid)) is not None:
            await busy.ended.wait()


def _same(one: Write, other: Write) -> bool:
    if isinstance(one, Nominate) or isinstance(other, Nominate):
        return one == other
    return (one.reason, one.message, one.nominate) == (other.reason, other.message, other.nominate)


def _both(earlier: Write, later: Write) -> Write:
    """One write for two: the later text, and where the pod is nominated to by the later that speaks of it."""
    if isinstance(later, Nominate):
        return later if isinstance(earlier, Nominate) else msgspec.structs.replace(earlier, nominate=later.node)
    if later.nominate is not None:
        return later
    return msgspec.structs.replace(later, nominate=earlier.node if isinstance(earlier, Nominate) else earlier.nominate)
