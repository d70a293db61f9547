"""What a newcomer meets first: make, the search for a Python, the build of the control plane."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MAKEFILE = (CHECKOUT / "Makefile").read_text()


def _tool(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def _run(*argv: str | Path, path: str = "/usr/bin:/bin", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=CHECKOUT, env={"PATH": path, **environ}, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_has_one_line_for_each_target() -> None:
    [targets] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    lines = _run("make", "help").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["make", target] for target in targets.split()]
    assert all(len(line) <= 128 for line in lines)


def test_ci_runs_what_the_readme_says() -> None:
    lines = [line for line in (CHECKOUT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-2:] == ["export REQUIRE_CONTROL_PLANE=1", "exec make test"]
    assert os.access(CHECKOUT / ".ci/run", os.X_OK)


PYTHONS = {
    "the newest usable one wins": ({"python3.13": "exit 0", "python3.12": "exit 0"}, "python3.13"),
    "one that cannot run is passed over": ({"python3.14": "exit 1", "python3.11": "exit 0"}, "python3.11"),
    "plain python3 will do": ({"python3": "exit 0"}, "python3"),
}


@pytest.mark.parametrize(("pythons", "want"), PYTHONS.values(), ids=PYTHONS)
def test_python_is_found(tmp_path: Path, pythons: dict[str, str], want: str) -> None:
    for name, body in pythons.items():
        _tool(tmp_path / "bin", name, body)
    for name in ("bash", "env"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    result = _run(CHECKOUT / "hack/find-python.sh", path=str(tmp_path / "bin"))
    assert result.stdout.strip() == str(tmp_path / "bin" / want), result.stderr


def test_an_old_python_is_refused_with_the_remedy(tmp_path: Path) -> None:
    _tool(tmp_path / "bin", "python3", "echo 'is Python 3.9.2' >&2; exit 1")
    for name in ("bash", "env"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    result = _run(CHECKOUT / "hack/find-python.sh", path=str(tmp_path / "bin"))
    assert result.returncode == 2
    assert re.search(r"needs 3\.11.*\n.*/python3 is Python 3\.9\.2\n.*apt install python3", result.stderr)


GOS = {
    "too old": ("echo go1.25.9", "is go1.25.9; it is built with Go 1.26 or newer"),
    "unreadable": ("echo devel", "is devel; it is built with Go 1.26 or newer"),
    "just right": ("echo go1.26.0", None),
    "newer": ("echo go1.30", None),
    "the next major one": ("echo go2.0", None),
}


@pytest.mark.parametrize(("go", "want"), GOS.values(), ids=GOS)
def test_the_control_plane_wants_a_recent_go(tmp_path: Path, go: str, want: str | None) -> None:
    _tool(tmp_path / "bin", "go", go)
    result = _run(CHECKOUT / "hack/control-plane/build.sh", "--check", path=f"{tmp_path}/bin:/usr/bin:/bin")
    assert result.returncode == (2 if want else 0), result.stderr
    assert (want or "") in result.stderr


def test_without_go_the_build_says_so(tmp_path: Path) -> None:
    for name in ("bash", "env", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    result = _run(CHECKOUT / "hack/control-plane/build.sh", path=str(tmp_path))
    assert (result.returncode, "no 'go' on PATH" in result.stderr) == (2, True)
