"""CarbonIntensityClient, in plain code and in an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import carbon_scheduler
from carbon_scheduler import CarbonIntensityClient
from carbon_scheduler.errors import ConfigError, KeyRejected, NoRecentData, NotInPlan
from carbon_scheduler.providers.client import average
from carbon_scheduler.providers.source import Point, Series
from carbon_scheduler.sim.electricity_maps_answers import Mode
from grid_fakes import DE, HOUR, NOON, FakeClock, fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps

NOW = NOON + 1500


@pytest.fixture(scope="module")
def everything() -> Iterator[FakeElectricityMaps]:
    clock = FakeClock(NOW)
    with fake_server(
        keys=["k"], now=clock.wall, temporalities=("latest", "history", "forecast", "past-range")
    ) as server:
        yield server


@pytest.fixture
def server(everything: FakeElectricityMaps) -> FakeElectricityMaps:
    everything.modes.clear()
    everything.requests.clear()
    return everything


def make_client(server: FakeElectricityMaps, key: str = "k", **options: Any) -> CarbonIntensityClient:
    return CarbonIntensityClient(key, url=server.url, environ={}, clock=FakeClock(NOW), **options)


def test_plain_code(server: FakeElectricityMaps) -> None:
    with make_client(server) as client:
        value = client.latest("us_ny_nyis")
        assert (value.grid_zone, value.quality, value.hour_s) == ("US-NY-NYIS", "estimated", NOON)
        assert len(client.history("DE").points) == 24
        assert len(client.history("DE", 5).points) == 5
        assert len(client.history("DE", 300).points) == 300
        assert len(client.forecast("DE").points) == 25
        assert len(client.zones()) == 379
        assert server.count() == 6  # the long history took two


async def test_in_an_event_loop(server: FakeElectricityMaps) -> None:
    async with make_client(server) as client:
        value, series, mean, forecast, zones = await asyncio.gather(
            client.alatest("DE"),
            client.ahistory("DE", 3),
            client.aaverage("DE", 3),
            client.aforecast("DE"),
            client.azones(),
        )
        assert value.g_per_kwh == series.points[-1].g_per_kwh == server.data.g_per_kwh(DE, NOON)
        assert mean.g_per_kwh == pytest.approx(sum(point.g_per_kwh for point in series.points) / 3)
        assert len(forecast.points) == 25
        assert "DE" in zones


async def test_the_plain_form_works_inside_a_loop_as_in_a_notebook(server: FakeElectricityMaps) -> None:
    with make_client(server) as client:
        assert client.latest("DE") == await client.alatest("DE")
        await client.aclose()


def test_many_threads_may_ask(server: FakeElectricityMaps) -> None:
    values = []
    with make_client(server) as client:
        threads = [threading.Thread(target=lambda: values.append(client.latest("DE"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(values) == 8


def test_a_client_leaves_no_thread_behind_and_can_be_used_again(server: FakeElectricityMaps) -> None:
    client = make_client(server)
    client.latest("DE")
    client.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "carbon-client"]
    assert client.latest("DE")
    client.close()
    client.close()


def test_two_loops_one_after_the_other(server: FakeElectricityMaps) -> None:
    client = make_client(server)
    for _ in range(2):
        asyncio.run(_ask_once(client))


async def _ask_once(client: CarbonIntensityClient) -> None:
    await client.alatest("DE")
    await client.aclose()


def test_without_a_key_everything_is_static_and_nothing_is_sent(server: FakeElectricityMaps) -> None:
    with make_client(server, "") as client:
        value = client.latest("DE")
        assert (value.quality, value.g_per_kwh, value.source) == ("static", 330, "em-annual-mean 2024")
        series = client.history("DE", 30)
        assert {point.quality for point in series.points} == {"static"}
        assert [series.points[0].hour_s, series.points[-1].hour_s] == [NOON - 29 * HOUR, NOON]
        mean = client.average("DE")
        assert (mean.static, mean.g_per_kwh, mean.missing_h) == (True, 330, 0)
        assert len(client.zones()) == 379
        with pytest.raises(ConfigError, match="a forecast of DE needs an Electricity Maps key"):
            client.forecast("DE")
    assert server.count() == 0


def test_errors_are_the_named_ones(server: FakeElectricityMaps) -> None:
    with make_client(server) as client:
        with pytest.raises(ConfigError, match=r"'Germny' is not a grid zone\. Did you mean DE"):
            client.latest("Germny")
        with pytest.raises(ConfigError, match="in YAML, NO without quotes is false"):
            client.latest(False)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="hours: got 0"):
            client.history("DE", 0)
        server.modes["DE"] = Mode("plan")
        with pytest.raises(NotInPlan):
            client.forecast("DE")
        with pytest.raises(NotInPlan, match="24 hours are the most"):
            client.history("DE", 48)
    assert server.count(zone="Germny") == 0
    with make_client(server, "wrong") as client, pytest.raises(KeyRejected):
        client.latest("DE")


def test_an_old_value_says_that_it_is_old(server: FakeElectricityMaps) -> None:
    server.modes["DE"] = Mode("stale", 5)
    with make_client(server) as client:
        value = client.latest("DE")
        assert (value.quality, value.hour_s) == ("stale", NOON - 5 * HOUR)


def test_mean_counts_each_hour_once_and_what_is_missing() -> None:
    points = (
        Point(NOON - 5 * HOUR, 900, "measured"),  # before the time asked for
        Point(NOON - 3 * HOUR, 100, "measured"),
        Point(NOON - HOUR, 200, "measured"),
        Point(NOON, 600, "estimated"),
    )
    mean = average(Series(DE, "x", "average-lifecycle", points, NOW), 4, NOW)
    assert mean.g_per_kwh == 300  # (100 + 200 + 600) / 3
    assert (mean.hours, mean.missing_h, mean.estimated_h, mean.static) == (4, 1, 1, False)
    assert (mean.from_s, mean.to_s) == (NOON - 3 * HOUR, NOON + HOUR)
    with pytest.raises(NoRecentData, match="ask for more hours"):
        average(Series(DE, "x", "average-lifecycle", points[:1], NOW), 4, NOW)


def test_the_key_is_not_shown(server: FakeElectricityMaps) -> None:
    client = make_client(server, "s3cr3t-key")
    assert "s3cr3t" not in repr(client) + repr(vars(client))


def test_the_package_imports_http_only_when_the_client_is_asked_for() -> None:
    code = (
        "import sys, carbon_scheduler; assert 'aiohttp' not in sys.modules\n"
        "carbon_scheduler.CarbonIntensityClient; assert 'aiohttp' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not hasattr(carbon_scheduler, "Nonsense")
