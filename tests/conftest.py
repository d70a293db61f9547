"""Fixtures that every part's tests may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from carbon_scheduler.sim.control_plane import ControlPlane, ControlPlaneMissing

if TYPE_CHECKING:
    from collections.abc import Iterator


def control_plane_or_skip(**options: object) -> ControlPlane:
    """A started control plane of one's own, to be stopped by the caller: for tests that stop or overload it.

    Without the binaries the test is skipped with the reason, or fails when REQUIRE_CONTROL_PLANE=1.
    """
    try:
        plane = ControlPlane(**options)  # type: ignore[arg-type] - passed on as they are
    except ControlPlaneMissing as missing:
        if os.environ.get("REQUIRE_CONTROL_PLANE") == "1":
            pytest.fail(f"REQUIRE_CONTROL_PLANE=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))
    return plane.start()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd + kube-apiserver for the whole run, shared: use namespaces and object names of your own, leave it running.

    Mark the test `control_plane`. Started when the first test asks for it, ready after 2 to 3 s.
    """
    plane = control_plane_or_skip()
    yield plane
    plane.stop()
