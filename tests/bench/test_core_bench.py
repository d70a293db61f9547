"""bench/core.py: that it runs, and that its figures are of the work that it says. How fast anything is, is not tested."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bench_files import load

bench = load("core")
TINY = bench.Scenario("tiny", nodes=6, pods=20, shapes=2, grid_zones=3)


def test_a_tiny_scenario_gives_a_table_and_counts_each_repetition() -> None:
    [result] = bench.measure([TINY], repetitions=2)
    assert len(result.repetitions) == len(result.kernels) == 2  # the round that warms up does not count
    assert all(ratio > 0 for ratio in result.kernels)
    assert "| tiny | 6 | 2 |" in bench.markdown([result])


def test_a_scenario_whose_pods_do_not_fit_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"crowded: 110 of 111 pods were bound"):
        bench.repetition(bench.Scenario("crowded", nodes=1, pods=111, shapes=1, grid_zones=1))


def test_the_scenarios_that_ship_have_room_for_their_pods() -> None:
    for scenario in bench.scenarios():
        assert scenario.pods <= scenario.nodes * 110
        assert scenario.preempting or scenario.pods * 0.15 <= scenario.nodes * 32


def test_who_preempts_is_counted_by_its_victims() -> None:
    full = bench.Scenario("full", nodes=6, pods=4, shapes=2, grid_zones=3, running=24, preempting=True)
    assert bench.repetition(full).decide_us > 0
    with pytest.raises(RuntimeError, match="0 of 4 pods had others evicted"):
        bench.repetition(dataclasses.replace(full, running=0))


def test_json_carries_what_it_ran_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "scenarios", lambda: [TINY])
    assert bench.main(["--format", "json", "--repetitions", "5"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made["on"]) == {"carbon_scheduler", "python", "numpy", "machine"}
    assert len(made["results"][0]["repetitions"]) == 5


def test_fewer_than_five_repetitions_are_no_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--repetitions", "4"])
    assert "at least 5" in capsys.readouterr().err
