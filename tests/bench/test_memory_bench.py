"""bench/memory.py, and the bound that it is about: 100 MiB for 5,000 nodes and 50,000 bound pods. Allocations are counted, so
the figure of a cluster a tenth of that size is no matter of luck."""

from __future__ import annotations

import json

import pytest

from bench_files import load

bench = load("memory")


def test_the_cores_state_stays_small() -> None:
    found = bench.measure(500, 5_000)
    assert found.nodes_mib + found.pods_mib < 10
    assert found.pod_b < 1_500


def test_it_tells_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--nodes", "3", "--pods", "7", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["nodes"], told["pods"]) == (3, 7)
    assert bench.main(["--nodes", "3", "--pods", "7"]) == 0
    assert "| 3 | 7 |" in capsys.readouterr().out
