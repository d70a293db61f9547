"""The fake Electricity Maps is like the real one where it was recorded, and its faults are what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.errors import ConfigError
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps, main
from carbon_scheduler.sim.electricity_maps_answers import Mode
from carbon_scheduler.sim.grid_data import Recorded, Synthetic, read_intensity
from grid_fakes import DE, HOUR, NOON, FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRACES = Path(__file__).parents[3] / "shared/traces/carbon"


@asynccontextmanager
async def a_fake(**options: Any) -> AsyncIterator[tuple[FakeElectricityMaps, aiohttp.ClientSession]]:
    server = FakeElectricityMaps(**{"keys": ["k"], "now": FakeClock(NOON + 1500).wall, **options})
    await server.start()
    async with aiohttp.ClientSession(server.url, headers={"auth-token": "k"}) as session:
        yield server, session
    await server.stop()


CI = "/v4/carbon-intensity"
# request -> (status, what the body begins with or holds); the bodies are the recorded ones
RECORDED: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "no token": (
        "GET", f"{CI}/latest?zone=DE", {"auth-token": ""}, 401,
        '{"error":"Invalid auth-token","message":"Please provide a valid authentication header. See https://app.',
    ),
    "wrong token": (
        "GET", f"{CI}/latest?zone=DE", {"auth-token": "x"}, 401,
        '{"error":"Invalid auth-token","message":"The provided token is invalid. If this token used to work, please',
    ),
    "the zone is checked before the token": (
        "GET", f"{CI}/latest?zone=ZZ-NOTAZONE", {"auth-token": ""}, 400,
        '{"status":"error","message":"Zone \'ZZ-NOTAZONE\' does not exist."}',
    ),
    "a lower-case zone does not exist": ("GET", f"{CI}/latest?zone=de", {}, 400, "does not exist"),
    "the plan is checked before the arguments": (
        "GET", f"{CI}/past-range?zone=DE", {}, 401,
        '{"error":"Request unauthorized for zoneKey=DE,requestType=past-range,dataType=carbon-intensity."',
    ),
    "an unknown path": ("GET", "/v3/nosuchroute", {}, 404, "<pre>Cannot GET /v3/nosuchroute</pre>"),
    "a wrong method on a real route": ("POST", f"{CI}/latest?zone=DE", {}, 401, "Invalid auth-token"),
    "a horizon that is not offered": ("GET", f"{CI}/forecast?zone=DE&horizonHours=7", {}, 400, '{"status":"error"'),
    "nowhere, and no lookup": ("GET", f"{CI}/latest?disableCallerLookup=true", {}, 400, "Missing arguments"),
    "nowhere: the caller's zone, as the real one does": ("GET", f"{CI}/latest", {}, 200, '{"zone":"US-NY-NYIS"'),
    "by zoneKey": ("GET", "/v3/carbon-intensity/latest?zoneKey=DE", {}, 200, '{"zone":"DE","carbonIntensity":'),
    "by cloud region": ("GET", f"{CI}/latest?dataCenterProvider=gcp&dataCenterRegion=europe-west1", {}, 200, '{"zone":"BE"'),
    "health": ("GET", "/health", {}, 200, "ok"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "status", "text"), RECORDED.values(), ids=RECORDED)
async def test_answers_as_recorded(method: str, path: str, headers: dict[str, str], status: int, text: str) -> None:
    async with a_fake() as (_, session), session.request(method, path, headers=headers) as response:
        assert response.status == status
        assert text in await response.text()
        kind = "text/html" if text.startswith("<") else "application/json"
        assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"


async def test_latest_has_the_recorded_fields() -> None:
    async with a_fake() as (_, session), session.get(f"{CI}/latest?zone=DE") as response:
        latest = await response.json()
    assert list(latest) == [
        "zone", "carbonIntensity", "datetime", "updatedAt", "createdAt", "emissionFactorType", "flowTraced", "isEstimated",
        "estimationMethod", "temporalGranularity",
    ]  # fmt: skip
    assert latest["datetime"] == "2026-01-01T12:00:00.000Z"
    assert latest["createdAt"] < latest["datetime"] < latest["updatedAt"]
    assert isinstance(latest["carbonIntensity"], int)


async def test_history_and_forecast_rows() -> None:
    async with a_fake() as (_, session):
        async with session.get(f"{CI}/history?zone=DE") as response:
            history = (await response.json())["history"]
        async with session.get(f"{CI}/forecast?zone=DE&horizonHours=72") as response:
            forecast = await response.json()
    assert [row["datetime"] for row in (history[0], history[-1])] == [
        "2025-12-31T13:00:00.000Z",
        "2026-01-01T12:00:00.000Z",
    ]
    assert [row["isEstimated"] for row in history] == [False] * 22 + [True] * 2
    assert len(history) == 24
    assert len(forecast["forecast"]) == 73
    assert forecast["forecast"][0] == {key: history[-1][key] for key in ("carbonIntensity", "datetime")}
    assert forecast["updatedAt"] == "2026-01-01T12:25:00.000Z"


async def test_a_plan_of_one_zone() -> None:
    async with a_fake(plan=["DE"]) as (server, session):
        async with session.get(f"{CI}/latest?zone=FR") as response:
            assert response.status == 401
            assert (await response.json())["error"].startswith("Request unauthorized for zoneKey=FR,requestType=latest")
        async with session.get(f"{CI}/latest?zone=DE") as response:
            assert response.status == 200
        assert (server.count(key="k"), server.count(zone="FR"), server.count()) == (2, 1, 2)


async def test_faults_are_switched_over_http_and_end_with_a_reset() -> None:
    async with a_fake() as (_, session):

        async def mode(**body: object) -> tuple[int, Any]:
            async with session.post("/_fake/mode", data=json.dumps(body)) as response:
                return response.status, await response.json()

        async def status(zone: str = "DE") -> int:
            async with session.get(f"{CI}/latest?zone={zone}") as response:
                return response.status

        assert await mode(zone="germany", mode="429", number=7) == (
            400,
            {"error": "zone: got 'germany', expected a grid zone or *"},
        )
        assert await mode(zone="de", mode="429", number=7) == (200, {"zone": "DE", "mode": "429", "number": 7})
        async with session.get(f"{CI}/latest?zone=DE") as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert await status("FR") == 200
        assert await mode(mode="html-500") == (200, {"zone": "*", "mode": "html-500", "number": None})
        assert (await status("DE"), await status("FR")) == (429, 500), "a zone's own mode comes before that of all"
        assert (await mode(zone="DE", mode="stal"))[1]["error"].endswith("Did you mean 'stale'?")
        async with session.post("/_fake/reset"):
            pass
        assert await status() == 200
        async with session.get("/_fake/requests") as response:
            told = await response.text()
        assert json.loads(told)["total"] == 1
        assert '"k"' not in told, "keys are not shown"


async def test_modes_that_change_values() -> None:
    async with a_fake() as (server, session):

        async def latest() -> Any:
            async with session.get(f"{CI}/latest?zone=DE") as response:
                return json.loads(await response.text())

        normal = (await latest())["carbonIntensity"]
        server.modes["DE"] = Mode("value", 123.45)
        assert (await latest())["carbonIntensity"] == 123.45
        server.modes["DE"] = Mode("stale", 3)
        assert (await latest())["datetime"] == "2026-01-01T09:00:00.000Z"
        server.modes["DE"] = Mode("revised")
        assert (await latest())["carbonIntensity"] != normal
        server.modes["DE"] = Mode("frozen")
        async with session.get(f"{CI}/history?zone=DE") as response:
            rows = (await response.json())["history"]
        assert len({row["carbonIntensity"] for row in rows}) == 1
        server.modes["DE"] = Mode("v3-minimal")
        assert set(await latest()) == {"zone", "carbonIntensity", "datetime"}


def test_synthetic_days_have_the_average_and_follow_local_time() -> None:
    data, zones = Synthetic(grid_zones()), grid_zones()
    for zone in (DE, GridZone("US-CAL-CISO"), GridZone("IN-WE")):
        day = [data.g_per_kwh(zone, NOON + hour * HOUR) or 0.0 for hour in range(24)]
        average = zones[zone].average.g_per_kwh
        assert sum(day) / 24 == pytest.approx(average, abs=1.0)
        assert max(day) > 1.05 * average > average > 0.9 * average > min(day)
    german = [data.g_per_kwh(DE, NOON + hour * HOUR) or 0.0 for hour in range(24)]
    assert german.index(min(german)) == 0  # 13:00 in Berlin
    assert data.g_per_kwh(GridZone("ZZ"), NOON) is None


CSV = "datetime_utc,zone,carbon_intensity_gco2eq_per_kwh\n2022-01-01T00:00:00Z,DE,100.5\n2022-01-01T02:00:00Z,DE,300\n"
WIDE = "datetime_utc,FR,IN-WE,IN-MH\n2022-01-01T00:00:00Z,10,700,1\n2022-01-01T01:00:00Z,,701,2\n"


def test_reads_files_folders_and_wide_files(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "DE_2022_hourly.csv").write_text(CSV)
    (tmp_path / "wide.csv.gz").write_bytes(gzip.compress(WIDE.encode()))
    hours = read_intensity([tmp_path], grid_zones())
    assert sorted(hours) == ["DE", "FR", "IN-WE"]
    assert hours[DE].start_s == 1640995200
    data = Recorded(hours)
    start = hours[DE].start_s
    assert [data.g_per_kwh(DE, start + hour * HOUR) for hour in range(4)] == [
        100.5,
        None,
        300,
        100.5,
    ]  # then over again
    assert data.g_per_kwh(GridZone("IN-WE"), start + HOUR) == 701  # not of the part that was merged into it
    assert data.g_per_kwh(GridZone("GB"), start) is None
    assert data.between() == (start, start + 3 * HOUR)


BAD_FILES = {
    "no header": ("1,2,3\n", "expected one named datetime_utc"),
    "empty": ("", "expected one named datetime_utc"),
    "an unknown zone": (CSV.replace(",DE,", ",Germny,"), "'Germny' is not a grid zone; did you mean DE"),
    "half an hour": (
        CSV.replace("T02:00", "T02:30"),
        ":3: datetime_utc is '2022-01-01T02:30:00Z', expected a full hour",
    ),
    "no number": (CSV.replace("300", "n/a"), ":3: got 'n/a' g/kWh"),
    "NaN": (CSV.replace("300", "nan"), ":3: got 'nan' g/kWh"),
    "negative": (CSV.replace("300", "-1"), ":3: got '-1' g/kWh"),
    "a short line": (CSV + "2022-01-01T03:00:00Z\n", ":4: got 1 columns, expected 3"),
    "a span of centuries": (CSV + "1022-01-01T03:00:00Z,DE,1\n", "a wrong date"),
}


@pytest.mark.parametrize(("text", "want"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, want: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_intensity([file], grid_zones())
    assert want in str(caught.value)
    assert str(file) in str(caught.value) or "wrong date" in want


def test_missing_and_broken_files(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(b"\x1f\x8bbroken")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "x.csv.gz", tmp_path / "nope.csv", tmp_path / "empty"):
        with pytest.raises(ConfigError):
            read_intensity([path], grid_zones())


@pytest.mark.skipif(not TRACES.is_dir(), reason="no recorded traces beside the checkout")
@pytest.mark.parametrize(
    "path", ["2022", "2023", "wide/em_lca_2022_123zones.csv.gz", "wide/em_lca_2021-2023_16zones.csv.gz"]
)
def test_reads_the_recorded_traces(path: str) -> None:
    hours = read_intensity([TRACES / path], grid_zones())
    assert len(hours) >= 16
    for zone in hours.values():
        assert len(zone.g_per_kwh) in (8760, 3 * 8760)
        assert 0 < zone.g_per_kwh.min() <= zone.g_per_kwh.max() < 1500


# As a process of its own


def start(*arguments: str, code: str = "") -> subprocess.Popen[str]:
    command = ["-c", code] if code else ["-m", "carbon_scheduler.sim.electricity_maps", *arguments]
    return subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_prints_one_line_when_it_listens_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "de.csv").write_text(CSV)
    process = start("--port", "0", "--data", str(tmp_path / "de.csv"), "--start", "2022-01-01T02:00Z", "--key", "k")
    assert process.stdout is not None
    hello = json.loads(process.stdout.readline())
    assert hello["pid"] == process.pid
    import urllib.request

    request = urllib.request.Request(f"{hello['url']}/v4/carbon-intensity/latest?zone=DE", headers={"auth-token": "k"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["carbonIntensity"] == 300
    process.send_signal(number)
    assert process.wait(10) == 0
    assert process.stdout.read() == ""


def test_ends_with_its_parent() -> None:
    code = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'carbon_scheduler.sim.electricity_maps']\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)\n"
        "print(child.stdout.readline(), flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = start(code=code)
    assert parent.stdout is not None
    pid = json.loads(parent.stdout.readline())["pid"]
    parent.wait(10)
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


WRONG = {
    "a start without data": (["--start", "2022-01-01T00:00Z"], "it needs --data"),
    "no such file": (["--data", "/nope.csv"], "/nope.csv: cannot be read"),
}


@pytest.mark.parametrize(("arguments", "want"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(arguments: list[str], want: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert want in capsys.readouterr().err
