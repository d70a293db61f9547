"""The client above its transport: which answers are retried, waited out, renewed or raised."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_fakes import answer, failure, make_client

from carbon_scheduler.errors import AnswerTooLarge, ApiStatusError, ApiUnreachable
from carbon_scheduler.kube import client as client_module
from carbon_scheduler.kube.client import ApiClient, segment
from carbon_scheduler.kube.endpoint import Access

if TYPE_CHECKING:
    pass


class Rotating:
    """Credentials with a list of tokens; a refresh goes on to the next."""

    certificate = None

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.refreshed = 0

    async def token(self) -> str | None:
        return self.tokens[0]

    async def refresh(self, refused: str | None) -> bool:
        self.refreshed += 1
        if len(self.tokens) > 1:
            self.tokens.pop(0)
            return True
        return False


def authorization(headers: tuple[tuple[str, str], ...]) -> str | None:
    return dict(headers).get("Authorization")


async def test_a_request_carries_what_the_api_server_needs() -> None:
    client, transport, _ = make_client([answer(201, {})], credentials=Rotating("t"))
    assert await client.request("POST", "/api/v1/x", {"a": "b c"}, b"{}") == b"{}"
    request = transport.requests[0]
    headers = dict(request.headers)
    assert (request.method, request.target, request.body) == ("POST", "/api/v1/x?a=b+c", b"{}")
    assert headers["Authorization"] == "Bearer t"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("carbon-scheduler/")
    assert "Bearer" not in repr(request)
    assert "Bearer" not in repr(client.access)


async def test_a_failure_is_told_with_the_servers_own_words() -> None:
    client, _, _ = make_client([failure(409, "Conflict", "pod p is already assigned")])
    with pytest.raises(
        ApiStatusError, match=r"^POST /api/v1/x: API server answered 409: pod p is already assigned$"
    ) as caught:
        await client.request("POST", "/api/v1/x", body=b"{}")
    assert (caught.value.code, caught.value.reason, caught.value.retry_after_s) == (409, "Conflict", None)


async def test_a_failure_without_a_status_shows_the_start_of_its_body() -> None:
    client, _, _ = make_client([answer(502, b"<html>Bad gateway</html>")])
    with pytest.raises(ApiStatusError, match="502: <html>Bad gateway"):
        await client.request("GET", "/x")


@pytest.mark.parametrize(("code", "advice"), [(401, "renew the credentials"), (403, "RBAC"), (302, "not followed")])
async def test_a_failure_ends_in_the_next_step(code: int, advice: str) -> None:
    client, _, _ = make_client([failure(code)])
    with pytest.raises(ApiStatusError, match=advice):
        await client.request("GET", "/x")


async def test_401_renews_the_credentials_once() -> None:
    credentials = Rotating("old", "new")
    client, transport, _ = make_client([failure(401), answer(200, {})], credentials=credentials)
    await client.request("GET", "/x")
    assert [authorization(r.headers) for r in transport.requests] == ["Bearer old", "Bearer new"]


async def test_a_second_401_is_raised() -> None:
    credentials = Rotating("old", "new", "newer")
    client, transport, _ = make_client([failure(401), failure(401)], credentials=credentials)
    with pytest.raises(ApiStatusError, match="401"):
        await client.request("GET", "/x")
    assert (credentials.refreshed, len(transport.requests)) == (1, 2)


async def test_401_without_other_credentials_is_not_repeated() -> None:
    client, transport, _ = make_client([failure(401)], credentials=Rotating("only"))
    with pytest.raises(ApiStatusError):
        await client.request("GET", "/x")
    assert len(transport.requests) == 1


async def test_429_is_waited_out_with_a_quarter_of_jitter() -> None:
    client, transport, clock = make_client([failure(429, retry_after="4"), failure(429), answer(201, {})], chance=0.5)
    await client.request("POST", "/x", body=b"{}")
    assert clock.slept == [4.5, 1.125]
    assert len(transport.requests) == 3


async def test_429_is_waited_out_for_half_a_minute_and_then_raised() -> None:
    client, _, clock = make_client([failure(429, retry_after="10") for _ in range(9)])
    with pytest.raises(ApiStatusError) as caught:
        await client.request("POST", "/x", body=b"{}")
    assert clock.slept == [10.0, 10.0, 10.0]
    assert caught.value.retry_after_s == 10.0


@pytest.mark.parametrize("text", ["soon", "-5", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
async def test_an_unreadable_retry_after_is_a_second(text: str) -> None:
    client, _, clock = make_client([failure(429, retry_after=text), answer(200, {})])
    await client.request("GET", "/x")
    assert clock.slept == [1.0]


@pytest.mark.parametrize("code", [500, 503, 504])
async def test_5xx_is_not_repeated_here(code: int) -> None:
    client, transport, _ = make_client([failure(code)])
    with pytest.raises(ApiStatusError):
        await client.request("POST", "/x", body=b"{}")
    assert len(transport.requests) == 1


async def test_a_lost_answer_is_not_repeated_here() -> None:
    client, transport, _ = make_client([ApiUnreachable("cut", sent=True)])
    with pytest.raises(ApiUnreachable):
        await client.request("POST", "/x", body=b"{}")
    assert len(transport.requests) == 1


async def test_impersonation_is_sent() -> None:
    _, transport, _ = make_client([answer(200, {})])
    access = Access("http://x", impersonate=(("Impersonate-Group", "a"), ("Impersonate-Group", "b")))
    await ApiClient(access, transport=transport).request("GET", "/x")
    assert [v for k, v in transport.requests[0].headers if k == "Impersonate-Group"] == ["a", "b"]


async def collect(client: ApiClient) -> list[list[bytes]]:
    async with client.stream("/w", {"watch": "true"}) as pieces:
        return [lines async for lines in pieces]


async def test_a_stream_renews_the_credentials_once() -> None:
    client, transport, _ = make_client([], credentials=Rotating("old", "new"))
    transport.streams = [failure(401), [b"a\n"]]
    assert await collect(client) == [[b"a"]]
    assert [authorization(r.headers) for r in transport.requests] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("code", [401, 403, 410, 429, 500])
async def test_a_streams_failure_is_raised(code: int) -> None:
    client, transport, _ = make_client([])
    transport.streams = [failure(code, "Why", "because", retry_after="3")]
    with pytest.raises(ApiStatusError, match="because") as caught:
        await collect(client)
    assert (caught.value.code, caught.value.reason, caught.value.retry_after_s) == (code, "Why", 3.0)


async def test_an_error_of_the_consumers_own_is_not_taken_for_one_of_the_network() -> None:
    client, transport, _ = make_client([])
    transport.streams = [[b"a\n"]]

    async def consume() -> None:
        async with client.stream("/w", {}) as pieces:
            async for _ in pieces:
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await consume()


@given(
    lines=st.lists(st.binary(min_size=1, max_size=30).map(lambda b: b.replace(b"\n", b"x").replace(b"\r", b"x"))),
    cuts=st.lists(st.integers(0, 400), max_size=20),
    half=st.binary(max_size=10).map(lambda b: b.replace(b"\n", b"x")),
)
async def test_lines_come_out_whole_wherever_the_pieces_were_cut(
    lines: list[bytes], cuts: list[int], half: bytes
) -> None:
    lines = [line for line in lines if line.strip()]
    data = b"".join(line + b"\n" for line in lines) + half
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    client, transport, _ = make_client([])
    transport.streams = [[data[a:b] for a, b in pairwise(at)]]
    got = await collect(client)
    assert [line for piece in got for line in piece] == lines
    assert all(got), "no empty piece"


async def test_a_line_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_LINE_B", 100)
    client, transport, _ = make_client([])
    transport.streams = [[b"x" * 60, b"x" * 60, b"\n"]]
    with pytest.raises(AnswerTooLarge, match="longer than 100 bytes"):
        await collect(client)


def test_a_name_cannot_reach_another_path() -> None:
    assert segment("../secrets/x?y#z") == "..%2Fsecrets%2Fx%3Fy%23z"
