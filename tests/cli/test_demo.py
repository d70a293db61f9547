"""The demo as its user runs it: a program of its own, from nothing to the table, and what it leaves when it is cut short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.sim import demo_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbon_scheduler.sim.control_plane import ControlPlane

pytestmark = pytest.mark.slow
LIMIT_S = 60.0


class Run:
    """One `carbon-scheduler demo`. Everything it starts has `home` in its environment or on its command line."""

    def __init__(self, home: Path, *argv: str, **environ: str) -> None:
        self.home = home
        env = {key: value for key, value in os.environ.items() if not key.startswith(("ELECTRICITY_", "CARBON_"))}
        env |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1", **environ}
        self._out, self._err = home / "stdout", home / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "carbon_scheduler.cli", "demo", *argv],
                stdout=out,
                stderr=err,
                env=env,
                cwd=home,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait(self) -> int:
        return self.process.wait(LIMIT_S)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.err, f"{text!r} on stderr")

    def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not true():
            assert time.monotonic() < end, f"no {what} within {LIMIT_S} s; stderr so far:\n{self.err}"
            time.sleep(0.02)

    def processes(self) -> list[str]:
        """Command lines of what still runs of it, from /proc."""
        mark = str(self.home).encode()
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                line, environ = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
                zombie = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:  # it ended while we looked
                continue
            if not zombie and (mark in line or mark in environ):
                found.append(line.replace(b"\0", b" ").decode())
        return found

    def assert_nothing_left(self) -> None:
        self.until(lambda: not self.processes(), f"end of {self.processes()}")
        assert [path for path in self.home.iterdir() if path.is_dir()] == []


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*argv: str, **environ: str) -> Run:
        runs.append(Run(tmp_path, *argv, **environ))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def check(shown: dict[str, Any]) -> None:
    """What must hold of the demo's result at any hour of the day, whatever the intensities are."""
    pods = {row["pod"]: row for row in shown["pods"]}
    assert len(pods) == 60
    total = shown["total"]
    assert (total["placed"], total["pending"], total["not_ours"], total["compared"]) == (55, 3, 2, 55)
    assert pods["huge-1"]["why"].startswith("0/24 nodes are available: ")
    assert pods["nvme-1"]["why"].startswith("0/24 nodes are available: ")
    assert pods["gated-1"]["why"] == "gated by example.com/quota"
    assert pods["other-2"] | {"why": ""} == dict.fromkeys(pods["other-2"]) | {
        "pod": "other-2",
        "state": "not ours",
        "why": "",
    }
    placed = [row for row in pods.values() if row["state"] == "placed"]
    nodes = {node["metadata"]["name"]: node for node in demo_workload.nodes()}
    for row in placed:
        assert row["node"] in nodes
        assert row["node"] != "stockholm-2"  # cordoned
        if not row["pod"].startswith("training-"):
            assert row["node"] != "stockholm-3"  # tainted
        assert row["difference_g_per_kwh"] == pytest.approx(row["g_per_kwh"] - row["blind_g_per_kwh"])
    assert {row["grid_zone"] for row in placed if row["pod"].startswith("frankfurt-")} == {"DE"}
    assert {row["grid_zone"] for row in placed if row["pod"].startswith("europe-")} <= {"DE", "IE"}
    cpu_m: Counter[str] = Counter()
    asked = {pod["metadata"]["name"]: pod["spec"]["containers"][0] for pod in demo_workload.pods()}
    for row in pods.values():
        if row["node"]:
            cpu_m[row["node"]] += _milli(
                asked[row["pod"]].get("resources", {"requests": {"cpu": "0"}})["requests"]["cpu"]
            )
    for node, used_m in cpu_m.items():
        assert used_m <= _milli(nodes[node]["status"]["allocatable"]["cpu"]), node
    assert total["mean_g_per_kwh"] == pytest.approx(sum(row["g_per_kwh"] for row in placed) / 55)
    assert total["mean_g_per_kwh"] < total["blind_mean_g_per_kwh"]


def _milli(cpu: str) -> int:
    return int(cpu[:-1]) if cpu.endswith("m") else 1000 * int(cpu)


def test_from_nothing_to_the_table(demo: Callable[..., Run]) -> None:
    run = demo()
    assert run.wait() == 0, run.err
    for text in (
        "Connected to Kubernetes API\n",
        "Carbon intensity client initialized successfully\n",
        "Unscheduled pod detected: default/web-1\n",
        "Pod web-1 scheduled to ",
        " gCO₂eq/kWh\n",
        "Grid data: synthetic",
    ):
        assert text in run.err
    lines = run.out.splitlines()
    assert lines[0].split() == ["POD", "NODE", "GRID", "ZONE", "G/KWH", "BLIND", "CHOICE", "G/KWH", "DIFF."]
    assert sum(line.split()[:1] == ["web-1"] for line in lines) == 1
    assert any(line.startswith("huge-1 ") and "0/24 nodes are available" in line for line in lines)
    assert "55 of 60 pods placed, 3 pending, 2 of other schedulers" in run.out
    assert "synthetic" in run.out
    assert "\x1b" not in run.out + run.err  # no terminal, no colours and no progress bar
    assert "Warning" not in run.err
    run.assert_nothing_left()


def test_as_json(demo: Callable[..., Run]) -> None:
    run = demo("-o", "json")
    assert run.wait() == 0, run.err
    shown = json.loads(run.out)
    assert shown["synthetic"] is True
    assert {row["quality"] for row in shown["pods"] if row["state"] == "placed"} <= {"measured", "estimated"}
    check(shown)


@pytest.mark.control_plane
def test_on_a_real_control_plane(demo: Callable[..., Run], control_plane: ControlPlane) -> None:
    run = demo("--real", "-o", "json")
    assert run.wait() == 0, run.err
    check(json.loads(run.out))
    run.assert_nothing_left()


MOMENTS = ("Starting", "Creating", "it says:", "Unscheduled pod detected", "Everything is still up")
ENDS = {
    "Ctrl-C": (signal.SIGINT, {130, 0}),
    "SIGTERM": (signal.SIGTERM, {143}),
    "the terminal closes": (signal.SIGHUP, {129}),
    "kill -9": (signal.SIGKILL, {-9}),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_left_behind(demo: Callable[..., Run], moment: str, how: str) -> None:
    number, codes = ENDS[how]
    run = demo("--keep")
    run.until_said(moment)
    run.process.send_signal(number)
    assert run.wait() in codes
    if how == "kill -9":  # nobody is there to remove the folder
        run.until(lambda: not run.processes(), "end of its processes")
    else:
        run.assert_nothing_left()
        assert "Traceback" not in run.err


@pytest.mark.control_plane
@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_left_behind_of_a_real_control_plane(
    demo: Callable[..., Run], control_plane: ControlPlane, moment: str
) -> None:
    run = demo("--real", "--keep")
    run.until_said(moment)
    run.process.send_signal(signal.SIGINT)
    run.process.send_signal(signal.SIGINT)  # an impatient user
    assert run.wait() in {130, 0}
    run.assert_nothing_left()


@pytest.mark.parametrize("part", ["carbon_scheduler.sim.apiserver", "electricity_maps", "carbon_scheduler.cli run"])
def test_a_part_that_is_killed_ends_the_demo(demo: Callable[..., Run], part: str) -> None:
    run = demo("--keep")
    run.until_said("Everything is still up")
    pids = {
        int(folder.name): (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and (folder / "stat").read_text().rsplit(")", 1)[1].split()[1] == str(run.process.pid)
    }
    (pid,) = [pid for pid, line in pids.items() if part in line]
    os.kill(pid, signal.SIGKILL)
    assert run.wait() == 3
    assert "was ended by signal 9 before its time; its last lines:\n" in run.err
    assert "Traceback" not in run.err
    run.assert_nothing_left()


def test_a_part_that_dies_early_says_why(demo: Callable[..., Run]) -> None:
    run = demo(ELECTRICITY_MAPS_API_KEY="not-a-real-key", ELECTRICITY_MAPS_URL="nonsense")
    assert run.wait() == 3
    assert "the scheduler ended with code 2 before its time; its last lines:\n  scheduler: Error: " in run.err
    assert "ELECTRICITY_MAPS_URL: got 'nonsense'" in run.err
    assert "Traceback" not in run.err
    run.assert_nothing_left()


def test_the_users_default_zone_is_used_and_a_misspelled_one_said(demo: Callable[..., Run]) -> None:
    run = demo("-o", "json", DEFAULT_CARBON_ZONE="US-NY-NYXX")
    assert run.wait() == 0
    assert "Error: DEFAULT_CARBON_ZONE: 'US-NY-NYXX' is not a grid zone" in run.err
    assert "Did you mean 'US-NY-NYIS'" in run.err


def test_settings_of_the_users_do_not_reach_the_demo(demo: Callable[..., Run]) -> None:
    run = demo(CARBON_SCHEDULER_PLACEMENT_POLICY="off", KUBECONFIG="/nonexistent", HTTP_PROXY="http://127.0.0.1:9")
    assert run.wait() == 0, run.err
    assert "less." in run.out


def test_a_key_means_live_data_and_only_the_scheduler_gets_it(demo: Callable[..., Run]) -> None:
    """With an address that does not answer: the ladder's static values, and no grid-data server."""
    run = demo("--keep", ELECTRICITY_MAPS_API_KEY="not-a-real-key", ELECTRICITY_MAPS_URL="http://127.0.0.1:9")
    run.until_said("Everything is still up")
    assert "Grid data: live, from Electricity Maps" in run.err
    assert not any("electricity_maps" in line for line in run.processes())
    holders = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != run.process.pid:
            try:
                if b"not-a-real-key" in (folder / "environ").read_bytes():
                    holders.append((folder / "cmdline").read_bytes())
            except OSError:
                continue
    assert len(holders) == 1
    assert b"run" in holders[0]
    assert "not-a-real-key" not in run.err + run.out
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0
