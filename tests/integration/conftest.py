"""The shared real API server as a fixture of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from real_cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from carbon_scheduler.sim.control_plane import ControlPlane


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    """The shared API server, emptied of pods and nodes before the test and after it."""
    async with Cluster(control_plane) as cluster:
        await cluster.clear()
        yield cluster
        await cluster.clear()
