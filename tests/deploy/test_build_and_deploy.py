"""deploy/build-and-deploy.sh with stand-ins for docker, minikube and kind, and with the real kubectl where it applies."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.sim.control_plane import ControlPlane

SCRIPT = Path(__file__).parents[2] / "deploy/build-and-deploy.sh"
SECRET = "/api/v1/namespaces/kube-system/secrets/carbon-aware-scheduler"


class Tools:
    """A PATH whose docker, minikube, kind and kubectl write down how they were called.

    `fail` makes one call exit with 7: the first whose command line starts with it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.record = folder / "calls"
        for name in ("docker", "minikube", "kind", "kubectl"):
            self.make(name, "")
        self.make("minikube", "echo 'export DOCKER_HOST=tcp://minikube'")

    def make(self, name: str, body: str, *, keep_input: bool = True) -> None:
        path = self.folder / name
        path.write_text(
            "#!/bin/sh\n"
            f'case "{name} $*" in "${{FAIL:-nothing}}"*) echo "it broke" >&2; exit 7;; esac\n'
            + ('[ "$*" = "apply --filename -" ] && cat > "$RECORD.applied"\n' if keep_input else "")
            + f'echo "{name} $* ${{DOCKER_HOST:-}}" >> "$RECORD"\n{body}\n'
        )
        path.chmod(0o755)

    def run(self, *args: str, fail: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}:/usr/bin:/bin"
        return subprocess.run(
            [SCRIPT, *args], env={"PATH": path, "RECORD": str(self.record), "FAIL": fail or "nothing", **environ},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def calls(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


BUILD = "docker build --tag carbon-scheduler --file deploy/Dockerfile ."
ROUTES = {
    "minikube builds inside the node": (
        ["minikube"],
        ["minikube docker-env --shell bash ", f"{BUILD} tcp://minikube"],
    ),
    "kind loads into the nodes": (["kind"], [f"{BUILD} ", "kind load docker-image carbon-scheduler --name kind "]),
    "kind takes a cluster's name": (
        ["kind", "dev"],
        [f"{BUILD} ", "kind load docker-image carbon-scheduler --name dev "],
    ),
    "a registry is pushed to": (
        ["registry", "r.example/team/cs:1"],
        ["docker build --tag r.example/team/cs:1 --file deploy/Dockerfile . ", "docker push r.example/team/cs:1 "],
    ),
}


@pytest.mark.parametrize(("args", "want"), ROUTES.values(), ids=ROUTES)
def test_each_way_builds_and_brings_the_image(tools: Tools, args: list[str], want: list[str]) -> None:
    result = tools.run(*args)
    assert result.returncode == 0, result.stderr
    assert [call for call in tools.calls() if not call.startswith("kubectl")] == want


def test_the_manifest_names_the_image_of_the_registry(tools: Tools) -> None:
    assert tools.run("registry", "r.example/team/cs:1").returncode == 0
    applied = Path(f"{tools.record}.applied").read_text()
    assert "image: r.example/team/cs:1\n" in applied
    assert "image: carbon-scheduler\n" not in applied


FAILURES = {
    "no cluster": ("kubectl get deployment", "step 2 (ask the cluster what is there)", 0),
    "minikube is down": ("minikube docker-env", "step 3 (use minikube's Docker)", 2),
    "the build fails": ("docker build", "step 4 (build the image carbon-scheduler)", 3),
    "apply fails": ("kubectl apply", "step 5 (apply deploy/k8s.yaml)", 4),
    "it never becomes ready": ("kubectl rollout status", "step 6 (wait until it is ready)", 5),
}


@pytest.mark.parametrize(("fail", "want_step", "want_calls"), FAILURES.values(), ids=FAILURES)
def test_it_stops_at_the_first_failure_and_names_the_step(
    tools: Tools, fail: str, want_step: str, want_calls: int
) -> None:
    result = tools.run("minikube", fail=fail)
    assert result.returncode == 7
    assert f"build-and-deploy.sh: {want_step} failed with exit code 7" in result.stderr
    assert "it broke" in result.stderr
    assert "Deployed" not in result.stderr
    assert len(tools.calls()) == want_calls, tools.calls()


def test_a_missing_tool_is_named_before_anything_is_done(tools: Tools) -> None:
    (tools.folder / "minikube").unlink()
    result = tools.run("minikube")
    assert (result.returncode, tools.calls()) == (1, [])
    assert "not on PATH: minikube" in result.stderr


@pytest.mark.parametrize("args", [[], ["podman"], ["registry"], ["minikube", "x"], ["registry", "bad image|e"]])
def test_wrong_usage_does_nothing(tools: Tools, args: list[str]) -> None:
    assert (tools.run(*args).returncode, tools.calls()) == (2, [])


def test_help_goes_to_stdout(tools: Tools) -> None:
    result = tools.run("--help")
    assert (result.returncode, result.stdout.startswith("Usage:")) == (0, True)


@pytest.mark.control_plane
def test_a_key_reaches_the_secret_unseen_and_survives_the_next_run(
    tools: Tools, control_plane: ControlPlane, control_plane_binary: Callable[[str], Path]
) -> None:
    """The real kubectl on a real API server; only `rollout` is answered here, since no controller runs."""
    real = control_plane_binary("kubectl")
    tools.make("kubectl", f'case "$*" in rollout*) exit 0;; esac\nexec {real} "$@"', keep_input=False)
    environ = {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": os.environ.get("HOME", "/")}

    def key() -> str:
        return base64.b64decode(control_plane.request("GET", SECRET)["data"]["api-key"]).decode()

    try:
        assert tools.run("kind", **environ).returncode == 0
        assert key() == ""
        result = tools.run("kind", ELECTRICITY_MAPS_API_KEY="s3cr3t-k3y", **environ)
        assert result.returncode == 0, result.stderr
        assert key() == "s3cr3t-k3y"
        assert "s3cr3t-k3y" not in result.stdout + result.stderr + "\n".join(tools.calls())
        assert tools.run("kind", **environ).returncode == 0
        assert key() == "s3cr3t-k3y"
        assert any(call.startswith("kubectl rollout restart") for call in tools.calls())
    finally:
        subprocess.run(
            [real, "--kubeconfig", control_plane.kubeconfig, "delete", "--wait=false", "-f", SCRIPT.with_name("k8s.yaml")],
            check=False, capture_output=True,
        )  # fmt: skip
