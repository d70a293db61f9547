"""Time that is told, chance that is fixed, and a transport that answers from a script."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.kube.transport import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from carbon_scheduler.kube.credentials import Credentials
    from carbon_scheduler.kube.transport import Opened, Request

JSON = dict[str, Any]


class FakeClock:
    """Sleeping takes no time but moves this clock, and lets the other tasks of the loop run."""

    def __init__(self, at_s: float = 1000.0, wall_s: float = 1_763_906_400.0) -> None:
        self.at_s = at_s
        self.offset_s = wall_s - at_s
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at_s

    def wall(self) -> float:
        return self.at_s + self.offset_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.at_s += delay_s
        await asyncio.sleep(0)

    def advance(self, delay_s: float) -> None:
        self.at_s += delay_s


class FixedChance:
    """`random()` is always the same; 0 makes backoffs free of waiting."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def answer(status: int, body: object = None, retry_after: str | None = None) -> Answer:
    return Answer(status, body if isinstance(body, bytes) else msgspec.json.encode(body), retry_after)


def failure(status: int, reason: str = "", message: str = "no", retry_after: str | None = None) -> Answer:
    return answer(
        status,
        {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message},
        retry_after,
    )


class _Piece:
    def __init__(self, status: int, chunks: list[bytes | BaseException], retry_after: str | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        self._chunks = chunks

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk


class ScriptedTransport:
    """Gives the answers of a list, or of a function of the request; an exception among them is raised. Keeps all requests."""

    def __init__(self, script: list[Answer | BaseException] | Callable[[Request], Answer | BaseException]) -> None:
        self.requests: list[Request] = []
        self.streams: list[list[bytes | BaseException] | Answer] = []
        self._script = script
        self.closed = False

    async def send(self, request: Request, max_answer_b: int) -> Answer:
        self.requests.append(request)
        await asyncio.sleep(0)
        got = self._script(request) if callable(self._script) else self._script.pop(0)
        if isinstance(got, BaseException):
            raise got
        return got

    @asynccontextmanager
    async def open(self, request: Request, silence_s: float) -> AsyncIterator[Opened]:
        self.requests.append(request)
        got = self.streams.pop(0)
        if isinstance(got, Answer):
            yield _Piece(got.status, [got.body], got.retry_after)
        else:
            yield _Piece(200, got)

    async def close(self) -> None:
        self.closed = True


def make_client(
    script: list[Answer | BaseException] | Callable[[Request], Answer | BaseException],
    *,
    credentials: Credentials | None = None,
    clock: FakeClock | None = None,
    chance: float = 0.0,
) -> tuple[ApiClient, ScriptedTransport, FakeClock]:
    clock = clock or FakeClock()
    transport = ScriptedTransport(script)
    access = Access("http://cluster") if credentials is None else Access("http://cluster", credentials)
    return ApiClient(access, transport=transport, clock=clock, chance=FixedChance(chance)), transport, clock
