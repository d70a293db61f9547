"""Times as Go reads them, and ages as kubectl writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from carbon_scheduler.sim.apiserver.durations import human_duration, seconds_between
from carbon_scheduler.sim.apiserver.kubelet import duration_s
from carbon_scheduler.sim.apiserver.times import check_micro_time, check_time, whole_seconds

AGES = {
    0: "0s",
    119: "119s",
    120: "2m",
    200: "3m20s",
    599: "9m59s",
    600: "10m",
    3 * 3600 - 1: "179m",
    3 * 3600: "3h",
    3 * 3600 + 120: "3h2m",
    8 * 3600: "8h",
    47 * 3600: "47h",
    48 * 3600: "2d",
    52 * 3600: "2d4h",
    8 * 86400: "8d",
    730 * 86400: "2y",
    760 * 86400: "2y30d",
    8 * 365 * 86400: "8y",
    -1: "0s",
    -5: "<invalid>",
}


def test_ages() -> None:
    assert {seconds: human_duration(seconds) for seconds in AGES} == AGES


def test_an_age_that_cannot_be_told() -> None:
    assert human_duration(seconds_between("yesterday", datetime(2026, 1, 1, tzinfo=UTC))) == "<unknown>"
    assert seconds_between("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=5)) == 5


@pytest.mark.parametrize(
    "written", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.1234567Z", "x", 5]
)
def test_micro_times_have_six_digits(written: object) -> None:
    with pytest.raises(ValueError, match="parsing time"):
        check_micro_time(written)


def test_times_that_are_read() -> None:
    check_micro_time(None)
    check_micro_time("2026-01-01T00:00:00.123456+01:00")
    check_time(None)
    check_time("2026-01-01T00:00:00.5Z")
    assert whole_seconds("2026-01-01T00:00:00.5Z") == "2026-01-01T00:00:00Z"
    assert whole_seconds("2026-01-01T00:00:00Z") == "2026-01-01T00:00:00Z"


DURATIONS = {
    "30s": 30.0,
    "1m30s": 90.0,
    "250ms": 0.25,
    "0.5s": 0.5,
    "2h": 7200.0,
    "": None,
    "5": None,
    "5x": None,
    "-1s": None,
}


def test_durations() -> None:
    assert {written: duration_s(written) for written in DURATIONS} == DURATIONS
