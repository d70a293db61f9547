"""The poller: what it publishes and says, and when it asks. Time is moved by hand."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from carbon_scheduler import config as configuration
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.errors import (
    ConfigError,
    KeyRejected,
    NoRecentData,
    NotInPlan,
    ProviderUnavailable,
    RateLimited,
    RejectedValue,
)
from carbon_scheduler.providers.ladder import Ladder
from carbon_scheduler.providers.poller import CarbonPoller
from carbon_scheduler.providers.schedule import jitter_s
from carbon_scheduler.providers.source import Rejected
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps
from grid_fakes import DE, FR, GB, HOUR, NOON, FakeClock, FakeSource, NoChance, make_series, narrator_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from carbon_scheduler.core.carbon import CarbonValue

READY = "Carbon intensity client initialized successfully"


class Watch:
    def __init__(self) -> None:
        self.fetches: list[str] = []
        self.rejections: list[str] = []
        self.left: int | None = None
        self.values: dict[str, CarbonValue | None] = {}

    def fetched(self, outcome: str) -> None:
        self.fetches.append(outcome)

    def rejected(self, reason: str) -> None:
        self.rejections.append(reason)

    def budget_left(self, requests: int) -> None:
        self.left = requests

    def intensity(self, grid_zone: GridZone, value: CarbonValue | None) -> None:
        self.values[grid_zone] = value


class Bench:
    """A running poller with everything that it touches."""

    def __init__(self, wall: float = NOON, requests_per_hour: int = 60, **answers: Any) -> None:
        self.clock = FakeClock(wall)
        self.source = FakeSource(self.clock, **answers)
        self.lines: list[str] = []
        self.watch = Watch()
        self.published: list[tuple[str, float | None, str | None]] = []
        self.poller = CarbonPoller(
            self.source,
            Ladder(grid_zones()),
            self._publish,
            narrator=narrator_to(self.lines),
            requests_per_hour=requests_per_hour,
            watcher=self.watch,
            clock=self.clock,
            chance=NoChance(),
        )

    def _publish(self, zone: GridZone, value: CarbonValue | None) -> None:
        self.published.append((zone, value.g_per_kwh if value else None, value.quality if value else None))

    def news(self) -> list[tuple[str, float | None, str | None]]:
        """What was published since the last call, in the order of zones."""
        news, self.published = self.published, []
        return sorted(news, key=lambda entry: entry[0])

    @asynccontextmanager
    async def running(self, zones: Iterable[GridZone] = (DE,)) -> AsyncIterator[None]:
        self.poller.use(zones)
        task = asyncio.create_task(self.poller.run())
        await self.clock.advance(0)
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert self.source.closed


async def test_values_are_published_as_soon_as_they_are_there() -> None:
    bench = Bench(DE=350, FR=40)
    async with bench.running([DE, FR]):
        assert bench.news() == [("DE", 350, "measured"), ("FR", 40, "measured")]
        assert bench.lines == [READY]
        assert bench.watch.fetches == ["ok", "ok"]
        assert bench.watch.left == 58


async def test_a_slow_zone_holds_up_nobody_and_gets_its_average_in_time() -> None:
    bench = Bench(DE=350, FR=40)
    bench.source.hanging = {"FR"}
    async with bench.running([DE, FR]):
        assert bench.news() == [("DE", 350, "measured")]
        await bench.clock.advance(4.4)
        assert bench.news() == []
        await bench.clock.advance(0.2)  # the core waits 5 s: the ladder's answer comes before
        assert bench.news() == [("FR", 100, "static")]
        bench.source.release()
        await bench.clock.advance(0)
        assert bench.news() == [("FR", 40, "measured")]


FAILURES = {
    "key rejected": KeyRejected("API request failed with status 401: Request unauthorized"),
    "not in the plan": NotInPlan("plan"),
    "no data": NoRecentData("no data"),
    "limited": RateLimited("slow down"),
    "down": ProviderUnavailable("down"),
    "null": RejectedValue("null", reason="null"),
    "a defect of ours": ZeroDivisionError("oops"),
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
async def test_a_failure_publishes_the_average_at_once_and_is_said_once(error: Exception) -> None:
    bench = Bench(DE=error, **{"latest DE": error})
    async with bench.running():
        assert bench.news() == [("DE", 330, "static")]
        await bench.clock.advance(50 * 60)
        assert bench.news() == []
        said = [line for line in bench.lines if line != READY]
        if not isinstance(error, ZeroDivisionError):
            assert len(said) == 1
            assert said[0].startswith((f"Error: {error}", f"Warning: {error}"))
            assert "scheduling goes on" in said[0]
        bench.source.answers["DE"] = 350
        await bench.clock.advance(13 * HOUR)  # whatever was remembered is over by then
        assert bench.news()[-1][1:] == (350, "measured")
        if not isinstance(error, ZeroDivisionError):
            assert [line for line in bench.lines if "available again" in line] == [bench.lines[-1]]


async def test_the_users_line_for_a_refused_key() -> None:
    bench = Bench(DE=FAILURES["key rejected"], FR=FAILURES["key rejected"])
    async with bench.running([DE, FR]):
        assert bench.lines[1].startswith("Error: API request failed with status 401: Request unauthorized")
        assert len(bench.lines) == 2


async def test_one_bad_zone_does_not_hurt_the_others() -> None:
    bench = Bench(DE=ProviderUnavailable("down"), FR=40, GB=NotInPlan("plan"), **{"latest GB": NotInPlan("plan")})
    async with bench.running([DE, FR, GB]):
        assert bench.news() == [("DE", 330, "static"), ("FR", 40, "measured"), ("GB", 165, "static")]
        await bench.clock.advance(HOUR + 600)
        assert ("FR", 40, "measured") in bench.news()


async def test_without_a_key_nothing_is_asked_until_there_is_one() -> None:
    bench = Bench(DE=350)
    bench.source.problem = "No Electricity Maps key: ... kubectl create secret"
    async with bench.running():
        assert bench.news() == [("DE", 330, "static")]
        assert bench.lines == [READY, "Warning: No Electricity Maps key: ... kubectl create secret"]
        await bench.clock.advance(2 * HOUR)
        assert bench.source.calls == []
        assert len(bench.lines) == 2
        bench.news()
        bench.source.problem, bench.source.version = None, 1
        await bench.clock.advance(10)
        assert bench.news() == [("DE", 350, "measured")]
        assert "There is a key" in bench.lines[-1]


async def test_a_new_key_is_tried_within_seconds() -> None:
    bench = Bench(DE=KeyRejected("401"))
    async with bench.running():
        await bench.clock.advance(600)
        assert len(bench.source.calls) == 1
        bench.source.answers["DE"], bench.source.version = 350, 1
        await bench.clock.advance(10)
        assert bench.news()[-1] == ("DE", 350, "measured")
        assert len(bench.source.calls) == 2


async def test_zones_that_do_not_exist_are_never_asked_for() -> None:
    bench = Bench(DE=350)
    async with bench.running([DE, GridZone("US-NOWHERE"), GridZone("de")]):
        await bench.clock.advance(2 * HOUR)
        assert set(bench.source.calls) == {"DE"}
        assert ("US-NOWHERE", None, None) in bench.news()


async def test_settled_zones_are_asked_once_an_hour_after_the_source_has_worked() -> None:
    bench = Bench(DE=350)
    async with bench.running():
        await bench.clock.advance(10 * HOUR - 1)
        assert len(bench.source.calls) == 10  # at the start, and in nine later hours


async def test_estimated_values_are_asked_again_every_quarter_of_an_hour() -> None:
    bench = Bench(DE=350)
    bench.source.quality = "estimated"
    async with bench.running():
        await bench.clock.advance(HOUR - 1)
        assert len(bench.source.calls) == 5  # at 12:00, and at :06, :21, :36 and :51 with its jitter


async def test_a_new_hour_shows_the_last_value_as_stale_until_the_fetch() -> None:
    bench = Bench(wall=NOON + 1800, DE=350)
    async with bench.running():
        bench.news()
        await bench.clock.advance(1800)
        assert bench.news() == [("DE", 350, "stale")]
        bench.source.answers["DE"] = 280
        await bench.clock.advance(360 + jitter_s(DE))
        assert bench.news() == [("DE", 280, "measured")]


async def test_values_step_down_the_ladder_while_the_source_is_down() -> None:
    bench = Bench(DE=350)
    async with bench.running():
        bench.source.answers["DE"] = ProviderUnavailable("down")
        bench.news()
        await bench.clock.advance(5 * HOUR)
        assert [quality for _, _, quality in bench.published] == ["stale", "stale", "stale", "static", "static"]
        assert sum("down" in line for line in bench.lines) == 1


async def test_an_outage_costs_few_requests_and_ends_within_five_minutes() -> None:
    zones = [GridZone(zone) for zone in ("DE", "FR", "GB", "SE", "NO", "PL", "ES", "IT")]
    bench = Bench(requests_per_hour=60, **dict.fromkeys(zones, ProviderUnavailable("down")))
    async with bench.running(zones):
        await bench.clock.advance(3000)
        assert len(bench.source.calls) <= 60
        bench.source.answers = dict.fromkeys(zones, 100)
        bench.news()
        await bench.clock.advance(310)
        assert {zone for zone, _, quality in bench.news() if quality == "measured"} == set(zones)
        assert sum("down" in line for line in bench.lines) == 1
        assert sum("available again" in line for line in bench.lines) == 1


async def test_never_more_requests_than_the_budget() -> None:
    zones = [GridZone(zone) for zone in list(grid_zones())[:30]]
    bench = Bench(requests_per_hour=12, **dict.fromkeys(zones, 100))
    bench.source.quality = "estimated"
    async with bench.running(zones):
        for _ in range(6):
            before = len(bench.source.calls)
            await bench.clock.advance(HOUR)
            assert len(bench.source.calls) - before <= 12
        assert set(bench.source.calls) == set(zones), "every zone has had its turn"
        assert sum("budget" in line for line in bench.lines if line.startswith("Warning")) >= 1


async def test_a_rate_limit_is_kept() -> None:
    bench = Bench(DE=RateLimited("slow down", retry_after_s=1800), FR=40)
    async with bench.running():
        bench.poller.use([DE, FR])
        await bench.clock.advance(1790)
        assert bench.source.calls == ["DE"]
        await bench.clock.advance(20)
        assert set(bench.source.calls) == {"DE", "FR"}


async def test_a_plan_without_history_is_served_by_latest() -> None:
    bench = Bench(DE=NotInPlan("plan"), **{"latest DE": 350})
    async with bench.running():
        assert bench.news() == [("DE", 350, "measured")]
        assert bench.lines == [READY]
        await bench.clock.advance(13 * HOUR - 60)
        assert len(bench.source.latest_calls) == 13
        assert len(bench.source.calls) == 2, "history is tried again after 12 hours"
        assert bench.news()[-1] == ("DE", 350, "measured")


async def test_a_jump_is_shown_after_the_second_poll() -> None:
    bench = Bench(DE=250)
    async with bench.running():
        bench.news()
        bench.source.answers["DE"] = 700
        await bench.clock.advance(HOUR + 600)
        assert bench.news() == [("DE", 250, "stale")]
        assert bench.watch.rejections == ["jump"]
        await bench.clock.advance(900)
        assert bench.news() == [("DE", 700, "measured")]


async def test_zones_come_and_go() -> None:
    bench = Bench(DE=350, FR=40)
    async with bench.running([DE, FR]):
        bench.news()
        bench.poller.use([DE])
        await bench.clock.advance(1)
        assert bench.watch.values["FR"] is None
        bench.poller.use([DE, FR])
        await bench.clock.advance(1)
        assert bench.news() == [("FR", 40, "measured")]
        assert bench.source.calls.count("FR") == 1, "coming back does not cost a request"


async def test_a_zone_that_goes_while_it_is_asked_for() -> None:
    bench = Bench(DE=350)
    bench.source.hanging = {"DE"}
    async with bench.running():
        bench.poller.use([])
        bench.source.release()
        await bench.clock.advance(1)
        assert bench.news() == []


async def test_a_clock_that_is_set_back_does_not_silence_the_poller() -> None:
    bench = Bench(DE=350)
    async with bench.running():
        bench.clock.set_wall(NOON - 24 * HOUR)
        bench.news()
        await bench.clock.advance(30)
        assert len(bench.source.calls) == 2
        assert bench.news()[-1] == ("DE", 350, "measured")


async def test_rejected_rows_are_counted_and_the_good_ones_used() -> None:
    good = make_series(300, 310)
    bench = Bench(
        DE=replace(good, points=good.points[:1], rejected=(Rejected("null", "carbonIntensity of 12:00 is null"),))
    )
    async with bench.running():
        assert bench.news() == [("DE", 300, "stale")]
        assert bench.watch.rejections == ["null"]
        assert "is null" in bench.lines[-1]


async def test_a_bad_row_of_an_hour_gone_by_is_counted_and_not_said() -> None:
    answer = replace(make_series(300, 310), rejected=(Rejected("null", "an old row"),))
    bench = Bench(DE=answer)
    async with bench.running():
        assert bench.news() == [("DE", 310, "measured")]
        assert bench.watch.rejections == ["null"]
        assert bench.lines == [READY]


async def test_the_key_is_in_no_line_of_the_log() -> None:
    secret = "s3cr3t-key-of-electricity-maps"
    lines: list[str] = []
    answered = asyncio.Event()
    server = FakeElectricityMaps(keys=["another"])
    await server.start()
    config = configuration.load(None, {"ELECTRICITY_MAPS_URL": server.url}, {})
    environ = {"ELECTRICITY_MAPS_API_KEY": secret}
    poller = CarbonPoller.of(
        config, environ, publish=lambda zone, value: answered.set(), narrator=narrator_to(lines, logging.DEBUG)
    )
    poller.use([DE])
    task = asyncio.create_task(poller.run())
    await asyncio.wait_for(answered.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await server.stop()
    assert lines[0] == READY
    assert lines[1].startswith("Error: API request failed with status 401: Request unauthorized")
    assert secret not in "\n".join(lines) + repr(vars(poller)) + repr(vars(poller._guard))


async def test_a_key_over_plain_http_is_warned_of() -> None:
    lines: list[str] = []
    config = configuration.load(None, {"ELECTRICITY_MAPS_URL": "http://grid.example"}, {})
    CarbonPoller.of(config, {}, publish=lambda zone, value: None, narrator=narrator_to(lines))
    assert lines == [
        "Warning: http://grid.example is not https: the key and the values travel readable and can be changed on the way"
    ]


async def test_from_the_configuration() -> None:
    lines: list[str] = []
    narrator = narrator_to(lines)
    values: list[CarbonValue | None] = []
    config = configuration.load(None, {"CARBON_SCHEDULER_CARBON_DEFAULT_G_PER_KWH": "400"}, {})
    poller = CarbonPoller.of(
        config, {}, publish=lambda zone, value: values.append(value), narrator=narrator, clock=FakeClock()
    )
    poller.use([DE])
    poller._step()
    assert [value.quality for value in values if value] == ["static"]
    assert "kubectl create secret generic carbon-aware-scheduler -n kube-system --from-literal=api-key=..." in lines[0]
    environ = {"ELECTRICITY_MAPS_API_KEY": "s3cr3t"}
    CarbonPoller.of(config, environ, publish=lambda zone, value: None, narrator=narrator)
    assert narrator.redact("s3cr3t") != "s3cr3t", "the log's redactor knows the key"
    bad = configuration.load(None, {"ELECTRICITY_MAPS_URL": "nonsense"}, {})
    with pytest.raises(ConfigError, match="ELECTRICITY_MAPS_URL"):
        CarbonPoller.of(bad, {}, publish=lambda zone, value: None, narrator=narrator)
