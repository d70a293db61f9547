"""Which value stands for a zone, and how good it is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.core.carbon import CarbonValue
from carbon_scheduler.core.grid import GridZones
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.providers.ladder import OPERATOR_DEFAULT, Ladder
from carbon_scheduler.providers.tables import grid_zones
from grid_fakes import DE, HOUR, NOON, make_series

NOWHERE = GridZone("XX-NOWHERE")
SIGMA = math.sqrt(math.pi / 2)


def make_ladder(**options: object) -> Ladder:
    return Ladder(grid_zones(), **options)  # type: ignore[arg-type]


def value_of(ladder: Ladder, now: float = NOON, zone: GridZone = DE) -> CarbonValue:
    value = ladder.value(zone, now)
    assert value is not None
    return value


def test_the_present_hour_is_live() -> None:
    ladder = make_ladder()
    assert ladder.learn(make_series(300, 310)) is None
    value = value_of(ladder, NOON + 3599)
    assert (value.g_per_kwh, value.quality, value.source, value.hour_s) == (310, "measured", "electricity-maps", NOON)
    assert value.error_frac == 0
    assert value.live


def test_an_estimated_hour_says_so_and_has_an_error() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(300, quality="estimated"))
    assert value_of(ladder).quality == "estimated"
    assert value_of(ladder).error_frac == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("hours", "want_quality", "want_mae"),
    [(1, "stale", 0.038), (2, "stale", 0.071), (3, "stale", 0.102), (4, "static", 0.199)],
)
def test_a_value_ages_and_then_gives_way_to_the_average(hours: int, want_quality: str, want_mae: float) -> None:
    ladder = make_ladder()
    ladder.learn(make_series(300))
    value = value_of(ladder, NOON + hours * HOUR + 10)
    assert value.quality == want_quality
    assert value.g_per_kwh == (300 if want_quality == "stale" else 330)  # 330: DE's average in the table
    assert value.error_frac == pytest.approx(want_mae * SIGMA, abs=1e-4)  # sigma of a normal error with that MAE
    assert value.age_s(NOON + hours * HOUR + 10) == (hours * HOUR + 10 if want_quality == "stale" else 10)


def test_errors_of_age_and_estimation_add_in_squares() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(300, quality="estimated"))
    assert value_of(ladder, NOON + HOUR).error_frac == pytest.approx(math.hypot(0.12, 0.038 * SIGMA), abs=1e-4)


def test_rungs_below_the_average() -> None:
    nobody = GridZones([])
    assert Ladder(nobody).value(NOWHERE, NOON) is None
    value = Ladder(nobody, default_g_per_kwh=450).value(NOWHERE, NOON)
    assert value is not None
    assert (value.g_per_kwh, value.quality, value.source) == (450, "default", OPERATOR_DEFAULT)


def test_direct_emissions_never_fall_to_life_cycle_averages() -> None:
    assert make_ladder(signal="average-direct").value(DE, NOON) is None


def test_kinds_of_intensity_are_never_mixed() -> None:
    with pytest.raises(ValueError, match="never mixed"):
        make_ladder(signal="average-direct").learn(make_series(300))


def test_a_forecast_is_not_taken_for_what_was() -> None:
    with pytest.raises(ValueError, match="not among its rungs"):
        make_ladder().learn(make_series(300, quality="forecast"))


def test_how_long_a_value_is_kept_is_the_operators() -> None:
    ladder = make_ladder(max_stale_s=HOUR)
    ladder.learn(make_series(300))
    assert value_of(ladder, NOON + HOUR).quality == "stale"
    assert value_of(ladder, NOON + 2 * HOUR).quality == "static"


def test_a_correction_replaces_the_value() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(300, quality="estimated"))
    ladder.learn(make_series(320, issued=NOON + 900))
    assert (value_of(ladder).g_per_kwh, value_of(ladder).quality) == (320, "measured")


def test_points_are_kept_for_two_days() -> None:
    ladder = make_ladder()
    for hour in range(100):
        ladder.learn(make_series(300 + hour % 7, now=NOON + hour * HOUR))
    points = ladder.points(DE)
    assert len(points) == 49
    assert points[-1].hour_s - points[0].hour_s == 48 * HOUR


JUMPS = {
    # a newest point further than max(200, 60 % of the one before) waits
    "doubling of a middling value": (300, 501, True),
    "just within 200 g": (300, 500, False),
    "a glitch downwards": (230, 11, True),
    "60 % of a high value": (800, 1280, False),
    "above 60 % of a high value": (800, 1281, True),
    "a clean grid's everyday": (20, 180, False),
}


@pytest.mark.parametrize(("before", "after", "waits"), JUMPS.values(), ids=JUMPS)
def test_a_jump_waits_for_a_second_poll(before: float, after: float, waits: bool) -> None:
    ladder = make_ladder()
    ladder.learn(make_series(before))
    rejected = ladder.learn(make_series(after, now=NOON + HOUR))
    assert (rejected is not None) == waits == ladder.waits(DE)
    assert value_of(ladder, NOON + HOUR).g_per_kwh == (before if waits else after)
    if rejected:
        assert rejected.reason == "jump"


def test_a_jump_is_believed_when_a_later_poll_says_about_the_same() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(230))
    ladder.learn(make_series(600, now=NOON + HOUR))
    assert value_of(ladder, NOON + HOUR).g_per_kwh == 230
    assert ladder.learn(make_series(640, now=NOON + HOUR + 900)) is None
    assert value_of(ladder, NOON + HOUR).g_per_kwh == 640
    assert not ladder.waits(DE)


def test_the_same_poll_twice_is_no_second_opinion() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(230))
    ladder.learn(make_series(600, now=NOON + HOUR))
    assert ladder.learn(make_series(600, now=NOON + HOUR)) is not None
    assert value_of(ladder, NOON + HOUR).g_per_kwh == 230


def test_a_glitch_that_is_corrected_never_shows() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(230))
    ladder.learn(make_series(11, now=NOON + HOUR))
    assert ladder.learn(make_series(235, now=NOON + HOUR + 900)) is None
    assert value_of(ladder, NOON + HOUR).g_per_kwh == 235
    assert not ladder.waits(DE)


def test_a_jump_within_the_first_answer_waits_too() -> None:
    ladder = make_ladder()
    assert ladder.learn(make_series(230, 240, 900)) is not None
    assert (value_of(ladder).g_per_kwh, value_of(ladder).quality) == (240, "stale")


def test_a_jump_after_a_long_gap_is_believed() -> None:
    ladder = make_ladder()
    ladder.learn(make_series(230))
    assert ladder.learn(make_series(900, now=NOON + 4 * HOUR)) is None


def test_a_single_first_value_has_nothing_to_be_compared_with() -> None:
    ladder = make_ladder()
    assert ladder.learn(make_series(1400)) is None


@given(st.lists(st.tuples(st.floats(0, 1500), st.integers(0, 30), st.integers(1, 24)), max_size=20))
def test_any_history_gives_a_value_within_bounds(polls: list[tuple[float, int, int]]) -> None:
    ladder = make_ladder()
    now = NOON
    for g_per_kwh, hours_later, rows in polls:
        now += hours_later * HOUR
        ladder.learn(make_series(*[g_per_kwh] * rows, now=now))
        value = value_of(ladder, now)
        assert 0 <= value.g_per_kwh <= 1500
        assert 0 <= value.error_frac < 1
        assert value.hour_s <= now
        assert len(ladder.points(DE)) <= 49
