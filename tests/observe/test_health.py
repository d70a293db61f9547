"""The health server over real sockets on loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from carbon_scheduler.errors import ConfigError
from carbon_scheduler.observe import health
from carbon_scheduler.observe.health import HealthServer
from carbon_scheduler.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


@asynccontextmanager
async def serving(
    ready: Mapping[str, Callable[[], str | None]] | None = None,
    metrics: Metrics | None = None,
    now: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[str]:
    server = HealthServer(metrics or Metrics(), live={"loop": lambda: None}, ready=ready or {}, now=now)
    port = await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.close()


async def get(url: str, method: str = "GET", **more: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=more) as response:
        return response.status, await response.text()


NOT_IN = "the first list of pods is not in"

ANSWERS: dict[str, tuple[str, dict[str, str | None], tuple[int, str]]] = {
    "alive": ("/livez", {}, (200, "ok")),
    "alive, in detail": ("/livez?verbose", {}, (200, "[+]loop ok\nlivez check passed\n")),
    "the old name": ("/healthz", {}, (200, "ok")),
    "ready": ("/readyz", {"caches": None}, (200, "ok")),
    "alive though not ready": ("/livez", {"caches": NOT_IN}, (200, "ok")),
    "not ready says why": (
        "/readyz",
        {"caches": NOT_IN, "carbon-data": None},
        (503, f"[-]caches failed: {NOT_IN}\n[+]carbon-data ok\nreadyz check failed\n"),
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_answers(case: str) -> None:
    path, reasons, want = ANSWERS[case]
    checks = {name: (lambda reason=reason: reason) for name, reason in reasons.items()}
    async with serving(checks) as url:
        assert await get(url + path) == want


async def test_readiness_follows_the_checks() -> None:
    reasons = [NOT_IN]
    async with serving({"caches": lambda: reasons[0] if reasons else None}) as url:
        assert (await get(url + "/readyz"))[0] == 503
        reasons.clear()
        assert (await get(url + "/readyz"))[0] == 200


async def test_metrics_are_rendered_at_most_four_times_a_second() -> None:
    now = [0.0]
    metrics = Metrics()
    async with serving(metrics=metrics, now=lambda: now[0]) as url:
        assert "carbon_scheduler_leader 0.0" in (await get(url + "/metrics"))[1]
        metrics.leader.set(1)
        assert "carbon_scheduler_leader 0.0" in (await get(url + "/metrics"))[1]
        now[0] = 0.3
        assert "carbon_scheduler_leader 1.0" in (await get(url + "/metrics"))[1]


async def test_openmetrics_is_asked_for_by_prometheus() -> None:
    async with serving() as url:
        _, plain = await get(url + "/metrics")
        _, text = await get(url + "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert text.endswith("# EOF\n")
    assert "# EOF" not in plain


REFUSED = {
    "another path": ("GET", "/configz", 404),
    "another method": ("POST", "/metrics", 405),
    "a path of 5,000 characters": ("GET", "/livez?" + "x" * 5000, 400),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refusals(case: str) -> None:
    method, path, want = REFUSED[case]
    async with serving() as url:
        status, text = await get(url + path, method)
    assert status == want
    assert "Traceback" not in text


async def test_a_crowd_of_idle_connections_is_turned_away_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many, and none for ever: the kubelet's probe gets through again after CONNECTION_S."""
    monkeypatch.setattr(health, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(health, "CONNECTION_S", 0.2)
    async with serving() as url:
        port = int(url.rsplit(":", 1)[1])
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        turned_away, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await turned_away.read() == b""
        writer.close()
        for reader, _ in crowd:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)  # ended by the server
        assert await get(url + "/livez") == (200, "ok")
        for _, writer in crowd:
            writer.close()


async def test_a_port_in_use_is_a_configuration_error_that_says_what_to_do() -> None:
    async with serving() as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use; .*--serve"):
            await HealthServer(Metrics(), live={}, ready={}).start("127.0.0.1", port)


@pytest.mark.parametrize("address", ["203.0.113.7", "no such host"])
async def test_an_address_that_is_not_ours(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        await HealthServer(Metrics(), live={}, ready={}).start(address, 0)


async def test_an_empty_address_serves_nothing() -> None:
    server = HealthServer(Metrics(), live={}, ready={})
    assert await server.start("", 10259) is None
    await server.close()
