"""Fixtures that every part's tests may use."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from carbon_scheduler.sim.control_plane import ControlPlane, ControlPlaneMissing, find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _skip_or_fail(missing: ControlPlaneMissing) -> None:
    if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
        pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd + kube-apiserver for the whole run, shared: use a namespace and node names of your own, leave it running.

    Mark the test `control_plane`. Started when the first test asks for it, ready after 2 to 3 s. Without the binaries
    the test is skipped with the reason, or fails when REQUIRE_CONTROL_PLANE=1.
    """
    try:
        plane = ControlPlane()
    except ControlPlaneMissing as missing:
        _skip_or_fail(missing)
        raise
    with plane:
        yield plane


def _starting() -> Iterator[Callable[..., ControlPlane]]:
    with ExitStack() as stack:

        def start(**options: Any) -> ControlPlane:
            try:
                plane = ControlPlane(**options)
            except ControlPlaneMissing as missing:
                _skip_or_fail(missing)
                raise
            return stack.enter_context(plane)

        yield start


@pytest.fixture
def own_control_plane() -> Iterator[Callable[..., ControlPlane]]:
    """Starts a control plane of the test's own, for tests that stop, overload or need more of it:
    `plane = own_control_plane(controller_manager=True)`. Arguments are ControlPlane's; it is stopped after the test.
    """
    yield from _starting()


@pytest.fixture(scope="module")
def module_control_plane() -> Iterator[Callable[..., ControlPlane]]:
    """As `own_control_plane`, for a fixture that the tests of one file share; it is stopped after the last of them."""
    yield from _starting()


@pytest.fixture(scope="session")
def control_plane_binary() -> Callable[[str], Path]:
    """The path of a program built beside the control plane: `control_plane_binary("kubectl")`. Skips or fails likewise."""

    def path(name: str) -> Path:
        try:
            return find_binaries([name])[name]
        except ControlPlaneMissing as missing:
            _skip_or_fail(missing)
            raise

    return path
