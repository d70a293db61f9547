"""The body of a watch: events as they come, bookmarks, and every way in which it can end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from carbon_scheduler.sim.apiserver import failures
from carbon_scheduler.sim.apiserver.watching import error_line

if TYPE_CHECKING:
    from aiohttp import web

    from carbon_scheduler.sim.apiserver.faults import Ending, Faults, Rule
    from carbon_scheduler.sim.apiserver.store import Collection
    from carbon_scheduler.sim.apiserver.watching import Feed


class Cut(Exception):
    """The connection is to be closed without (the rest of) an answer."""


class WatchStream:
    """Writes a feed into a prepared response until its time is over, a fault ends it, or the client goes.

    `bookmark_s` None sends none. All that has happened meanwhile goes out in one write, so a burst costs little.
    """

    def __init__(
        self,
        response: web.StreamResponse,
        feed: Feed,
        faults: Faults,
        resource: str,
        rules: list[Rule],
        bookmark_s: float | None,
    ) -> None:
        self._response = response
        self._feed = feed
        self._faults = faults
        self._resource = resource
        self._bookmark_s = bookmark_s
        self._delay_s = sum(rule.delay_s for rule in rules)
        limits = [(rule.end_after, rule.how) for rule in rules if rule.end_after is not None]
        self._limit = min(limits, key=lambda limit: limit[0], default=None)
        self._sent = 0
        self._ending: Ending | None = None
        self._woken = asyncio.Event()

    def end(self, how: Ending = "end") -> None:
        """Ask it to stop as soon as what is being written is out."""
        self._ending = how
        self._woken.set()

    async def run(self, collection: Collection, timeout_s: float) -> None:
        """Returns when the body is complete. Raises Cut when the connection is to be closed instead."""
        deadline = asyncio.get_running_loop().call_later(timeout_s, self.end)
        silence = collection.listen(self._woken.set)
        forget = self._faults.watching(self, self._resource, self.end)
        try:
            await self._run()
        finally:
            deadline.cancel()
            silence()
            forget()

    async def _run(self) -> None:
        if self._feed.expired:
            await self._expire()
            return
        lines = self._feed.initial()
        while True:
            self._woken.clear()
            if lines and await self._deliver(lines):
                return
            if self._ending is not None:
                await self._finish(self._ending)
                return
            following = self._feed.following()
            if following is None:
                await self._expire()
                return
            lines = following or await self._wait()

    async def _wait(self) -> list[bytes]:
        """Until something happens, or a bookmark is due."""
        try:
            async with asyncio.timeout(self._bookmark_s):
                await self._woken.wait()
        except TimeoutError:
            return [self._feed.bookmark()]
        return []

    async def _deliver(self, lines: list[bytes]) -> bool:
        """Write events; True when that reached the limit of a rule and ended the watch."""
        await self._faults.passage(self._resource)
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if self._limit is not None:
            left = self._limit[0] - self._sent
            if len(lines) >= left:
                await self._response.write(b"".join(lines[:left]))
                await self._finish(self._limit[1], lines[left:])
                return True
        await self._response.write(b"".join(lines))
        self._sent += len(lines)
        return False

    async def _finish(self, how: Ending, unsent: list[bytes] | None = None) -> None:
        if how == "end":
            await self._response.write_eof()
            return
        if how == "half-line":
            line = unsent[0] if unsent else self._feed.bookmark()
            await self._response.write(line[: len(line) // 2])
        raise Cut

    async def _expire(self) -> None:
        await self._response.write(error_line(failures.expired(failures.WATCH_EXPIRED)))
        await self._response.write_eof()
