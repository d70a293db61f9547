"""How often a source is asked, and what is remembered of its refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.errors import (
    BudgetSpent,
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
from carbon_scheduler.providers.guard import Breaker, Budget, Guard
from carbon_scheduler.providers.schedule import allows_refresh, jitter_s, next_fetch_s, next_hour_s, next_tick_s
from carbon_scheduler.providers.source import Point
from grid_fakes import DE, FR, NOON, FakeClock, FakeSource, NoChance, settle


def make_guard(source: FakeSource, requests_per_hour: int = 60, outcomes: list[str] | None = None) -> Guard:
    count = None if outcomes is None else outcomes.append
    return Guard(source, requests_per_hour=requests_per_hour, clock=source.clock, chance=NoChance(), on_outcome=count)


@given(st.lists(st.floats(0, 2000), max_size=200), st.integers(1, 10))
def test_never_more_than_the_budget_in_any_hour(gaps: list[float], limit: int) -> None:
    budget, now, taken = Budget(limit), 0.0, []
    for gap in gaps:
        now += gap
        if budget.take(now):
            taken.append(now)
        assert budget.free_at(now) >= now
        assert 0 <= budget.left(now) <= limit
    for start in taken:
        assert sum(start <= at < start + 3600 for at in taken) <= limit


def test_the_budget_says_when_there_is_more() -> None:
    budget = Budget(2)
    assert budget.take(0)
    assert budget.take(10)
    assert not budget.take(20)
    assert budget.free_at(20) == 3600
    assert budget.take(3600)
    assert budget.free_at(3600) == 3610


def test_breaker_opens_after_five_failures_and_probes() -> None:
    breaker = Breaker()
    for at in range(4):
        breaker.failed(f"zone {at}", at)
    assert not breaker.open
    breaker.failed("zone 3", 4)
    assert not breaker.open, "one zone that fails again and again is its own trouble"
    breaker.failed("zone 4", 4)
    assert breaker.open
    assert breaker.free_at(5) == 34  # 4 + 30
    breaker.asking()
    assert breaker.free_at(34) == float("inf")  # one probe at a time
    breaker.failed("zone 0", 40)
    assert breaker.free_at(41) == 100  # 40 + 60
    breaker.asking()
    breaker.answered()
    assert not breaker.open
    assert breaker.free_at(101) == 101


def test_stragglers_do_not_open_the_breaker_twice() -> None:
    breaker = Breaker()
    for at in range(8):  # requests that were under way when it opened
        breaker.failed(f"zone {at}", at)
    assert breaker.free_at(8) == 34


HOLDS = {
    # error -> (seconds until this zone may be asked again, whether other zones wait too)
    "not in the plan": (NotInPlan("x"), 12 * 3600, False),
    "unknown zone": (UnknownZone("x"), 12 * 3600, False),
    "no recent data": (NoRecentData("x"), 300, False),
    "malformed": (MalformedBody("x"), 300, False),
    "rejected value": (RejectedValue("x", reason="null"), 300, False),
    "unavailable": (ProviderUnavailable("x"), 1.5, False),  # 2 s x 0.75
    "key rejected": (KeyRejected("x"), 3600, True),
    "rate limited with a wait": (RateLimited("x", retry_after_s=77), 77, True),
    "rate limited without a wait": (RateLimited("x"), 60, True),
    "rate limited with a wait of none": (RateLimited("x", retry_after_s=0), 1, True),
}


@pytest.mark.parametrize(("error", "want_s", "want_all"), HOLDS.values(), ids=HOLDS)
async def test_refusals_are_remembered(error: ProviderError, want_s: float, want_all: bool) -> None:
    clock = FakeClock()
    source = FakeSource(clock, DE=error, FR=100)
    guard = make_guard(source)
    with pytest.raises(type(error)):
        await guard.history(DE)
    with pytest.raises(type(error)):  # no request: remembered
        await guard.history(DE)
    assert source.calls == ["DE"]
    assert guard.wait_s("history", DE) == pytest.approx(want_s)
    assert (guard.wait_s("history", FR) > 0) == want_all
    await clock.advance(want_s)
    assert guard.wait_s("history", DE) == 0
    source.answers["DE"] = 100
    await guard.history(DE)
    assert guard.wait_s("history", DE) == 0


async def test_repeated_failures_wait_longer_and_a_success_forgets() -> None:
    clock = FakeClock()
    source = FakeSource(clock, DE=ProviderUnavailable("x"), FR=100)
    guard = make_guard(source)
    waits = []
    for _ in range(6):
        with pytest.raises(ProviderUnavailable):
            await guard.history(DE)
        await guard.history(FR)  # the source answers for others: the breaker stays closed
        waits.append(guard.wait_s("history", DE))
        await clock.advance(waits[-1])
    assert waits == [1.5, 6.0, 24.0, 96.0, 225.0, 225.0]
    source.answers["DE"] = 100
    await guard.history(DE)
    source.answers["DE"] = ProviderUnavailable("x")
    with pytest.raises(ProviderUnavailable):
        await guard.history(DE)
    assert guard.wait_s("history", DE) == 1.5


async def test_a_new_key_clears_what_the_old_one_was_refused() -> None:
    clock = FakeClock()
    source = FakeSource(clock, DE=KeyRejected("x"), FR=NotInPlan("x"))
    guard = make_guard(source)
    for zone in (FR, DE):
        with pytest.raises(ProviderError):
            await guard.history(zone)
    source.version += 1
    assert guard.wait_s("history", DE) == guard.wait_s("history", FR) == 0


async def test_a_source_that_is_down_for_everyone_is_asked_once_in_a_while() -> None:
    clock = FakeClock()
    zones = [GridZone(zone) for zone in ("DE", "FR", "GB", "SE", "NO")]
    source = FakeSource(clock, **dict.fromkeys(zones, ProviderUnavailable("x")))
    guard = make_guard(source)
    for zone in zones:
        with pytest.raises(ProviderUnavailable):
            await guard.history(zone)
    with pytest.raises(ProviderUnavailable, match="not asked for a while"):
        await guard.history(GridZone("PL"))
    assert len(source.calls) == 5
    await clock.advance(30)
    source.answers = dict.fromkeys(zones, 100)
    source.hanging = {"DE"}
    probe = asyncio.create_task(guard.history(DE))
    await settle()
    assert guard.wait_s("history", FR) == float("inf")
    source.release()
    await probe
    assert guard.wait_s("history", FR) == 0


async def test_same_question_at_the_same_time_is_one_request() -> None:
    clock = FakeClock()
    source = FakeSource(clock, DE=100, FR=50)
    source.hanging = {"DE"}
    guard = make_guard(source)
    askers = [asyncio.create_task(guard.history(DE)) for _ in range(5)]
    await settle()
    askers[0].cancel()  # one loses interest: the others still get the answer
    await settle()
    source.release()
    answers = await asyncio.gather(*askers[1:])
    assert source.calls == ["DE"]
    assert [series.points[-1].g_per_kwh for series in answers] == [100] * 4
    assert askers[0].cancelled()


async def test_an_error_reaches_everyone_who_waits() -> None:
    clock = FakeClock()
    source = FakeSource(clock, DE=NoRecentData("x"))
    source.hanging = {"DE"}
    guard = make_guard(source)
    askers = [asyncio.create_task(guard.history(DE)) for _ in range(3)]
    await settle()
    source.release()
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NoRecentData] * 3
    assert source.calls == ["DE"]


async def test_budget_and_outcomes() -> None:
    clock, outcomes = FakeClock(), list[str]()
    source = FakeSource(clock, DE=100, FR=NoRecentData("x"))
    guard = make_guard(source, 2, outcomes)
    await guard.history(DE)
    with pytest.raises(NoRecentData):
        await guard.history(FR)
    assert guard.left() == 0
    with pytest.raises(BudgetSpent, match="2 requests per hour is used up for 60 more minutes"):
        await guard.history(DE)
    assert outcomes == ["ok", "no_recent_data", "budget_spent"]
    assert source.calls == ["DE", "FR"]


async def test_closing_ends_what_is_under_way() -> None:
    clock = FakeClock()
    source = FakeSource(clock, DE=100)
    source.hanging = {"DE"}
    guard = make_guard(source)
    asker = asyncio.create_task(guard.history(DE))
    await settle()
    await guard.close()
    assert source.closed
    with pytest.raises(asyncio.CancelledError):
        await asker


@given(st.floats(1.6e9, 2e9), st.sampled_from(["DE", "FR", "US-NY-NYIS", "GB"]))
def test_ticks_lie_ahead_and_follow_the_source(now: float, zone: str) -> None:
    tick, hour = next_tick_s(zone, now), next_hour_s(zone, now)  # type: ignore[arg-type]
    assert now < tick <= now + 900 + 1e-3
    assert tick <= hour <= now + 3600 + 1e-3
    assert 0 <= jitter_s(zone) <= 120  # type: ignore[arg-type]
    assert hour % 3600 == pytest.approx(360 + jitter_s(zone), abs=1e-3)  # type: ignore[arg-type]
    assert tick % 900 == pytest.approx(360 + jitter_s(zone), abs=1e-3)  # type: ignore[arg-type]


NEXT = {
    # newest point -> (hours old, quality, doubtful, room) -> minutes past noon of the next fetch, without its jitter
    "a measured value of this hour is final": ((0, "measured", False, True), 66),
    "an estimated one may be better soon": ((0, "estimated", False, True), 21),
    "a jump wants a second opinion": ((0, "measured", True, True), 21),
    "a late value too": ((1, "measured", False, True), 21),
    "not without room in the budget": ((0, "estimated", False, False), 66),
    "the hour's own fetch is never left out": ((1, "measured", False, False), 66),
}


@pytest.mark.parametrize(("state", "want_min"), NEXT.values(), ids=NEXT)
def test_next_fetch(state: tuple[int, Any, bool, bool], want_min: int) -> None:
    hours_old, quality, doubtful, room = state
    now = NOON + 10 * 60
    newest = Point(NOON - hours_old * 3600, 100, quality)
    at = next_fetch_s(DE, now, newest, doubtful=doubtful, room=room)
    assert at == NOON + want_min * 60 + jitter_s(DE)


def test_a_value_that_is_late_before_the_hours_own_fetch_waits_for_that() -> None:
    newest = Point(NOON - 3600, 100, "measured")
    assert next_fetch_s(DE, NOON + 60, newest, doubtful=False, room=False) == NOON + 360 + jitter_s(DE)


def test_refreshes_leave_room_for_the_next_round() -> None:
    assert allows_refresh(left=30, limit=60, zones=8)
    assert not allows_refresh(left=14, limit=60, zones=8)  # 8 zones and a tenth of 60 are kept
