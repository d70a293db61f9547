"""Bodies of Electricity Maps, as recorded, as documented, and as no server should send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.errors import MalformedBody, NoRecentData, ProviderError, RejectedValue
from carbon_scheduler.providers.electricity_maps_body import Asked, read_series, read_zones
from carbon_scheduler.providers.source import Point, Series
from carbon_scheduler.sim.electricity_maps_answers import iso
from grid_fakes import DE, HOUR, NOON

# Shapes and types as recorded from the real API, values made up.
LATEST_V4 = {
    "zone": "DE", "carbonIntensity": 75, "datetime": "2026-01-01T12:00:00.000Z", "updatedAt": "2026-01-01T12:24:08.708Z",
    "createdAt": "2025-12-31T22:35:11.365Z", "emissionFactorType": "lifecycle", "flowTraced": True,
    "isEstimated": True, "estimationMethod": "FORECASTS_HIERARCHY", "temporalGranularity": "hourly",
}  # fmt: skip


def asked(temporality: Any = "latest", factor: Any = "lifecycle", zone: str = "DE", now: float = NOON + 1500) -> Asked:
    return Asked(GridZone(zone), temporality, factor, now)


def body(tree: object) -> bytes:
    return json.dumps(tree).encode()


def row(**changes: object) -> dict[str, object]:
    return {**LATEST_V4, **changes}


def test_latest_as_recorded() -> None:
    series = read_series(body(LATEST_V4), asked())
    assert series.points == (Point(NOON, 75.0, "estimated", "FORECASTS_HIERARCHY"),)
    assert (series.grid_zone, series.source, series.signal) == ("DE", "electricity-maps", "average-lifecycle")


ENVELOPES = {
    "bare object": row(),
    "history": {"zone": "DE", "history": [row()], "temporalGranularity": "hourly"},
    "data, a list": {"zone": "DE", "data": [row()]},
    "data, an object": {"aggregationPeriod": None, "data": row()},
    "with a field nobody knows": {"zone": "DE", "_disclaimer": "x", "history": [row(extra={"deep": [1]})]},
    "v3, minimal": {"zone": "DE", "carbonIntensity": 75, "datetime": "2026-01-01T12:00:00.000Z"},
    "without its zone": {"carbonIntensity": 75, "datetime": "2026-01-01T12:00:00.000Z"},
    "time with an offset": row(datetime="2026-01-01T13:00:00+01:00"),
    "updated before its hour, as happens": row(updatedAt="2026-01-01T11:49:00.000Z"),
    "a float": row(carbonIntensity=75.0),
    "nulls wherever they may be": row(
        updatedAt=None, createdAt=None, emissionFactorType=None, estimationMethod=None, zone=None
    ),
}


@pytest.mark.parametrize("tree", ENVELOPES.values(), ids=ENVELOPES)
def test_understands(tree: object) -> None:
    (point,) = read_series(body(tree), asked("history")).points
    assert (point.hour_s, point.g_per_kwh) == (NOON, 75.0)


def test_history_is_sorted_and_each_hour_stands_once() -> None:
    rows = [
        row(datetime=iso(NOON - back * HOUR), carbonIntensity=100 + back, isEstimated=False) for back in (0, 2, 1, 2)
    ]
    series = read_series(body({"zone": "DE", "history": rows}), asked("history"))
    assert [(point.hour_s, point.quality) for point in series.points] == [
        (NOON - 2 * HOUR, "measured"),
        (NOON - HOUR, "measured"),
        (NOON, "measured"),
    ]


def test_a_forecast_reaches_into_the_future() -> None:
    rows = [{"carbonIntensity": 100, "datetime": iso(NOON + ahead * HOUR)} for ahead in range(25)]
    series = read_series(body({"zone": "DE", "forecast": rows}), asked("forecast"))
    assert len(series.points) == 25
    assert {point.quality for point in series.points} == {"forecast"}


def test_only_a_plain_false_is_measured() -> None:
    qualities = [
        read_series(body(row(isEstimated=flag)), asked()).points[0].quality for flag in (False, True, None, "false", 0)
    ]
    assert qualities == ["measured", "estimated", "estimated", "estimated", "estimated"]


REJECTED = {
    "null": (row(carbonIntensity=None), "null"),
    "a text, even of digits": (row(carbonIntensity="84"), "type"),
    "a boolean": (row(carbonIntensity=True), "type"),
    "a list": (row(carbonIntensity=[1]), "type"),
    "NaN": (row(carbonIntensity=float("nan")), "nan"),
    "infinity": (row(carbonIntensity=float("inf")), "range"),
    "an integer beyond floats": (row(carbonIntensity=10**400), "range"),
    "negative": (row(carbonIntensity=-1), "negative"),
    "zero in life-cycle emissions": (row(carbonIntensity=0), "zero"),
    "above the bound": (row(carbonIntensity=1500.1), "range"),
    "another zone": (row(zone="US-NY-NYIS"), "zone_echo"),
    "a zone in lower case is not what was asked": (row(zone="de"), "zone_echo"),
    "another zone in the row": ({"zone": "DE", "history": [row(zone="FR")]}, "zone_echo"),
    "another zone above rows that name none": (
        {"zone": "FR", "history": [{"carbonIntensity": 75, "datetime": "2026-01-01T12:00:00.000Z"}]},
        "zone_echo",
    ),
    "a zone that is no text": (row(zone=["DE"]), "zone_echo"),
    "other emission factors": (row(emissionFactorType="direct"), "factor_type"),
    "a time in the future": (row(datetime=iso(NOON + 2 * HOUR)), "future"),
    "a time two days ago": (row(datetime=iso(NOON - 49 * HOUR)), "stale"),
    "no time": (row(datetime=None), "time"),
    "a time without its offset": (row(datetime="2026-01-01T12:00:00"), "time"),
    "a number for a time": (row(datetime=1767268800), "time"),
    "a time of 300 characters": (row(datetime="2" * 300), "time"),
    "a row that is no object": ({"zone": "DE", "history": [7]}, "type"),
}


@pytest.mark.parametrize(("tree", "want"), REJECTED.values(), ids=REJECTED)
def test_rejects(tree: object, want: str) -> None:
    with pytest.raises(RejectedValue) as caught:
        read_series(body(tree), asked("history" if isinstance(tree, dict) and "history" in tree else "latest"))
    assert caught.value.reason == want
    assert "of DE" in str(caught.value)


def test_zero_is_possible_in_direct_emissions() -> None:
    series = read_series(body(row(carbonIntensity=0, emissionFactorType="direct")), asked(factor="direct"))
    assert (series.points[0].g_per_kwh, series.signal) == (0.0, "average-direct")


def test_five_minutes_of_wrong_clock_are_tolerated() -> None:
    assert read_series(body(row()), asked(now=NOON - 299)).points[0].hour_s == NOON


def test_a_bad_row_does_not_spoil_the_others() -> None:
    rows = [row(datetime=iso(NOON - HOUR)), row(carbonIntensity=None)]
    series = read_series(body({"zone": "DE", "history": rows}), asked("history"))
    assert [point.hour_s for point in series.points] == [NOON - HOUR]
    assert [rejected.reason for rejected in series.rejected] == ["null"]


MALFORMED = {
    "nothing": b"",
    "half an answer": body(LATEST_V4)[:60],
    "a page": b"<!DOCTYPE html><pre>Cannot GET</pre>",
    "a list": b"[]",
    "a number": b"7",
    "an object of something else": b'{"hello": "world"}',
    "not UTF-8": b'{"zone": "\xff"}',
    "nested 100,000 deep": b"[" * 100_000,
    "objects nested 100,000 deep": b'{"a":' * 100_000,
    "an integer of 5,000 digits": b'{"carbonIntensity": ' + b"1" * 5000 + b"}",
    "10,000 rows": b'{"zone":"DE","history":[' + b"1," * 10_000 + b"1]}",
    "history is a text": b'{"zone": "DE", "history": "x"}',
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        read_series(raw, asked())
    assert len(str(caught.value)) < 600


def test_no_recent_data_with_status_200() -> None:
    with pytest.raises(NoRecentData, match="No recent data"):
        read_series(b'{"error":"No recent data for zone \\"DE\\""}', asked())
    with pytest.raises(NoRecentData, match="empty"):
        read_series(b'{"zone":"DE","history":[]}', asked("history"))


def test_zones_with_and_without_access() -> None:
    tree = {
        "DE": {"zoneName": "Germany", "access": ["carbon-intensity/latest"]},
        "US-TEX-ERCO": {"zoneName": "Electric Reliability Council", "displayName": "ERCOT"},
        "XX": None,
        "YY": {"zoneName": 7, "access": "no list"},
    }
    found = read_zones(body(tree))
    assert list(found) == ["DE", "US-TEX-ERCO", "YY"]
    assert found["DE"].access == ("carbon-intensity/latest",)
    assert (found["US-TEX-ERCO"].name, found["US-TEX-ERCO"].access) == ("ERCOT", None)
    with pytest.raises(MalformedBody, match="no zones"):
        read_zones(b"{}")


# Structure-aware: valid answers with fields and rows replaced by anything that JSON can say.

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["DE", "FR", "lifecycle", "direct", 0, -0.0, 1500, 1501, 10**400, iso(NOON), iso(9e9), "2026-W01-1"]),
)  # fmt: skip
_anything = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_hours = st.integers(-60, 60).map(lambda ahead: iso(NOON + ahead * HOUR))
_row = st.fixed_dictionaries(
    {"carbonIntensity": st.one_of(st.floats(-10, 2000), _scalars), "datetime": st.one_of(_hours, _scalars)},
    optional={
        "zone": st.one_of(st.just("DE"), _scalars),
        "isEstimated": _scalars,
        "estimationMethod": _scalars,
        "emissionFactorType": _scalars,
    },
)
_rows = st.lists(st.one_of(_row, _anything), max_size=30)
_envelope = st.one_of(
    _row,
    st.fixed_dictionaries(
        {}, optional={name: st.one_of(_rows, _row, _anything) for name in ("history", "forecast", "data", "zone")}
    ),
    _anything,
)
_temporality = st.sampled_from(["latest", "history", "forecast", "past-range"])


def check(raw: bytes, temporality: Any, factor: Any) -> None:
    """A believable series or a named error: nothing else."""
    try:
        series = read_series(raw, asked(temporality, factor))
    except ProviderError as error:
        text = str(error)
    else:
        text = ""
        check_series(series, temporality, factor)
    assert len(text) < 1000
    assert text.isprintable()


def check_series(series: Series, temporality: Any, factor: Any) -> None:
    hours = [point.hour_s for point in series.points]
    assert hours
    assert hours == sorted(set(hours))
    assert series.grid_zone == DE
    for point in series.points:
        assert 0 <= point.g_per_kwh <= 1500
        assert point.g_per_kwh > 0 or factor == "direct"
        assert point.hour_s % HOUR == 0
        assert (point.quality == "forecast") == (temporality == "forecast")


@settings(max_examples=2000, deadline=None)
@given(_envelope, _temporality, st.sampled_from(["lifecycle", "direct"]))
@example({"zone": "DE", "history": [{"carbonIntensity": 10**400, "datetime": iso(NOON)}]}, "history", "lifecycle")
def test_any_json_gives_a_series_or_a_named_error(tree: object, temporality: Any, factor: Any) -> None:
    check(json.dumps(tree).encode(), temporality, factor)


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_any_damage_to_a_good_answer_gives_a_series_or_a_named_error(data: st.DataObject) -> None:
    good = bytearray(body({"zone": "DE", "history": [row(datetime=iso(NOON - back * HOUR)) for back in range(4)]}))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        match data.draw(st.sampled_from(["replace", "cut", "insert"])):
            case "replace":
                good[at] = data.draw(st.integers(0, 255))
            case "cut":
                del good[at : at + data.draw(st.integers(1, 40))]
            case _:
                good[at:at] = data.draw(st.binary(max_size=8))
        if not good:
            break
    check(bytes(good), "history", "lifecycle")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | _anything.map(lambda tree: json.dumps(tree).encode()))
def test_any_zones_body_gives_zones_or_malformed(raw: bytes) -> None:
    try:
        text = "" if read_zones(raw) else "no zones and no error"
    except MalformedBody as error:
        text = str(error)
    assert text.isprintable()
    assert text != "no zones and no error"
