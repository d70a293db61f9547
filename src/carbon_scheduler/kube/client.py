"""Requests to the API server: credentials, retries that are safe, errors told apart, streams cut into lines."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from carbon_scheduler import __version__
from carbon_scheduler.errors import AnswerTooLarge, ApiStatusError
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.clock import SYSTEM_CHANCE, SystemClock
from carbon_scheduler.kube.transport import AiohttpTransport, Answer, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from carbon_scheduler.kube.clock import Chance, Clock
    from carbon_scheduler.kube.endpoint import Access
    from carbon_scheduler.kube.transport import Transport

JSON = "application/json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
MAX_ANSWER_B = 64 * 1024 * 1024
MAX_LINE_B = 16 * 1024 * 1024
SILENCE_S = 150.0
"""A watch cache sends a bookmark about every minute: two and a half without a byte is a dead stream."""
MAX_WAIT_S = 30.0
"""How long one request waits in all when the server says 429."""
USER_AGENT = f"carbon-scheduler/{__version__} ({sys.platform})"


class ApiClient:
    """One API server. Cheap to make, opens connections when used; `close` it at the end.

    Every call honours the server's 429 with its Retry-After for up to `MAX_WAIT_S` in all (a 429 was certainly not carried
    out), and renews the credentials once on a 401. Nothing else is retried here.
    """

    def __init__(
        self,
        access: Access,
        *,
        transport: Transport | None = None,
        timeout_s: float = 30.0,
        connections: int = 64,
        clock: Clock | None = None,
        chance: Chance = SYSTEM_CHANCE,
    ) -> None:
        self.access = access
        self.clock = clock or SystemClock()
        self.chance = chance
        self._transport = transport or AiohttpTransport(access, connections=connections)
        self._timeout_s = timeout_s
        self._before_write: Callable[[], None] | None = None

    def guarded(self, before_write: Callable[[], None]) -> ApiClient:
        """The same connections, but `before_write` is called before each request that writes is sent, also after waiting
        out a 429 and after making a connection; what it raises (LeaseLost) is raised instead of sending."""
        twin = copy(self)
        twin._before_write = before_write
        return twin

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        *,
        timeout_s: float | None = None,
        max_wait_s: float = MAX_WAIT_S,
    ) -> bytes:
        """The body of a 2xx answer, at most 64 MiB.

        `path` is encoded already (see `segment`). Raises ApiStatusError on any other status, ApiUnreachable without an answer
        (`sent` False: certainly not carried out), AnswerTooLarge.
        """
        target = _target(path, params)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        renewed, waited_s = False, 0.0
        while True:
            token = await self.access.credentials.token()
            headers = self._headers(token, content_type if body is not None else None, self.access.compress)
            guard = self._before_write if method != "GET" else None
            if guard is not None:
                guard()
            answer = await self._transport.send(Request(method, target, headers, body, limit_s, guard), MAX_ANSWER_B)
            if 200 <= answer.status < 300:
                return answer.body
            if answer.status == 401 and not renewed:
                renewed = True
                if await self.access.credentials.refresh(token):
                    continue
            error = _status_error(method, path, answer)
            if answer.status != 429:
                raise error
            # A quarter of jitter: those who were told the same second must not come back in the same one.
            wait_s = (error.retry_after_s or 1.0) * (1 + 0.25 * self.chance.random())
            waited_s += wait_s
            if waited_s > max_wait_s:
                raise error
            await self.clock.sleep(wait_s)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, silence_s: float = SILENCE_S
    ) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """A watch: the whole lines of each received piece, without their ends. A last line without an end is half: dropped.

        The iterator ends when the server ends it. Raises what `request` raises, ApiUnreachable after `silence_s` without
        a byte, AnswerTooLarge on a line above 16 MiB. A 429 is not waited out but raised.
        """
        target = _target(path, params)
        renewed = False
        while True:
            token = await self.access.credentials.token()
            # No compression: it would hold lines back in the compressor.
            request = Request("GET", target, self._headers(token, None, compress=False))
            async with self._transport.open(request, silence_s) as opened:
                if opened.status == 200:
                    yield _lines(opened.chunks(), path)
                    return
                answer = Answer(opened.status, await _first(opened.chunks()), opened.retry_after)
            if answer.status == 401 and not renewed:
                renewed = True
                if await self.access.credentials.refresh(token):
                    continue
            raise _status_error("GET", path, answer)

    async def close(self) -> None:
        await self._transport.close()

    def _headers(self, token: str | None, content_type: str | None, compress: bool) -> tuple[tuple[str, str], ...]:
        headers = [
            ("Accept", JSON),
            ("Accept-Encoding", "gzip" if compress else "identity"),
            ("User-Agent", USER_AGENT),
            *self.access.impersonate,
        ]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        if content_type:
            headers.append(("Content-Type", content_type))
        return tuple(headers)


def segment(name: str) -> str:
    """A name as one part of a path: names come from outside, and one with a slash must not reach another resource."""
    return quote(name, safe="")


def _target(path: str, params: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(params)}" if params else path


async def _first(chunks: AsyncIterator[bytes], limit_b: int = 65536) -> bytes:
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > limit_b:
            break
    return body


async def _lines(chunks: AsyncIterator[bytes], path: str) -> AsyncIterator[list[bytes]]:
    rest = b""
    held: list[bytes] = []
    held_b = 0
    async for chunk in chunks:
        if b"\n" not in chunk:
            # Long lines are kept as pieces: joining at each piece would cost the square of their length.
            held.append(chunk)
            held_b += len(chunk)
        else:
            *lines, rest = b"".join((*held, chunk)).split(b"\n")
            held, held_b = [rest], len(rest)
            if whole := [line for line in lines if line.strip()]:
                yield whole
        if held_b > MAX_LINE_B:
            raise AnswerTooLarge(f"GET {path}: a line of the watch is longer than {MAX_LINE_B} bytes", sent=True)


def _status_error(method: str, path: str, answer: Answer) -> ApiStatusError:
    status = wire.read_status(answer.body)
    said = (status.message or "").strip() or answer.body[:200].decode("utf-8", "replace").strip() or "no message"
    return ApiStatusError(
        f"{method} {path}: API server answered {answer.status}: {said[:2000]}{_advice(answer.status)}",
        code=answer.status,
        reason=status.reason or "",
        retry_after_s=_seconds(answer.retry_after),
        said=said[:2000],
    )


def _advice(status: int) -> str:
    if status == 401:
        return "; renew the credentials in the kubeconfig or the service account's token"
    if status == 403:
        return "; grant the right in RBAC (deploy/k8s.yaml has the whole list)"
    if 300 <= status < 400:
        return "; redirects are not followed: correct the server's address"
    return ""


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds. A date, which no API server sends, counts as none."""
    if text is None or not text.strip().isdigit():
        return None
    return min(float(text), 3600.0)
