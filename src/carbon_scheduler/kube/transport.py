"""One HTTP exchange with the API server: the only seam between this package and a network."""

from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from carbon_scheduler.errors import AnswerTooLarge, ApiUnreachable, ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import SimpleNamespace

    from carbon_scheduler.kube.endpoint import Access

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 25.0
"""Idle connections are dropped by us long before the API server does it (90 s), so that few writes meet a closed one."""
READ_BUFFER_B = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `target` is path and query, already encoded. `headers` may hold the token and are not shown.

    `guard` is called once there is a connection, right before the first byte: what it raises calls the request off, and
    `send` raises it. Between a check and a write lie seconds when a connection has to be made first.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    guard: Callable[[], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None = None


class Opened(Protocol):
    """An answer whose body comes bit by bit."""

    status: int
    retry_after: str | None

    def chunks(self) -> AsyncIterator[bytes]:
        """Pieces as they arrive; ends when the server ends cleanly; raises ApiUnreachable on a cut or on silence."""
        ...


class Transport(Protocol):
    """Carries out requests. No retries, no redirects, no interpretation of the status."""

    async def send(self, request: Request, max_answer_b: int) -> Answer:
        """Raises ApiUnreachable, whose `sent` is False only when the request certainly never reached the server, or
        AnswerTooLarge."""
        ...

    def open(self, request: Request, silence_s: float) -> AbstractAsyncContextManager[Opened]:
        """As `send`, but the body is a stream. Without a byte for `silence_s` the stream is cut."""
        ...

    async def close(self) -> None: ...


class _Stream:
    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        self.status = response.status
        self.retry_after = response.headers.get("Retry-After")
        self._response = response
        self._where = where

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"{self._where}: the stream was cut: {_why(error)}", sent=True) from error


class AiohttpTransport:
    """The transport for everything, on aiohttp: HTTP/1.1 with a pool of kept connections.

    A kept connection may be closed by the server at the moment we write to it: aiohttp repeats GET and PUT by itself then
    (both are safe to repeat here: every PUT carries a resourceVersion); for POST and PATCH we cannot know, so `sent` is True.
    """

    def __init__(self, access: Access, *, connections: int = 64) -> None:
        self._access = access
        self._connections = connections
        self._made: aiohttp.ClientSession | None = None

    def _session(self) -> aiohttp.ClientSession:
        if self._made is None:  # aiohttp wants its session made inside the loop
            self._made = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=KEEPALIVE_S, socket_factory=_socket
                ),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER_B,
                skip_auto_headers=("User-Agent",),
                trace_configs=[_at_the_last_moment()],
            )
        return self._made

    async def send(self, request: Request, max_answer_b: int) -> Answer:
        timeout = aiohttp.ClientTimeout(total=request.timeout_s, connect=min(CONNECT_TIMEOUT_S, request.timeout_s))
        with self._told_apart(request):
            async with await self._start(request, timeout) as response:
                parts: list[bytes] = []
                size_b = 0
                async for part in response.content.iter_any():
                    size_b += len(part)
                    if size_b > max_answer_b:
                        response.close()  # not back into the pool: the rest of the answer is still coming
                        raise AnswerTooLarge(
                            f"{_where(request)}: the answer is larger than {max_answer_b} bytes", sent=True
                        )
                    parts.append(part)
                return Answer(response.status, b"".join(parts), response.headers.get("Retry-After"))

    @asynccontextmanager
    async def open(self, request: Request, silence_s: float) -> AsyncIterator[Opened]:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=silence_s)
        with self._told_apart(request):
            response = await self._start(request, timeout)
        try:
            yield _Stream(response, _where(request))
        finally:
            response.close()

    async def _start(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        access = self._access
        tls: ssl.SSLContext | bool = True
        if access.tls is not None:
            try:
                tls = access.tls.context(access.credentials.certificate)
            except ConfigError as error:
                raise ApiUnreachable(str(error), sent=False) from error
        return await self._session().request(
            request.method,
            URL(access.server + request.target, encoded=True),
            data=request.body,
            headers=CIMultiDict(request.headers),
            allow_redirects=False,
            timeout=limits,
            ssl=tls,
            server_hostname=access.tls.server_name if access.tls else None,
            proxy=access.proxy,
            trace_request_ctx=request.guard,
        )

    @contextmanager
    def _told_apart(self, request: Request) -> Iterator[None]:
        where = _where(request)
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise ApiUnreachable(f"{where}: no connection to {self._there()}: {_why(error)}", sent=False) from error
        except TimeoutError as error:
            raise ApiUnreachable(f"{where}: no answer from {self._there()} in time", sent=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{where}: connection to {self._there()} lost: {_why(error)}", sent=True) from error

    def _there(self) -> str:
        return self._access.server + (" (through a proxy)" if self._access.proxy else "")

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()
            self._made = None


def _at_the_last_moment() -> aiohttp.TraceConfig:
    """Calls the guard of a request when it has got its connection, a new one or a kept one."""

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    return trace


def _socket(info: tuple[object, ...]) -> socket.socket:
    """A socket that notices a dead peer in about a minute: a silent network otherwise holds a watch for its whole life."""
    family, kind, protocol = info[0], info[1], info[2]
    made = socket.socket(int(family), int(kind), int(protocol))  # type: ignore[call-overload]
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    ):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _where(request: Request) -> str:
    return f"{request.method} {request.target.partition('?')[0]}"


def _why(error: BaseException) -> str:
    """An error's text without headers or addresses that may hold a password: aiohttp's own texts can quote a proxy's URL."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
