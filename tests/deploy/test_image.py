"""The image, as far as it can be tested without Docker: its install steps are carried out, and the result is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
DOCKERFILE = CHECKOUT / "deploy/Dockerfile"
UID = 65532


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]


def _final_stage() -> list[tuple[str, str]]:
    found = _instructions()
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def test_the_final_stage_runs_as_a_number_and_only_takes_what_was_installed() -> None:
    final = _final_stage()
    assert [value for name, value in final if name == "USER"] == [f"{UID}:{UID}"]
    assert [value for name, value in final if name in ("COPY", "ADD")] == [
        "--from=build /opt/carbon-scheduler /opt/carbon-scheduler"
    ]
    assert final.index(("USER", f"{UID}:{UID}")) > max(i for i, (name, _) in enumerate(final) if name == "RUN")
    assert ("ENTRYPOINT", '["carbon-scheduler"]') in final


def test_the_base_image_is_an_exact_slim_release() -> None:
    [default] = [value for name, value in _instructions() if name == "ARG"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.1[1-4]\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", default)
    assert {value.split(" ")[0] for name, value in _instructions() if name == "FROM"} == {"${PYTHON_IMAGE}"}


def test_the_build_stage_does_nothing_but_the_install_steps_tested_here() -> None:
    build = _instructions()[: -len(_final_stage())]
    assert [value for name, value in build if name == "RUN"] == [
        "PIP_NO_CACHE_DIR=1 deploy/install.sh /opt/carbon-scheduler"
    ]


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that another user can enter (pytest's own are private)."""
    folder = Path(tempfile.mkdtemp(prefix="carbon-image-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that uid 65532 may run: one in a home folder is out of its reach."""
    if os.geteuid() != 0:
        pytest.skip("not root: cannot become another user to run the installed tree as the image does")
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        probe = [candidate, "-c", "import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))"]
        try:
            if (
                subprocess.run(probe, user=UID, group=UID, extra_groups=[], capture_output=True, check=False).returncode
                == 0
            ):
                return candidate
        except PermissionError:
            continue
    pytest.skip(f"no Python 3.11 to 3.14 with venv that uid {UID} may execute")


@pytest.fixture(scope="module")
def installed(open_folder: Path, python: str) -> Path:
    """What the build stage leaves: install.sh, from exactly the files that .dockerignore lets through."""
    rules = (CHECKOUT / ".dockerignore").read_text().split("\n")
    assert [rule for rule in rules if rule and rule[0] not in "#!"] == ["*", "**/__pycache__"]
    context = open_folder / "src"
    for rule in (rule[1:] for rule in rules if rule.startswith("!")):
        source, target = CHECKOUT / rule, context / rule
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    target = open_folder / "opt"
    subprocess.run([context / "deploy/install.sh", target, python], check=True, timeout=300)
    shutil.rmtree(context)  # the final stage has no sources: what runs below cannot lean on them
    return target


def _as_the_image_does(installed: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{installed}/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.run(
        argv, cwd="/", env=environment, user=UID, group=UID, extra_groups=[], capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


COMMANDS = {
    "the scheduler": (["carbon-scheduler", "run", "--help"], "--kubeconfig"),
    "its version": (["carbon-scheduler", "--version"], "0."),
    "the kubectl plugin": (["kubectl-carbon", "--help"], "Usage: kubectl"),
    "the data client": (["carbon-intensity", "--help"], "--zone"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("argv", "want"), COMMANDS.values(), ids=COMMANDS)
def test_each_command_runs_as_another_user(installed: Path, argv: list[str], want: str) -> None:
    result = _as_the_image_does(installed, *argv)
    assert result.returncode == 0, result.stderr
    assert want in result.stdout


@pytest.mark.slow
def test_everything_that_the_checkout_ships_is_there_and_imports(installed: Path) -> None:
    """The wheel: all modules, the tables, and nothing that tries to write beside them."""
    source = CHECKOUT / "src/carbon_scheduler"
    tracked = subprocess.run(["git", "ls-files", "."], cwd=source, capture_output=True, text=True, check=True).stdout
    [package] = installed.glob("lib/python3*/site-packages/carbon_scheduler")
    assert [name for name in tracked.split("\n") if name and not (package / name).exists()] == []
    script = (
        "import carbon_scheduler, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(carbon_scheduler.__path__, 'carbon_scheduler.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
    )
    result = _as_the_image_does(installed, "python", "-c", script)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_tree_is_read_only_and_has_no_installer(installed: Path) -> None:
    writable = subprocess.run(
        ["find", installed, "-perm", "/222", "-not", "-type", "l"], capture_output=True, text=True, check=True
    )
    assert writable.stdout == ""
    assert _as_the_image_does(installed, "touch", f"{installed}/lib/x").returncode != 0
    assert "No module named pip" in _as_the_image_does(installed, "python", "-m", "pip").stderr
    site = next(installed.glob("lib/python3*/site-packages"))
    assert [name for name in ("hatchling", "pytest", "mypy", "editables") if (site / name).exists()] == []
