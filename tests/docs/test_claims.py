"""What the prose says of the program: its figures, its defaults, its commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from carbon_scheduler import config
from carbon_scheduler.core import grid
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.providers import guard, ladder
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim import demo_workload
from carbon_scheduler.sim.demo_report import Report
from hints import ROWS

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
OURS = ("carbon-intensity", "carbon-scheduler", ".venv/bin/carbon-scheduler")
BIN = Path(sys.executable).parent


def text(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shell_lines() -> list[tuple[str, str]]:
    """(page, command) of every line in a bash block, continued lines joined."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            lines = (" ".join(line.split()) for line in block.replace("\\\n", " ").splitlines())
            found += [(str(page.relative_to(CHECKOUT)), line) for line in lines if line and not line.startswith("#")]
    return found


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """One of our commands, without a key and without a cluster."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, env=kept | {"LANG": "C.UTF-8"}, check=False)


def test_commands_in_the_docs_can_be_read_by_a_shell() -> None:
    assert len(shell_lines()) > 30
    for page, line in shell_lines():
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page}: {line}: {done.stderr}"


def test_flags_of_our_commands_exist() -> None:
    """Every `--flag` after one of our commands, wherever it stands in a bash block."""
    helps = {
        "carbon-intensity": run(str(BIN / "carbon-intensity"), "--help").stdout,
        **{
            command: run(str(BIN / "carbon-scheduler"), command, "--help").stdout
            for command in ("run", "demo", "evaluate")
        },
    }
    seen = 0
    for page, line in shell_lines():
        words = [word for word in shlex.split(line, comments=True) if "=" not in word or word.startswith("--")]
        if not words or words[0] not in OURS:
            continue
        command = "carbon-intensity" if words[0] == "carbon-intensity" else words[1]
        for word in words:
            if word.startswith("--"):
                seen += 1
                assert re.search(rf"{re.escape(word.partition('=')[0])}\b", helps[command]), f"{page}: {line}"
    assert seen >= 5


def test_the_flags_of_make_demo_exist() -> None:
    shown = run(str(BIN / "carbon-scheduler"), "demo", "--help").stdout
    for _, line in shell_lines():
        if line.startswith("make demo ARGS="):
            assert line.removeprefix("make demo ARGS=").strip('"') in shown


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", text("Makefile"), re.MULTILINE))
    assert {line.split()[1] for _, line in shell_lines() if line.startswith("make ")} <= targets


@pytest.mark.parametrize("kind", ["latest", "recent", "zones"])
def test_the_data_client_works_without_a_key(kind: str) -> None:
    done = run(str(BIN / "carbon-intensity"), "--zone", "US-NY-NYIS", "--type", kind, "--format", "json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    if kind == "latest":
        assert f"`... {made['carbon_intensity_g_per_kwh']:.2f} gCO₂eq/kWh (static)`" in text("README.md")


def test_the_python_of_the_readme_runs() -> None:
    [program] = blocks(CHECKOUT / "README.md", "python")
    done = run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert "static" in done.stdout


def test_configurations_in_the_docs_are_valid() -> None:
    seen = 0
    for page in PAGES:
        for block in blocks(page, "yaml"):
            tree = yaml.safe_load(block)
            if "placement" in tree:
                msgspec.convert(tree, config.Config)
                seen += 1
    assert seen == 2


def test_the_picture_and_its_words_agree() -> None:
    runs = msgspec.json.decode((CHECKOUT / "docs/pictures/demo.json").read_bytes(), type=dict[str, Report])
    alone, ours = runs["scores_alone"].total, runs["with_carbon"].total
    assert alone.mean_g_per_kwh is not None
    assert ours.mean_g_per_kwh is not None
    want = f"![{ours.placed} pods of the demo by the place where they run: mean {alone.mean_g_per_kwh:.0f} g/kWh"
    assert want in text("README.md")
    assert f"{ours.mean_g_per_kwh:.0f} g/kWh with the scheduler" in text("README.md")
    assert alone.placed == ours.placed


def test_the_picture_is_of_the_demo_as_it_is() -> None:
    """When this fails the demo has changed: run hack/record_demo.py, then make docs, and correct the README's words."""
    runs = msgspec.json.decode((CHECKOUT / "docs/pictures/demo.json").read_bytes(), type=dict[str, Report])
    want = sorted(pod["metadata"]["name"] for pod in demo_workload.pods())
    for run in runs.values():
        assert sorted(row.pod for row in run.pods) == want
        assert {row.node for row in run.pods if row.node} <= {
            node["metadata"]["name"] for node in demo_workload.nodes()
        }


def test_figures_in_the_prose_are_the_programs() -> None:
    defaults = config.Config()
    concepts, key = text("docs/concepts.md"), text("docs/how-to/set-the-key.md")
    tolerance = defaults.placement
    assert f"within {tolerance.tolerance_frac:.0%} of the lowest".replace("%", " %") in concepts
    assert f"within {tolerance.tolerance_g_per_kwh:g} g/kWh if that is more" in concepts
    assert f"at most {defaults.carbon.max_stale_s / 3600:g} hours old" in concepts
    assert f"{defaults.carbon.first_data_wait_s:g} s at most" in concepts
    assert f"cannot be renewed within {defaults.leader_election.renew_deadline_s:g} s" in concepts
    assert f"more than {ladder._JUMP_G:g} g/kWh and {ladder._JUMP_FRAC:.0%}".replace("%", " %") in concepts
    assert f"`electricity_maps.requests_per_hour` ({defaults.electricity_maps.requests_per_hour})" in key
    assert list(guard.LIMITED_S) == [60, 120, 300, 900]
    assert "for 1, 2, 5 and then 15 minutes" in key
    assert guard.KEY_HOLD_S == 3600
    assert "all zones wait an hour" in key
    weights = sum(plugin.weight for plugin in default_profile())
    assert f"kube-scheduler's scores here weigh {weights} together" in text("docs/how-to/placement-policy.md")
    assert f"`placement.carbon_weight` ({tolerance.carbon_weight};" in text("docs/how-to/placement-policy.md")


def test_the_table_of_changes_has_as_many_rows_as_the_docs_say() -> None:
    seen = sum(not row.unseen for row in ROWS.values())
    assert f"has {len(ROWS)} rows" in text("docs/parity.md")
    assert f"\n{seen} are also played on a real control plane" in text("docs/parity.md")


def test_zones_and_clouds_are_understood_as_the_readme_says() -> None:
    zones = grid_zones()
    for written in ("NYISO", "us_ny_nyis", "US-CA-CISO", "US-MISO", "DEU"):
        assert zones.resolve(written) in zones
        assert f"`{written}`" in text("README.md")
    assert zones.resolve("US-CA-CISO") == "US-CAL-CISO"
    assert zones.resolve("US-MISO") == "US-MIDW-MISO"
    assert len({*grid._PROVIDERS.values()}) == 3 + 9
    assert "AWS, Google Cloud, Azure and nine others" in text("README.md")
    assert zones.resolve("Germny").nearest == ("DE", "GG")  # type: ignore[union-attr]


def test_every_part_of_the_course_project_has_a_line() -> None:
    page = text("docs/from-the-course-project.md")
    parts = """
        scheduler/main.go, scheduler/carbon_client.go, scheduler/Dockerfile, scheduler/k8s.yaml, scheduler/go.mod,
        scheduler/build-and-deploy.sh, carbon_intensity_api.py, example_usage.py, requirements.txt, README_CARBON_API.md,
        kubectl apply -f k8s.yaml, go build, ./carbon-scheduler, eval $(minikube docker-env), kubectl run test-pod,
        kubectl label node node1 carbon-zone=US-NY-NYIS, kubectl rollout restart, kubectl get pods -o wide,
        kubectl describe pod, kubectl logs, ELECTRICITY_MAPS_API_KEY, DEFAULT_CARBON_ZONE, api-key, carbon-zone,
        US-NY-NYIS, US-CA-CISO, US-MISO, DE, FR, GB, Connected to Kubernetes API,
        Carbon intensity client initialized successfully, Unscheduled pod detected: default/test-pod,
        Selected node minikube in zone US-NY-NYIS with carbon intensity 300.00 gCO₂eq/kWh,
        Pod test-pod scheduled to minikube, Error: API request failed with status 401: Request unauthorized,
        NewCarbonClient, GetLatestCarbonIntensity, GetAverageCarbonIntensity
    """
    for part in parts.split(","):
        assert f"`{' '.join(part.split())}" in page or f"client.{part.strip()}" in page, part


def test_the_secret_is_left_out_by_the_label_that_the_docs_name() -> None:
    for name in ("README.md", "docs/how-to/set-the-key.md", "docs/from-the-course-project.md"):
        assert "-l app.kubernetes.io/component!=api-key" in text(name)
    objects = [one for one in yaml.safe_load_all(text("deploy/k8s.yaml")) if one]
    labelled = [o["kind"] for o in objects if o["metadata"]["labels"].get("app.kubernetes.io/component") == "api-key"]
    assert labelled == ["Secret"]
