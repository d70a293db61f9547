"""The client against the fake Electricity Maps: every kind of answer, and the network in between."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.errors import (
    ConfigError,
    KeyRejected,
    MalformedBody,
    NoRecentData,
    NotInPlan,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RejectedValue,
    UnknownZone,
)
from carbon_scheduler.providers.electricity_maps import ElectricityMaps, Options, failure
from carbon_scheduler.providers.http import Answer, Http
from carbon_scheduler.providers.key import ApiKey, KeySource
from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps
from carbon_scheduler.sim.electricity_maps_answers import MODES, Mode
from grid_fakes import DE, FR, HOUR, NOON, FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

SECRET = "s3cr3t-key-of-electricity-maps"
USERS_WORDS = "API request failed with status 401: Request unauthorized"


@asynccontextmanager
async def a_fake(**options: Any) -> AsyncIterator[FakeElectricityMaps]:
    server = FakeElectricityMaps(**{"keys": [SECRET], "now": FakeClock(NOON + 1500).wall, **options})
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def a_client(
    url: str, key: KeySource | None = None, environ: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[ElectricityMaps]:
    clock = FakeClock(NOON + 1500)
    source = ElectricityMaps(
        key or KeySource(SECRET), Options(url=url, **{"timeout_s": 5.0, **options}), clock, environ or {}
    )
    yield source
    await source.close()


@pytest.mark.parametrize("version", ["v3", "v4"])
async def test_latest_history_forecast(version: Any) -> None:
    async with a_fake() as server, a_client(server.url, version=version) as source:
        latest, history, forecast = await source.latest(DE), await source.history(DE), await source.forecast(DE, 48)
        assert [point.hour_s for point in latest.points] == [NOON]
        assert latest.points[0].g_per_kwh == server.data.g_per_kwh(DE, NOON)
        assert [point.hour_s for point in history.points] == [NOON - back * HOUR for back in range(23, -1, -1)]
        assert [point.quality for point in history.points[-3:]] == ["measured", "estimated", "estimated"]
        assert len(forecast.points) == 49
        assert len((await source.history(DE, 3)).points) == 3
        assert server.count(key=SECRET) == 4


async def test_past_range_and_direct_emissions() -> None:
    temporalities = ("latest", "past-range")
    async with (
        a_fake(temporalities=temporalities) as server,
        a_client(server.url, emission_factor_type="direct") as source,
    ):
        past = await source.past_range(DE, NOON - 10 * HOUR, NOON - 5 * HOUR)
        assert [point.hour_s for point in past.points] == [NOON - back * HOUR for back in range(10, 5, -1)]
        assert past.signal == source.signal == "average-direct"
        lifecycle = server.data.g_per_kwh(DE, NOON)
        assert lifecycle is not None
        assert (await source.latest(DE)).points[0].g_per_kwh < lifecycle


async def test_zones_with_and_without_a_key() -> None:
    async with a_fake(plan=["DE"]) as server:
        async with a_client(server.url) as source:
            zones = await source.zones()
            assert zones["DE"].access == (
                "carbon-intensity/forecast",
                "carbon-intensity/history",
                "carbon-intensity/latest",
            )
            assert zones["FR"].access == ()
        async with a_client(server.url, KeySource("")) as source:
            assert (await source.zones())["DE"].access is None


FAILURES: dict[str, tuple[type[ProviderError], str]] = {
    "no-data": (NoRecentData, "API request failed with status 404: Not Found"),
    "null": (RejectedValue, "is null"),
    "zero": (RejectedValue, "only direct emissions"),
    "nan": (RejectedValue, "is NaN"),
    "negative": (RejectedValue, "expected 0 to 1500"),
    "text": (RejectedValue, "expected a number"),
    "wrong-zone": (RejectedValue, "about zone 'US-NY-NYIS'"),
    "slow": (ProviderUnavailable, "no complete answer within 0.2 s"),
    "drop": (ProviderUnavailable, "the connection was closed before an answer"),
    "truncated": (MalformedBody, "not JSON"),
    "cut": (ProviderUnavailable, "the answer broke off"),
    "huge": (ProviderUnavailable, "larger than 1048576 bytes"),
    "redirect": (ProviderUnavailable, "redirects to 127.0.0.1: not followed"),
    "html-500": (ProviderUnavailable, "API request failed with status 500: Internal Server Error"),
    "429": (RateLimited, "API request failed with status 429: Too Many Requests"),
    "bad-key": (KeyRejected, f"{USERS_WORDS}; 127.0.0.1"),
    "plan": (NotInPlan, "the key is right but its plan does not cover this"),
    "throttle-401": (RateLimited, f"{USERS_WORDS}; 127.0.0.1"),
}


@pytest.mark.parametrize(("mode", "want"), FAILURES.items(), ids=FAILURES)
async def test_each_failure_is_its_own_error(mode: Any, want: tuple[type[ProviderError], str]) -> None:
    async with a_fake() as server, a_client(server.url, timeout_s=0.2 if mode == "slow" else 5.0) as source:
        server.modes["DE"] = Mode(mode)
        for ask in (source.latest, source.history):
            with pytest.raises(want[0]) as caught:
                await ask(DE)
            assert type(caught.value) is want[0]
            assert want[1] in str(caught.value)
        assert (await source.latest(FR)).points, "another zone is not affected"


def test_no_mode_is_left_untested() -> None:
    fine = {"live", "measured", "estimated", "revised", "stale", "frozen", "value", "glitch", "v3-minimal"}
    assert set(MODES) == fine | set(FAILURES)


@pytest.mark.parametrize("mode", ["bad-key", "plan", "throttle-401"])
async def test_every_401_begins_with_the_users_words(mode: Any) -> None:
    async with a_fake() as server, a_client(server.url) as source:
        server.modes["*"] = Mode(mode)
        with pytest.raises(ProviderError) as caught:
            await source.latest(DE)
        assert str(caught.value).startswith(USERS_WORDS)


async def test_unknown_zone_and_no_key() -> None:
    async with a_fake() as server, a_client(server.url, KeySource("")) as source:
        with pytest.raises(UnknownZone, match="Zone 'ZZ' does not exist"):
            await source.latest(GridZone("ZZ"))
        with pytest.raises(
            KeyRejected, match=r"no key was sent: set ELECTRICITY_MAPS_API_KEY, or in a cluster: kubectl create secret"
        ):
            await source.latest(DE)
        assert source.unusable() is not None


async def test_a_key_renewed_in_its_file_is_used_after_a_refusal(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    async with a_fake() as server, a_client(server.url, KeySource(file=str(file))) as source:
        with pytest.raises(KeyRejected):
            await source.latest(DE)
        file.write_text(SECRET)
        assert source.unusable() is None
        assert (await source.latest(DE)).points
        assert source.credential_version() == 2


ADDRESSES = {
    "with the version": ("{url}/v3", "/v3/carbon-intensity/latest"),
    "with a slash": ("{url}/", "/v4/carbon-intensity/latest"),
    "behind a path": ("{url}/gateway/v4", "/gateway/v4/carbon-intensity/latest"),
}


@pytest.mark.parametrize(("url", "want"), ADDRESSES.values(), ids=ADDRESSES)
async def test_addresses(url: str, want: str) -> None:
    async with a_server(_ok) as (address, requests), a_client(url.format(url=address)) as source:
        await source.latest(DE)
        assert requests[0].path == want
        assert dict(requests[0].query) == {
            "zone": "DE",
            "disableCallerLookup": "true",
            "emissionFactorType": "lifecycle",
        }


RETRY_AFTER = {
    "30": 30.0,
    "0": 0.0,
    "99999": 3600.0,
    "Thu, 01 Jan 2026 12:26:00 GMT": 60.0,
    "": None,
    "soon": None,
    "-5": None,
}


@pytest.mark.parametrize(("text", "want"), RETRY_AFTER.items())
def test_retry_after(text: str, want: float | None) -> None:
    error = failure(Answer(429, b"", "", text, ""), where="x", key=None, origin="x", now_s=NOON + 1500)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == want


UNUSUAL = {
    "plain text": (Answer(403, b"Access denied", "text/plain", "", ""), KeyRejected, "Access denied"),
    "a page for an unknown path": (
        Answer(404, b"<html><pre>Cannot GET /x</pre>", "text/html", "", ""),
        ProviderUnavailable,
        "correct ELECTRICITY_MAPS_URL",
    ),
    "the form of 2025 for no data": (
        Answer(404, b'{"status":"error","message":"No data"}', "application/json", "", ""),
        NoRecentData,
        "No data",
    ),
    "a bad argument": (Answer(400, b'{"message":"Missing arguments"}', "", "", ""), MalformedBody, "Missing arguments"),
    "a status of nobody's": (Answer(599, b"", "", "", ""), ProviderUnavailable, "status 599: Unknown status"),
    "terminal escapes": (Answer(500, b"\x1b[31mred\x1b[0m\n" * 1000, "", "", ""), ProviderUnavailable, "\\x1b[31mred"),
    "fields that are no texts": (Answer(401, b'{"error":{"a":1},"message":[2]}', "", "", ""), RateLimited, USERS_WORDS),
    "bytes of no encoding": (Answer(500, bytes(range(256)), "", "", ""), ProviderUnavailable, "status 500"),
    "a proxy's demand": (Answer(407, b"", "", "", ""), ProviderUnavailable, "HTTPS_PROXY"),
}


@pytest.mark.parametrize(("answer", "want", "text"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_refusals(answer: Answer, want: type[ProviderError], text: str) -> None:
    error = failure(answer, where="x", key=None, origin="x", now_s=NOON)
    assert type(error) is want
    assert text in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 1000


# The network in between


@asynccontextmanager
async def a_server(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """Any HTTP server: its address, and the requests that it got."""
    requests: list[web.Request] = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        requests.append(request)  # type: ignore[arg-type]
        return await handle(request)  # type: ignore[arg-type]

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    await runner.cleanup()


async def _ok(request: web.Request) -> web.Response:
    return web.json_response({"zone": "DE", "carbonIntensity": 75, "datetime": "2026-01-01T12:00:00.000Z"})


async def test_goes_through_the_proxy_with_its_password() -> None:
    async with a_server(_ok) as (proxy, requests):
        environ = {"http_proxy": proxy.replace("//", "//user:p%40ss@")}
        async with a_client("http://grid.example", environ=environ) as source:
            await source.latest(DE)
        assert requests[0].headers["Host"] == "grid.example"
        assert requests[0].headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


async def test_a_tunnel_gets_the_proxys_password_and_not_the_key() -> None:
    connects: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with (
        proxy,
        a_client("https://grid.example", environ={"HTTPS_PROXY": f"http://user:hunter2@127.0.0.1:{port}"}) as source,
    ):
        with pytest.raises(ProviderUnavailable, match="status 403") as caught:
            await source.latest(DE)
    assert connects[0].startswith(b"CONNECT grid.example:443 ")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:hunter2") in connects[0]
    assert SECRET.encode() not in connects[0]
    shown = _everything(caught.value)
    assert "hunter2" not in shown
    assert base64.b64encode(b"user:hunter2").decode() not in shown


NO_PROXY = {
    "127.0.0.1": True,
    "other.example, 127.0.0.1": True,
    "*": True,
    "": False,
    "27.0.0.1": False,
    "127.0.0.1:1": False,
}


@pytest.mark.parametrize(("no_proxy", "direct"), NO_PROXY.items())
async def test_no_proxy(no_proxy: str, direct: bool) -> None:
    async with a_server(_ok) as (proxy, through), a_server(_ok) as (target, _):
        async with a_client(target, environ={"HTTP_PROXY": proxy, "NO_PROXY": no_proxy}) as source:
            await source.latest(DE)
        assert (through == []) == direct


async def test_a_dead_proxy_is_named_without_its_password() -> None:
    environ = {"HTTPS_PROXY": "http://user:hunter2@127.0.0.1:1"}
    async with a_client("https://grid.example", environ=environ) as source:
        with pytest.raises(ProviderUnavailable, match=r"through the proxy 127\.0\.0\.1:1") as caught:
            await source.latest(DE)
        assert "hunter2" not in _everything(caught.value)


async def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with a_server(_ok) as (address, requests), a_client(address) as source:
        await source.latest(DE)
        assert "Authorization" not in requests[0].headers


async def test_a_redirect_is_not_followed() -> None:
    async with a_server(_ok) as (elsewhere, stolen):

        async def redirect(request: web.Request) -> web.Response:
            raise web.HTTPFound(elsewhere)

        async with a_server(redirect) as (address, _), a_client(address) as source:
            with pytest.raises(ProviderUnavailable, match="not followed"):
                await source.latest(DE)
        assert stolen == []


async def test_a_compressed_bomb_is_cut_off() -> None:
    import gzip

    async def bomb(request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b" " * 200_000_000), headers={"Content-Encoding": "gzip"})

    async with a_server(bomb) as (address, _), a_client(address, timeout_s=20.0) as source:
        with pytest.raises(ProviderUnavailable, match="larger than"):
            await source.latest(DE)


async def test_an_answer_byte_by_byte_ends_at_the_limit() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            return response

    async with a_server(drip) as (address, _), a_client(address, timeout_s=0.3) as source:
        with pytest.raises(ProviderUnavailable, match=r"within 0\.3 s"):
            await source.latest(DE)


async def test_slow_zones_do_not_time_out_those_that_wait_for_a_connection() -> None:
    async with a_fake() as server, a_client(server.url, timeout_s=0.6) as source:
        zones = [GridZone(zone) for zone in list(server.zones)[:9]]
        for zone in zones[:8]:
            server.modes[zone] = Mode("slow", 5)
        outcomes = await asyncio.gather(*(source.latest(zone) for zone in zones), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:8]] == [ProviderUnavailable] * 8
        assert not isinstance(outcomes[8], BaseException)


BAD_SETTINGS = {
    "no scheme": ({"url": "api.electricitymaps.com"}, {}, "expected https://HOST"),
    "another scheme": ({"url": "ftp://x"}, {}, "expected https://HOST"),
    "a password in the address": ({"url": "https://user:hunter2@x"}, {}, "leave them out"),
    "a proxy of another kind": (
        {"url": "https://x"},
        {"HTTPS_PROXY": "socks5://hunter2:9"},
        "HTTPS_PROXY: expected http://",
    ),
    "a CA file that is not there": ({"url": "https://x", "ca_file": "/nope"}, {}, "CA bundle /nope"),
    "a CA file of the environment": ({"url": "https://x"}, {"REQUESTS_CA_BUNDLE": "/nope"}, "CA bundle /nope"),
}


@pytest.mark.parametrize(("options", "environ", "want"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_cannot_be_used(options: Any, environ: dict[str, str], want: str) -> None:
    with pytest.raises(ConfigError, match=want) as caught:
        ElectricityMaps(KeySource(SECRET), Options(**options), FakeClock(), environ)
    assert "hunter2" not in str(caught.value)


def test_a_ca_file_without_certificates_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match="CA bundle"):
        Http("https://x", timeout_s=1, ca_file=str(tmp_path / "ca.pem"), environ={})


# The key is nowhere


def _everything(error: BaseException | None) -> str:
    """All that an error could show: its text, repr and traceback, and those of its causes and contexts."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("mode", FAILURES)
async def test_the_key_is_in_no_error_and_no_log(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with a_fake() as server, a_client(server.url, timeout_s=0.2 if mode == "slow" else 5.0) as source:
        server.modes["*"] = Mode(mode)
        with pytest.raises(ProviderError) as caught:
            await source.latest(DE)
        assert SECRET not in _everything(caught.value)
        assert SECRET not in repr(source) + repr(vars(source)) + repr(vars(source._http))
    assert SECRET not in caplog.text
    assert all(SECRET not in repr(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("echo", ["error", "message", "text"])
async def test_a_provider_that_repeats_the_key_is_masked(echo: str) -> None:
    async def parrot(request: web.Request) -> web.Response:
        said = f"token {request.headers['auth-token']} is bad"
        return web.Response(status=401, text=said) if echo == "text" else web.json_response({echo: said}, status=401)

    async with a_server(parrot) as (address, _), a_client(address) as source:
        with pytest.raises(ProviderError, match=r"token \[redacted\] is bad") as caught:
            await source.latest(DE)
        assert SECRET not in _everything(caught.value)


async def test_a_server_that_is_no_http_server_does_not_reveal_the_key() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/9.9 what " + request)
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, a_client(f"http://127.0.0.1:{port}") as source:
        with pytest.raises(ProviderUnavailable) as caught:
            await source.latest(DE)
        assert SECRET not in _everything(caught.value)


def test_a_key_is_masked_in_a_redacted_text() -> None:
    assert ApiKey("abc").hide_in("xabcx") == "x[redacted]x"
