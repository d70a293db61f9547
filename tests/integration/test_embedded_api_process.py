"""The embedded API server as a process of its own, and kubectl on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND = (sys.executable, "-m", "carbon_scheduler.sim.apiserver")


def _start(*args: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return process, json.loads(line)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.fixture
def server(kubeconfig: Path) -> Iterator[dict[str, Any]]:
    """A running one with the kubelets' stand-in."""
    process, said = _start("--kubeconfig", str(kubeconfig), "--kubelet-delay", "200ms")
    yield said
    process.terminate()
    process.communicate(timeout=10)


def test_it_says_where_it_is_and_ends_when_it_is_told(kubeconfig: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process, said = _start("--kubeconfig", str(kubeconfig), "--token", "secret-token")
        assert said.keys() == {"url", "kubeconfig", "pid"}
        assert said["pid"] == process.pid
        assert kubeconfig.stat().st_mode & 0o777 == 0o600
        config = yaml.safe_load(kubeconfig.read_text())
        assert config["clusters"][0]["cluster"]["server"] == said["url"]
        assert config["users"][0]["user"] == {"token": "secret-token"}
        request = Request(f"{said['url']}/api/v1/nodes", headers={"Authorization": "Bearer secret-token"})
        with urlopen(request, timeout=5) as response:
            assert json.load(response)["kind"] == "NodeList"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")


def test_it_ends_with_its_parent() -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.Popen({COMMAND!r}); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    said = json.loads(parent.stdout.readline())
    parent.kill()
    parent.wait(timeout=10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(said["pid"], 0)
        except ProcessLookupError:
            return
        if _is_zombie(said["pid"]):
            return
        time.sleep(0.05)
    pytest.fail(f"process {said['pid']} outlived its parent")


def _is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_it_loads_objects_first(tmp_path: Path) -> None:
    file = tmp_path / "objects.json"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "List",
                "items": [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}],
            }
        )
    )
    process, said = _start("--load", str(file))
    with urlopen(f"{said['url']}/api/v1/nodes/n", timeout=5) as response:
        assert json.load(response)["metadata"]["name"] == "n"
    process.terminate()
    process.communicate(timeout=10)


BAD_CALLS: dict[str, tuple[list[str], int, str]] = {
    "a duration that is none": (["--kubelet-delay", "soon"], 2, "expected a duration such as 500ms, 1s or 1m30s"),
    "a file that is not there": (["--load", "/nope.json"], 2, "does not exist"),
    "a port that is none": (["--port", "70000"], 2, "70000"),
}


@pytest.mark.parametrize("sentence", BAD_CALLS)
def test_bad_calls_end_with_the_fix(sentence: str) -> None:
    args, code, want = BAD_CALLS[sentence]
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=30)
    assert (done.returncode, want in done.stderr) == (code, True), done.stderr


NODE = """
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {carbon-zone: DE}}
status:
  capacity: {cpu: "4", memory: 8Gi, pods: "110"}
  conditions: [{type: Ready, status: "True"}]
---
apiVersion: v1
kind: Pod
metadata: {name: made}
spec: {containers: [{name: c, image: nginx}]}
"""
BINDING = '{"apiVersion":"v1","kind":"Binding","metadata":{"name":"made"},"target":{"kind":"Node","name":"n1"}}'


@pytest.mark.control_plane
def test_kubectl_works_on_it(
    server: dict[str, Any], kubeconfig: Path, tmp_path: Path, control_plane_binary: Callable[[str], Path]
) -> None:
    kubectl = control_plane_binary("kubectl")
    env = {"KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path), "PATH": os.defpath}
    manifest = tmp_path / "objects.yaml"
    manifest.write_text(NODE)

    def run(*args: str, given: str | None = None) -> str:
        done = subprocess.run([kubectl, *args], input=given, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    assert "Server Version: v1.36" in run("version")
    assert run("create", "-f", str(manifest)) == "node/n1 created\npod/made created\n"
    run("apply", "-f", str(manifest))
    assert run("apply", "-f", str(manifest)) == "node/n1 unchanged\npod/made unchanged\n"
    overrides = '{"spec":{"schedulerName":"carbon-aware-scheduler"}}'
    run("run", "ours", "--image=nginx", "--restart=Never", f"--overrides={overrides}")
    assert run("get", "pod", "ours", "-o", "jsonpath={.spec.schedulerName}") == "carbon-aware-scheduler"
    run("label", "node", "n1", "carbon-zone=FR", "--overwrite")
    run("cordon", "n1")
    assert "Ready,SchedulingDisabled" in run("get", "nodes")
    run("uncordon", "n1")
    run("create", "-f", "-", given=BINDING)
    run("wait", "--for=condition=Ready", "pod/made", "--timeout=20s")
    wide = run("get", "pods", "-o", "wide").splitlines()
    assert wide[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert wide[1].split()[:3] == ["made", "1/1", "Running"]
    assert wide[1].split()[6] == "n1"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "made.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "made"},
        "reason": "Scheduled",
        "message": "Successfully assigned default/made to n1",
        "type": "Normal",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    uid = run("get", "pod", "made", "-o", "jsonpath={.metadata.uid}")
    event["involvedObject"]["uid"] = uid  # type: ignore[index]
    run("create", "-f", "-", given=json.dumps(event))
    assert "Successfully assigned default/made to n1" in run("get", "events")
    described = run("describe", "pod", "made")
    assert ["Node:", "n1/"] in [line.split() for line in described.splitlines()]
    assert "Successfully assigned" in described
    assert "made" in run("describe", "node", "n1")
    watch = subprocess.Popen(
        [kubectl, "get", "pods", "-w", "--no-headers"],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        stderr=subprocess.DEVNULL,
    )
    assert watch.stdout is not None
    first = [watch.stdout.readline().split()[0] for _ in range(2)]
    assert sorted(first) == ["made", "ours"]
    run("delete", "pod", "ours")
    assert watch.stdout.readline().split()[0] == "ours"
    watch.terminate()
    watch.wait(timeout=10)
    run("delete", "pod", "made")
    assert run("get", "pods", "-o", "name") == ""
    run("create", "namespace", "team")
    run("create", "secret", "generic", "key", "--from-literal=api-key=x", "-n", "team")
    assert run("get", "secret", "key", "-n", "team", "-o", "jsonpath={.data.api-key}") == "eA=="
    run("delete", "namespace", "team")
    assert run("auth", "can-i", "list", "pods").strip() == "yes"
    run("drain", "n1", "--force")
