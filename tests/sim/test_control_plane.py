"""The real control plane of tests: it must come up, fail loudly, and never leave anything behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.errors import ApiStatusError, ApiUnreachable
from carbon_scheduler.sim import control_plane as module
from carbon_scheduler.sim.control_plane import ControlPlane, ControlPlaneFailed, ControlPlaneMissing, find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _alive(pid: int) -> bool:
    """False for a zombie too: it has ended, its parent just has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_missing_binaries_name_the_places_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    with pytest.raises(ControlPlaneMissing, match=r"no executable no-such-program in .*assets.*make control-plane"):
        find_binaries(["no-such-program"])


def test_without_binaries_tests_skip_or_fail_as_told(
    own_control_plane: Callable[..., ControlPlane], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_CHECKOUT", tmp_path)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("REQUIRE_CONTROL_PLANE", "1")
    with pytest.raises(pytest.fail.Exception, match=r"REQUIRE_CONTROL_PLANE=1, but .*no executable etcd"):
        own_control_plane()
    monkeypatch.delenv("REQUIRE_CONTROL_PLANE")
    with pytest.raises(pytest.skip.Exception, match="no executable etcd"):
        own_control_plane()


def test_a_named_folder_comes_before_the_environment_and_fills_up_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, assets = tmp_path / "named", tmp_path / "assets"
    for folder in (named, assets):
        folder.mkdir()
    _program(named / "etcd", "exit 0")
    _program(assets / "etcd", "exit 0")
    _program(assets / "kwok", "exit 0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert find_binaries(["etcd", "kwok"], named) == {"etcd": named / "etcd", "kwok": assets / "kwok"}


def test_a_component_that_dies_shows_its_last_words_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "etcd", "echo 'the disk is made of cheese'; exit 3")
    _program(tmp_path / "kube-apiserver", "exit 0")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plane = ControlPlane(binaries=tmp_path)
    with pytest.raises(ControlPlaneFailed, match=r"etcd ended with code 3(.|\n)*made of cheese"):
        plane.start()
    assert not list(tmp_path.glob("carbon-control-plane-*"))


def test_a_component_that_never_answers_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    _program(tmp_path / "etcd", f"echo $$ > {pid_file}; exec sleep 60")
    _program(tmp_path / "kube-apiserver", "exit 0")
    monkeypatch.setattr(module, "_START_LIMIT_S", 0.5)
    with pytest.raises(ControlPlaneFailed, match="was not ready after"):
        ControlPlane(binaries=tmp_path).start()
    assert not _alive(int(pid_file.read_text()))


def test_a_taken_port_is_exchanged_for_another(tmp_path: Path) -> None:
    """A fake etcd that loses the race for its first port; the second try gets as far as the API server."""
    _program(
        tmp_path / "etcd",
        f'[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; echo "listen: address already in use"; exit 1; }}\n'
        f"""exec {sys.executable} -c 'import sys, http.server as s
port = int(next(a for a in sys.argv if "listen-client" in a).rsplit(":", 1)[1])
class H(s.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
s.HTTPServer(("127.0.0.1", port), H).serve_forever()' "$@" """,
    )
    _program(tmp_path / "kube-apiserver", "echo 'reached'; exit 7")
    with pytest.raises(ControlPlaneFailed, match="kube-apiserver ended with code 7"):
        ControlPlane(binaries=tmp_path).start()


@pytest.mark.control_plane
def test_tokens_are_private_and_rbac_applies(own_control_plane: Callable[..., ControlPlane]) -> None:
    plane = own_control_plane(users={"eve": ["nobody"]})
    assert plane.request("GET", "/api/v1/namespaces/kube-system")["kind"] == "Namespace"
    with pytest.raises(ApiStatusError) as refused:
        plane.request("GET", "/api/v1/nodes", token=plane.tokens["eve"])
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert {path.stat().st_mode & 0o777 for path in (plane.kubeconfig, plane.folder / "tokens.csv")} == {0o600}
    for child in plane.children.values():
        assert plane.admin_token not in Path(f"/proc/{child.pid}/cmdline").read_text()


@pytest.mark.control_plane
def test_a_service_account_acts_under_its_own_name(
    control_plane: ControlPlane, control_plane_binary: Callable[[str], Path]
) -> None:
    control_plane.request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    kubeconfig = control_plane.service_account_kubeconfig("default", "robot")
    whoami = subprocess.run(
        [control_plane_binary("kubectl"), "--kubeconfig", kubeconfig, "auth", "whoami"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "system:serviceaccount:default:robot" in whoami.stdout


@pytest.mark.control_plane
@pytest.mark.parametrize("kill", [False, True], ids=["asked to stop", "killed"])
def test_the_api_server_comes_back_as_it_was(own_control_plane: Callable[..., ControlPlane], kill: bool) -> None:
    plane = own_control_plane()
    plane.request("POST", "/api/v1/nodes", make_node("n1"))
    url, certificate = plane.server_url, plane.ca_file.read_bytes()
    plane.stop_api_server(kill=kill)
    with pytest.raises(ApiUnreachable):
        plane.request("GET", "/readyz")
    plane.start_api_server()
    assert plane.request("GET", "/api/v1/nodes/n1")["status"]["allocatable"]["cpu"] == "4"
    assert (plane.server_url, plane.ca_file.read_bytes()) == (url, certificate)


@pytest.mark.control_plane
@pytest.mark.slow
def test_with_controllers_and_kwok_a_pod_runs(own_control_plane: Callable[..., ControlPlane]) -> None:
    plane = own_control_plane(admission="upstream", controller_manager=True, scheduler=True, kwok=True)
    plane.request("POST", "/api/v1/nodes", make_node("n1"))
    _wait(lambda: "default" in _names(plane, "/api/v1/namespaces/default/serviceaccounts"))
    plane.request("POST", "/api/v1/namespaces/default/pods", make_pod("p1", scheduler=None))
    _wait(lambda: plane.request("GET", "/api/v1/namespaces/default/pods/p1")["status"]["phase"] == "Running")


def _names(plane: ControlPlane, path: str) -> set[str]:
    return {item["metadata"]["name"] for item in plane.request("GET", path)["items"]}


def _wait(check: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


@pytest.mark.control_plane
def test_nothing_survives_the_parents_death(tmp_path: Path, control_plane_binary: Callable[[str], Path]) -> None:
    """kill -9 of the process that started it."""
    control_plane_binary("kube-apiserver")
    script = (
        "import time\nfrom carbon_scheduler.sim.control_plane import ControlPlane\n"
        "plane = ControlPlane().start()\n"
        "print(*[child.pid for child in plane.children.values()], flush=True)\ntime.sleep(60)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(_alive, pids))
        parent.send_signal(signal.SIGKILL)
    _wait(lambda: not any(map(_alive, pids)), 5.0)
