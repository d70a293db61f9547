"""`carbon-intensity` and the examples, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.cli.carbon_intensity import _main
from carbon_scheduler.sim.electricity_maps_answers import Mode
from grid_fakes import fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "s3cr3t-key"


@pytest.fixture(scope="module")
def everything() -> Iterator[FakeElectricityMaps]:
    with fake_server(keys=[SECRET]) as server:
        yield server


@pytest.fixture
def server(everything: FakeElectricityMaps, monkeypatch: pytest.MonkeyPatch) -> FakeElectricityMaps:
    everything.modes.clear()
    everything.requests.clear()
    monkeypatch.setenv("ELECTRICITY_MAPS_URL", everything.url)
    monkeypatch.setenv("ELECTRICITY_MAPS_API_KEY", SECRET)
    monkeypatch.delenv("ELECTRICITY_MAPS_API_KEY_FILE", raising=False)
    monkeypatch.delenv("DEFAULT_CARBON_ZONE", raising=False)
    return everything


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = _main(list(arguments))
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = run(capsys, *arguments, "--format", "json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_documents_command(server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str]) -> None:
    server.modes["US-NY-NYIS"] = Mode("value", 300)
    code, out, err = run(capsys, "--zone", "US-NY-NYIS", "--type", "latest")
    assert (code, err) == (0, "")
    assert out.startswith("US-NY-NYIS  300 gCO₂eq/kWh (estimated)\n")


def test_latest_as_json(server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str]) -> None:
    server.modes["DE"] = Mode("measured")
    latest = run_json(capsys, "--zone", "de")
    assert list(latest) == [
        "zone",
        "carbon_intensity_g_per_kwh",
        "quality",
        "source",
        "signal",
        "datetime",
        "error_frac",
    ]
    assert (latest["zone"], latest["quality"], latest["source"]) == ("DE", "measured", "electricity-maps")


def test_recent(server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--zone", "DE", "--type", "recent")
    assert code == 0
    first, bars, last = out.splitlines()
    assert first.startswith("DE  mean of 24 h ")
    assert "(2 estimated)" in first
    assert len(bars) == 24
    assert {"▁", "█"} <= set(bars) <= set("▁▂▃▄▅▆▇█")
    assert "electricity-maps" in last
    recent = run_json(capsys, "--zone", "DE", "--type", "recent", "--hours", "3")
    assert list(recent) == ["zone", "source", "signal", "points", "rejected", "average"]
    assert list(recent["points"][0]) == ["datetime", "carbon_intensity_g_per_kwh", "quality", "method"]
    assert len(recent["points"]) == recent["average"]["hours"] == 3
    mean = sum(point["carbon_intensity_g_per_kwh"] for point in recent["points"]) / 3
    assert recent["average"]["carbon_intensity_g_per_kwh"] == pytest.approx(mean, abs=1e-3)


def test_a_constant_zone_and_gaps_can_be_drawn(server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str]) -> None:
    server.modes["DE"] = Mode("frozen", 400)
    assert run(capsys, "--zone", "DE", "--type", "recent")[1].splitlines()[1] == "▁" * 24


def test_forecast(server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--zone", "DE", "--type", "forecast")
    assert code == 0
    assert out.startswith("DE  lowest ")
    forecast = run_json(capsys, "--zone", "DE", "--type", "forecast", "--hours", "10")
    assert len(forecast["points"]) == 11
    assert {point["quality"] for point in forecast["points"]} == {"forecast"}


def test_zones(server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--type", "zones")
    assert code == 0
    assert len(out.splitlines()) == 379
    zones = run_json(capsys, "--type", "zones")
    germany = next(zone for zone in zones if zone["zone"] == "DE")
    assert germany == {
        "zone": "DE",
        "name": "Germany",
        "access": ["carbon-intensity/forecast", "carbon-intensity/history", "carbon-intensity/latest"],
    }


def test_without_a_key_it_works_and_says_so(
    server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELECTRICITY_MAPS_API_KEY", "")
    code, out, err = run(capsys, "--zone", "DE")
    assert code == 0
    assert out.startswith("DE  330 gCO₂eq/kWh (static)\n")
    assert err.startswith("Note: No Electricity Maps key")
    code, out, _ = run(capsys, "--zone", "DE", "--type", "recent", "--format", "json")
    assert (code, json.loads(out)["average"]["static"]) == (0, True)
    assert run(capsys, "--type", "zones")[0] == 0
    code, _, err = run(capsys, "--zone", "DE", "--type", "forecast")
    assert (code, err.startswith("Error: a forecast of DE needs an Electricity Maps key")) == (2, True)
    assert server.count() == 0


def test_key_file_and_default_zone(
    server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    monkeypatch.delenv("ELECTRICITY_MAPS_API_KEY")
    monkeypatch.setenv("DEFAULT_CARBON_ZONE", "FR")
    code, out, err = run(capsys, "--api-key-file", str(tmp_path / "key"))
    assert (code, err) == (0, "")
    assert out.startswith("FR  ")


FAILURES = {
    "a wrong key": ("bad-key", 3, "Error: API request failed with status 401: Request unauthorized"),
    "another zone's key": ("plan", 3, "Error: API request failed with status 401: Request unauthorized"),
    "too many requests": ("429", 3, "Error: API request failed with status 429: Too Many Requests"),
    "a fault of theirs": ("html-500", 3, "Error: API request failed with status 500: Internal Server Error"),
    "a value that cannot be": ("null", 3, "Error: carbon-intensity/latest of DE: carbonIntensity"),
}


@pytest.mark.parametrize(("mode", "want_code", "want"), FAILURES.values(), ids=FAILURES)
def test_failures_of_the_service(
    server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str], mode: Any, want_code: int, want: str
) -> None:
    server.modes["DE"] = Mode(mode)
    code, out, err = run(capsys, "--zone", "DE")
    assert (code, out) == (want_code, "")
    assert err.startswith(want)


USAGE = {
    "no zone": (["--type", "latest"], "needs --zone"),
    "a misspelled zone": (["--zone", "Germny"], "Did you mean DE"),
    "hours of the present": (["--zone", "DE", "--hours", "3"], "--hours goes with --type recent or forecast"),
    "an unknown type": (["--zone", "DE", "--type", "past"], "'past' is not one of"),
    "a file that is not there": (["--zone", "DE", "--api-key-file", "/nope"], "/nope: cannot be read"),
}


@pytest.mark.parametrize(("arguments", "want"), USAGE.values(), ids=USAGE)
def test_usage(
    server: FakeElectricityMaps, capsys: pytest.CaptureFixture[str], arguments: list[str], want: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert want in err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "carbon-intensity --zone US-NY-NYIS --type latest" in out


def test_as_a_program_on_a_terminal_without_the_letters(server: FakeElectricityMaps) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "carbon_scheduler.cli.carbon_intensity", "--zone", "DE", "--type", "recent"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gCO?eq/kWh" in done.stdout


def example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_example_usage(server: FakeElectricityMaps) -> None:
    server.modes["FR"], server.modes["US-NY-NYIS"] = Mode("value", 50), Mode("value", 300)
    server.modes["GB"] = Mode("plan")
    done = example("example_usage.py", "US-NY-NYIS", "FR", "GB")
    assert done.returncode == 0
    assert "US-NY-NYIS: 300 gCO2eq/kWh (estimated" in done.stdout
    assert "cleanest now: FR" in done.stdout
    assert done.stderr.startswith("GB: API request failed with status 401: Request unauthorized")


def test_example_wait_for_clean_power(server: FakeElectricityMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    server.modes["DE"] = Mode("frozen", 100)  # no hour is cleaner than the present one
    done = example("wait_for_clean_power.py", "DE", "12", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert (done.returncode, "100 in 0.0 h" in done.stderr) == (7, True)
    monkeypatch.setenv("ELECTRICITY_MAPS_API_KEY", "")
    done = example("wait_for_clean_power.py", "DE", "12", "--", "true")
    assert (done.returncode, "no forecast, running now" in done.stderr) == (0, True)
    assert example("wait_for_clean_power.py").returncode == 2
