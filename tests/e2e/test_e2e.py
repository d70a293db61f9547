"""Upstream's end-to-end specs: the fast ones run under our scheduler here, all of them and both schedulers by `make e2e`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.errors import ConfigError
from carbon_scheduler.sim.control_plane import ControlPlaneMissing
from e2e import compare, suite
from e2e.__main__ import Job, run, suite_binary
from e2e.suite import Outcome, SuiteBroken

if TYPE_CHECKING:
    from pathlib import Path

JSON = dict[str, Any]
S = 1_000_000_000


def _spec(
    name: str, state: str = "passed", *, kind: str = "It", ran_s: float = 1.0, failure: JSON | None = None
) -> JSON:
    made = {
        "ContainerHierarchyTexts": ["[sig-scheduling] Predicates [Serial]"] if kind == "It" else None,
        "LeafNodeType": kind,
        "LeafNodeText": name,
        "State": state,
        "RunTime": int(ran_s * S),
    }
    return made | ({"Failure": failure} if failure else {})


def _report(*specs: JSON) -> bytes:
    return json.dumps([{"SuiteDescription": "x", "SpecReports": specs}]).encode()


FAILURE = {
    "Message": "expected\n\n  node-1\nto be node-2\nmore",
    "Location": {"FileName": "/a/b/predicates.go", "LineNumber": 7},
}
REPORTS: dict[str, tuple[bytes, dict[str, Outcome]]] = {
    "a spec that passed": (_report(_spec("fits")), {"Predicates [Serial] fits": Outcome("passed", 1.0)}),
    "a failure says where and why, on one line": (
        _report(_spec("fits", "failed", failure=FAILURE)),
        {"Predicates [Serial] fits": Outcome("failed", 1.0, "predicates.go:7: expected node-1 to be node-2")},
    ),
    "a spec that was not selected is left out": (_report(_spec("fits", "skipped", ran_s=0)), {}),
    "a spec that skipped itself is kept": (
        _report(_spec("fits", "skipped", ran_s=0.06)),
        {"Predicates [Serial] fits": Outcome("skipped", 0.1)},
    ),
    "set-up that went well is no spec": (_report(_spec("", kind="BeforeSuite"), _spec("fits", ran_s=0.04)), {
        "Predicates [Serial] fits": Outcome("passed", 0.0)
    }),
    "no specs at all": (b'[{"SpecReports": null}]', {}),
}  # fmt: skip


@pytest.mark.parametrize("case", REPORTS)
def test_the_report_is_read(case: str) -> None:
    text, want = REPORTS[case]
    assert suite.read_report(text) == want


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'[{"SpecReports": [{"State": 3}]}]',
        _report(_spec("", "failed", kind="AfterSuite", failure=FAILURE)),
    ],
)
def test_a_report_of_a_broken_suite_is_no_success(text: bytes) -> None:
    with pytest.raises(SuiteBroken):
        suite.read_report(text)


def test_worse_is_what_passes_with_kube_scheduler_alone() -> None:
    passed, failed = Outcome("passed", 1.0), Outcome("failed", 2.0, "a.go:1: no")
    upstream = {"both": passed, "ours fails": passed, "ours never ran": passed, "theirs fails": failed, "none": failed}
    ours = {"both": passed, "ours fails": failed, "theirs fails": passed, "none": failed}
    rows = compare.compare(upstream, ours)
    assert [row.spec for row in rows if row.worse] == ["ours fails", "ours never ran"]
    text = "\n".join(compare.lines(rows))
    assert "passed 1.0 s        not run             ! ours never ran" in text
    assert "ours fails\n  ours: failed: a.go:1: no" in text
    assert text.endswith("5 specs, 1 pass with both, 2 pass with kube-scheduler alone")
    assert [row["worse"] for row in json.loads(compare.as_json(rows))] == [row.worse for row in rows]


def test_specs_are_selected_by_speed_and_name(tmp_path: Path) -> None:
    outcomes = {
        "b quick": Outcome("passed", 29.9),
        "a slow": Outcome("passed", 30.0),
        "c fails quickly": Outcome("failed", 1.0),
    }
    compare.write_expected(outcomes, tmp_path / "expected.json")
    stored = compare.read_expected(tmp_path / "expected.json")
    assert stored == outcomes
    assert compare.select(stored) == ["a slow", "b quick", "c fails quickly"]
    assert compare.select(stored, fast=True) == ["b quick"]
    assert compare.select(stored, pattern="quick") == ["b quick", "c fails quickly"]
    with pytest.raises(ConfigError, match="matches none of: a slow"):
        compare.select(stored, pattern="qick")


@pytest.mark.control_plane
def test_each_spec_that_is_stored_is_one_of_the_suite() -> None:
    """A dry run of the binary: a name that a later release changed would silently be left out otherwise."""
    listed = subprocess.run(
        [_binary(), "--ginkgo.dry-run", "--ginkgo.no-color", "--ginkgo.v", "--kubeconfig=/dev/null",
         "--provider=skeleton", *suite.selection(compare.read_expected())],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert re.findall(r"^Ran (\d+) of", listed, re.MULTILINE) == [str(len(compare.read_expected()))]


def test_shares_take_about_as_long_and_hold_each_spec_once() -> None:
    times = {"a": 17.0, "b": 16.0, "c": 10.0, "d": 4.0, "e": 4.0, "f": 1.0}
    expected = {spec: Outcome("passed", seconds) for spec, seconds in times.items()}
    assert compare.shares(expected, expected, 2) == [["a", "d", "e", "f"], ["b", "c"]]
    assert compare.shares(expected, ["f"], 2) == [["f"], []]


@pytest.mark.slow
@pytest.mark.control_plane
@pytest.mark.timeout(600)
def test_the_fast_specs_that_pass_with_kube_scheduler_pass_with_ours() -> None:
    """On two clusters at the same time: most of a spec's time is waiting."""
    _binary()
    stored = compare.read_expected()
    only = compare.select(stored, fast=True)
    parts = {f"part-{number}": Job("ours", part) for number, part in enumerate(compare.shares(stored, only, 2))}
    ours = {spec: outcome for part in run(parts, limit_s=420).values() for spec, outcome in part.items()}
    rows = compare.compare({spec: stored[spec] for spec in only}, ours)
    assert len(rows) >= 20
    assert not [row.spec for row in rows if row.worse], "\n".join(compare.lines(rows))


def _binary() -> Path:
    try:
        return suite_binary()
    except ControlPlaneMissing as missing:
        if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
            pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))
