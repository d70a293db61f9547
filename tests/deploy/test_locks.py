"""The lock files: complete, hashed, and free of addresses, so that they work with any mirror."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LOCKS = ["run", "build", "dev"]
PIN = re.compile(r"(?P<name>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)==(?P<version>[0-9][0-9a-z.+]*)( ; (?P<marker>[^\\]+))?")


def _pins(lock: str) -> list[tuple[str, str, list[str]]]:
    """(name, marker, hashes) of each pin."""
    entries = re.sub(r" *\\\n\s*", " ", (CHECKOUT / f"requirements/{lock}.lock").read_text()).splitlines()
    found = []
    for entry in entries:
        pin, *hashes = entry.split(" --hash=")
        match = PIN.fullmatch(pin.strip())
        assert match, f"requirements/{lock}.lock: not a pin: {pin}"
        found.append((match["name"], match["marker"] or "", hashes))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wanted(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[^A-Za-z0-9._-]", one)[0]) for one in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_there_is_no_address(lock: str) -> None:
    text = (CHECKOUT / f"requirements/{lock}.lock").read_text()
    assert re.search(r"://|@ |--(extra-)?index|--find-links|--trusted", text) is None
    pins = _pins(lock)
    assert pins
    for name, _, hashes in pins:
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name


def test_everything_that_pyproject_asks_for_is_locked() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    plain = [one for one in groups["dev"] if isinstance(one, str)]
    want = {
        "run": _wanted(project["project"]["dependencies"]),
        "build": _wanted(groups["build"]) | _wanted(project["build-system"]["requires"]),
        "dev": _wanted(project["project"]["dependencies"]) | _wanted(groups["build"]) | _wanted(plain),
    }
    for lock in LOCKS:
        assert want[lock] <= {name for name, _, _ in _pins(lock)}, lock


def test_what_runs_here_is_what_is_developed_with() -> None:
    """The same versions in both, or tests would pass on something that is not shipped."""
    run, dev = (
        {(pin[0], pin[1] if "full_version" in pin[1] else "", tuple(pin[2])) for pin in _pins(lock)}
        for lock in ("run", "dev")
    )
    assert {pin[0] for pin in run} <= {pin[0] for pin in dev}
    assert {(name, hashes) for name, _, hashes in run} <= {(name, hashes) for name, _, hashes in dev}
