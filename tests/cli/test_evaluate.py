"""`carbon-scheduler evaluate`: its two forms of question, its outputs, its exit codes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_objects import make_node, make_pod
from carbon_scheduler.cli import main as program

JSON = dict[str, Any]
PENDING = make_pod("web-0", cpu="3", memory="1Gi")
NODES = [make_node("small", cpu="2", carbon_zone="FR"), make_node("large", cpu="8"), make_node("full", cpu="4")]
BOUND = make_pod("old", cpu="3", node="full")
CSV = "datetime_utc,zone,carbon_intensity_gco2eq_per_kwh\n2022-07-01T12:00:00Z,FR,51\n2022-07-01T13:00:00Z,FR,\n"


def run_main(*argv: str) -> int:
    with pytest.raises(SystemExit) as exited:
        program.main(argv)
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"kind": "List", "items": [*NODES, BOUND, PENDING]}))
    return str(path)


@pytest.fixture
def record(tmp_path: Path) -> str:
    path = tmp_path / "fr.csv"
    path.write_text(CSV)
    return str(path)


def test_a_case_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        json.dumps({"id": [1, "x"], "nodes": NODES, "pods": [BOUND, None], "pod": PENDING, "unknown": 1}),
        "",
        json.dumps({"id": "none", "nodes": [], "pod": PENDING}),
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert run_main("evaluate", "--cases", "-") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    cpu: JSON = {"plugin": "NodeResourcesFit", "reasons": ["Insufficient cpu"]}
    assert first["id"] == [1, "x"]
    assert first["prefilter"] is None
    assert first["nodes"] == {
        "small": {"code": "UnschedulableAndUnresolvable", **cpu},
        "large": {"code": "Success", "plugin": "", "reasons": []},
        "full": {"code": "Unschedulable", **cpu},
    }
    # (8000-3000)*100//8000 = 62, (16Gi-1Gi)*100//16Gi = 93, mean 77; std of 0.375 and 0.0625 is 0.156: 84 after 100
    assert first["scores"]["NodeResourcesFit"] == {"large": 77}
    assert first["scores"]["NodeResourcesBalancedAllocation"] == {"large": 50 + (50 + 84 - 100) // 2}
    assert first["totals"] == {"large": 3 * 100 + 77 + 67}
    assert "message" not in first
    assert "carbon" not in first
    assert second == {
        **first, "id": "none", "nodes": {}, "scores": {}, "totals": {}, "message": "no nodes available to schedule pods"
    }  # fmt: skip


BAD: dict[str, tuple[str, Any, str]] = {
    "no JSON": ("nonsense", None, "malformed"),
    "no object": ("[1]", None, "got `array`"),
    "no pod": ('{"id": 7, "nodes": []}', 7, "missing required field `pod`"),
    "a pod that is none": ('{"id": "a", "pod": {"metadata": {"name": 3}}}', "a", "$.pod.metadata.name"),
    "a node without a name": ('{"id": 1, "pod": {"metadata": {"name": "p"}}, "nodes": [{}]}', 1, "metadata.name"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_line_that_is_no_case_is_answered_and_the_run_goes_on(
    sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, case_id, word = BAD[sentence]
    path = tmp_path / "cases.jsonl"
    path.write_text(line + "\n" + json.dumps({"id": 2, "nodes": NODES, "pod": PENDING}) + "\n")
    assert run_main("evaluate", "--cases", str(path)) == 2
    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert bad.keys() == {"id", "error"}
    assert bad["id"] == case_id
    assert word in bad["error"]
    assert good["id"] == 2


def test_what_no_plugin_knows_yet_is_an_error_and_not_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps({"id": 1, "nodes": NODES, "pod": make_pod("p", resourceClaims=[{"name": "gpu"}])}))
    assert run_main("evaluate", "--cases", str(path)) == 0
    assert "spec.resourceClaims" in json.loads(capsys.readouterr().out)["error"]


def test_a_table_for_people(saved: str, record: str, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--carbon", record, "--at", "2022-07-01T12:59Z", "--default-carbon-zone", "FR")
    assert run_main("evaluate", "-f", saved, "--pod", "default/web-0", *at) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NODE   TOTAL  ZONE  G/KWH  VERDICT           REASONS",
        "large  444    FR    51     feasible          -",
        "full   -      FR    51     NodeResourcesFit  Insufficient cpu",
        "small  -      FR    51     NodeResourcesFit  Insufficient cpu",
    ]
    assert run_main("evaluate", "-f", saved, "--pod", "default/web-0", "-o", "wide") == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    plugins = ["TaintToleration", "NodeResourcesFit", "NodeResourcesBalancedAllocation", "ImageLocality"]
    assert head.split() == ["NODE", "TOTAL", *plugins, "VERDICT", "REASONS"]
    assert first.split() == ["large", "444", "100", "77", "67", "0", "feasible", "-"]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_same_answer_as_a_document(form: str, saved: str, record: str, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--carbon", record, "--at", "2022-07-01T12:00Z")
    assert run_main("evaluate", "-f", saved, "--pod", "default/web-0", "-o", form, *at) == 0
    shown = {"json": json.loads, "yaml": yaml.safe_load}[form](capsys.readouterr().out)
    assert shown["id"] == "default/web-0"
    assert shown["totals"] == {"large": 444}
    assert shown["carbon"]["small"] == {
        "grid_zone": "FR", "intensity_g_per_kwh": 51.0, "quality": "measured", "cost_g": 51.0
    }  # fmt: skip
    assert set(shown["carbon"]["large"].values()) == {None}


def test_an_hour_without_a_value_has_none(saved: str, record: str, capsys: pytest.CaptureFixture[str]) -> None:
    path_and_time = ("--carbon", record, "--at", "2022-07-01T11:00-02:00")
    both = CSV + "2022-07-01T13:00:00Z,PL,700\n"
    Path(record).write_text(both)
    assert run_main("evaluate", "-f", saved, "--pod", "default/web-0", "-o", "json", *path_and_time) == 0
    assert json.loads(capsys.readouterr().out)["carbon"]["small"] == {
        "grid_zone": "FR", "intensity_g_per_kwh": None, "quality": None, "cost_g": None
    }  # fmt: skip


def test_all_that_was_saved_is_heeded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A volume that is reached from one node only, and pods of one Service that are best spread."""
    in_meta = {"name": "data", "namespace": "default", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    reached = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]}
    claim = {"kind": "PersistentVolumeClaim", "metadata": in_meta, "spec": {"volumeName": "pv"}}
    volume = {
        "kind": "PersistentVolume",
        "metadata": {"name": "pv"},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [reached]}}},
    }
    service = {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}},
    }
    (path := tmp_path / "cluster.json").write_text(
        json.dumps(
            {
                "kind": "List",
                "items": [
                    claim,
                    volume,
                    service,
                    {"kind": "ConfigMap", "metadata": {"name": "of no concern"}},
                    make_node("a"),
                    make_node("b"),
                    make_pod("with", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]),
                    make_pod("web-0", labels={"app": "web"}, node="a"),
                    make_pod("web-1", labels={"app": "web"}),
                ],
            }
        )
    )
    assert run_main("evaluate", "-f", str(path), "--pod", "default/with", "-o", "json") == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert (nodes["a"]["code"], nodes["b"]["plugin"]) == ("Success", "VolumeBinding")
    assert run_main("evaluate", "-f", str(path), "--pod", "default/web-1", "-o", "json") == 0
    # raw: 1 pod x ln(2 hosts + 2) + maxSkew 3 - 1 = 3 on a, 2 on b; 100 x (3 + 2 - raw) / 3
    assert json.loads(capsys.readouterr().out)["scores"]["PodTopologySpread"] == {"a": 66, "b": 100}


def test_no_feasible_node_is_the_answer_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "PodList", "items": [{**PENDING, "kind": None}]}))
    assert run_main("evaluate", "-f", str(path), "--pod", "default/web-0") == 1
    assert "no nodes available" in capsys.readouterr().err
    path.write_text(json.dumps(make_pod("p", resourceClaims=[{"name": "gpu"}])))
    assert run_main("evaluate", "-f", str(path), "--pod", "default/p") == 1
    assert "spec.resourceClaims" in capsys.readouterr().err


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "neither form": ((), "give either --cases FILE, or -f FILE"),
    "both forms": (("--cases", "x", "-f", "SAVED"), "give either"),
    "a file without a pod": (("-f", "SAVED"), "needs --pod"),
    "a form of output for cases": (("--cases", "-", "-o", "json"), "go with -f"),
    "a record without a time": (("-f", "SAVED", "--pod", "a/b", "--carbon", "RECORD"), "go together"),
    "a time that is none": (("-f", "SAVED", "--pod", "a/b", "--carbon", "RECORD", "--at", "noon"), "got 'noon'"),
    "a time that was not recorded": (
        ("-f", "SAVED", "--pod", "a/b", "--carbon", "RECORD", "--at", "2023-07-01"),
        "2022-07-01T12:00:00+00:00 to 2022-07-01T13:00:00+00:00",
    ),
    "a zone that is none": (("-f", "SAVED", "--pod", "a/b", "--default-carbon-zone", "FRR"), "got 'FRR'"),
    "a pod that is not there": (("-f", "SAVED", "--pod", "default/web-1"), "Did you mean 'default/web-0'?"),
    "a pod that has a node": (("-f", "SAVED", "--pod", "default/old"), "already runs on full"),
    "a file that is not there": (("-f", "/nowhere/x.json", "--pod", "a/b"), "cannot be read"),
    "cases that are not there": (("--cases", "/nowhere/x.jsonl"), "cannot be read"),
    "a file of something else": (("-f", "RECORD", "--pod", "a/b"), "is not a list of API objects"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_use_says_what_is_right(
    sentence: str, saved: str, record: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, word = WRONG[sentence]
    assert run_main("evaluate", *({"SAVED": saved, "RECORD": record}.get(a, a) for a in argv)) == 2
    said = capsys.readouterr()
    assert word in said.err
    assert said.out == ""


def test_a_pod_is_judged_by_the_profile_of_its_scheduler_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n"
        "- {schedulerName: weighed, plugins: {score: {disabled: [{name: '*'}], enabled: [{name: TaintToleration, weight: 7}]}}}\n"
        "- {schedulerName: blind, plugins: {preFilter: {disabled: [{name: NodePorts}]}, filter: {disabled: [{name: NodePorts}, {name: TaintToleration}]}}}\n"
    )
    tainted = make_node("n", taints=[{"key": "k", "effect": "NoSchedule"}])
    cases = [
        {"nodes": [tainted, make_node("m")], "pod": make_pod("p", scheduler=n)} for n in ("weighed", "blind", "other")
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, cases)))
    assert run_main("evaluate", "--cases", str(path), "--kube-scheduler-config", str(profiles)) == 0
    weighed, blind, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert (weighed["weights"], weighed["totals"]) == ({"TaintToleration": 7}, {"m": 700})
    assert weighed["nodes"]["n"]["plugin"] == "TaintToleration"
    assert {name: node["code"] for name, node in blind["nodes"].items()} == {"n": "Success", "m": "Success"}
    assert other["error"] == "spec.schedulerName: got 'other', expected the name of a profile: weighed, blind"


def test_profiles_that_cannot_be_served_end_with_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("kind: KubeSchedulerConfiguration\n")
    assert run_main("evaluate", "--cases", "-", "--kube-scheduler-config", str(profiles)) == 2
    assert "2 fields cannot be served" in capsys.readouterr().err
