"""The aiohttp transport against real sockets: what was certainly not sent is told from what may have been carried out."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from carbon_scheduler.errors import AnswerTooLarge, ApiUnreachable, LeaseLost
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.kube.transport import AiohttpTransport, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[AiohttpTransport]:
    """A server whose every connection is `handler`'s, and a transport to it."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side left first: some tests want that
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = AiohttpTransport(Access(f"http://127.0.0.1:{port}/prefix"))
    try:
        yield transport
    finally:
        await transport.close()
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head


def post(timeout_s: float = 5.0) -> Request:
    return Request("POST", "/x", (("Content-Type", "application/json"),), b"{}", timeout_s)


async def test_a_request_arrives_as_it_is() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()

    async with serving(handler) as transport:
        got = await transport.send(
            Request(
                "GET", "/a%2Fb?c=d%3De", (("User-Agent", "me"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))
            ),
            100,
        )
    assert (got.status, got.body, got.retry_after) == (429, b"no", "7")
    assert seen[0].startswith(b"GET /prefix/a%2Fb?c=d%3De HTTP/1.1\r\n")
    assert seen[0].count(b"Impersonate-Group: ") == 2
    assert b"User-Agent: me\r\n" in seen[0]


async def test_a_connection_is_kept_for_the_next_request() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(OK)
            await writer.drain()

    async with serving(handler) as transport:
        for _ in range(5):
            await transport.send(post(), 100)
    assert connections == 1


class Guard:
    """A check before a write that says no from the `passes`-th call on."""

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > self.passes:
            raise LeaseLost("over")


@pytest.mark.parametrize("kept", [False, True], ids=["a new connection", "a kept connection"])
async def test_a_guard_is_asked_with_the_connection_in_hand_and_calls_the_request_off(kept: bool) -> None:
    """A process that is stopped while a connection is made must not write when it is continued."""
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(OK)
            await writer.drain()

    guard = Guard(passes=int(kept))
    async with serving(handler) as transport:
        if kept:
            await transport.send(replace(post(), guard=guard), 100)
        with pytest.raises(LeaseLost):
            await transport.send(replace(post(), guard=guard), 100)
        await transport.send(post(), 100)  # what was called off blocks nobody
    assert len(seen) == 1 + kept
    assert guard.calls == 1 + kept


async def test_a_guard_is_not_asked_without_a_connection() -> None:
    guard = Guard(passes=0)
    transport = AiohttpTransport(Access("http://127.0.0.1:1"))
    with pytest.raises(ApiUnreachable):
        await transport.send(replace(post(), guard=guard), 100)
    await transport.close()
    assert guard.calls == 0


async def test_nobody_listening_is_certainly_not_sent() -> None:
    transport = AiohttpTransport(Access("http://127.0.0.1:1"))
    with pytest.raises(ApiUnreachable, match=r"^POST /x: no connection to http://127\.0\.0\.1:1: ") as caught:
        await transport.send(post(), 100)
    assert caught.value.sent is False
    await transport.close()


async def test_a_name_that_does_not_exist_is_certainly_not_sent() -> None:
    transport = AiohttpTransport(Access("http://nowhere.invalid"))
    with pytest.raises(ApiUnreachable) as caught:
        await transport.send(post(), 100)
    assert caught.value.sent is False
    await transport.close()


async def test_plain_http_behind_https_is_certainly_not_sent() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    async with serving(handler) as plain:
        transport = AiohttpTransport(Access(plain._access.server.replace("http:", "https:")))
        with pytest.raises(ApiUnreachable) as caught:
            await transport.send(post(), 100)
        await transport.close()
    assert caught.value.sent is False


LOST: dict[str, bytes] = {
    "closed without an answer": b"",
    "closed within the head": b"HTTP/1.1 201 Cre",
    "closed within the body": b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{",
    "not HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("case", LOST)
async def test_an_answer_that_was_lost_may_have_been_carried_out(case: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(LOST[case])

    async with serving(handler) as transport:
        with pytest.raises(ApiUnreachable) as caught:
            await transport.send(post(), 1000)
    assert caught.value.sent is True


async def test_a_kept_connection_that_the_server_closed_is_unknown_for_a_post_and_repeated_for_a_get() -> None:
    requests = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(OK)
        await writer.drain()
        await read_request(reader)  # the second on the same connection gets no answer
        requests += 1

    async with serving(handler) as transport:
        await transport.send(post(), 100)
        with pytest.raises(ApiUnreachable) as caught:
            await transport.send(post(), 100)
        assert caught.value.sent is True
        assert requests == 2, "the POST was not repeated behind our back"
        await transport.send(post(), 100)
        got = await transport.send(Request("GET", "/x"), 100)
    assert got.status == 200
    assert requests == 5, "post, lost post, post, lost get, its repetition"


async def test_silence_ends_in_time_and_may_have_been_carried_out() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()

    async with serving(handler) as transport:
        with pytest.raises(ApiUnreachable, match="in time") as caught:
            await transport.send(post(timeout_s=0.05), 100)
    assert caught.value.sent is True


async def test_an_answer_above_the_limit_is_refused_compressed_or_not() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        await writer.drain()

    async with serving(handler) as transport:
        with pytest.raises(AnswerTooLarge, match="larger than 100000 bytes"):
            await transport.send(Request("GET", "/x"), 100_000)
        assert len((await transport.send(Request("GET", "/x"), 20_000_000)).body) == 10_000_000


async def test_redirects_are_not_followed() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(handler) as transport:
        assert (await transport.send(post(), 100)).status == 302
    assert len(seen) == 1


async def test_cookies_are_not_kept() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"))
            await writer.drain()

    async with serving(handler) as transport:
        await transport.send(post(), 100)
        await transport.send(post(), 100)
    assert b"Cookie" not in seen[1]


async def stream(transport: AiohttpTransport, silence_s: float = 5.0) -> list[bytes]:
    got: list[bytes] = []
    async with transport.open(Request("GET", "/w"), silence_s) as opened:
        try:
            async for chunk in opened.chunks():
                got.append(chunk)  # noqa: PERF401  # what came before an error counts
        except ApiUnreachable:
            got.append(b"<cut>")
    return got


STREAMS = {
    "a clean end of a chunked body": (b"3\r\na\nb\r\n0\r\n\r\n", b"a\nb"),
    "a cut in a chunked body": (b"3\r\na\nb\r\n", b"a\nb<cut>"),
    "a cut within a chunk": (b"9\r\na\nb", b"a\nb<cut>"),
}


@pytest.mark.parametrize("case", STREAMS)
async def test_a_streams_end(case: str) -> None:
    body, want = STREAMS[case]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        await writer.drain()

    async with serving(handler) as transport:
        assert b"".join(await stream(transport)) == want


async def test_a_silent_stream_is_cut() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n")
        await writer.drain()
        await reader.read()

    async with serving(handler) as transport:
        assert await stream(transport, silence_s=0.05) == [b"a\n", b"<cut>"]


async def test_a_proxy_is_used_and_its_password_is_never_told() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(handler) as behind:
        port = behind._access.server.split(":")[2].split("/")[0]
        access = Access("https://cluster.invalid", proxy=f"http://me:sesame@127.0.0.1:{port}")
        assert "sesame" not in repr(access)
        transport = AiohttpTransport(access)
        with pytest.raises(
            ApiUnreachable, match=r"cluster\.invalid \(through a proxy\): the proxy answered 407"
        ) as caught:
            await transport.send(post(), 100)
        await transport.close()
    assert seen[0].startswith(b"CONNECT cluster.invalid:443 HTTP/1.1\r\n")
    assert caught.value.sent is False
    assert "sesame" not in str(caught.value)
