"""The shared real API server as a fixture of its own."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from api_contract import Api
from carbon_scheduler.sim.apiserver import EmbeddedApiServer
from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps
from embedded_cluster import EmbeddedCluster
from real_cluster import Cluster
from scheduler_process import GridProcess, SchedulerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from carbon_scheduler.sim.control_plane import ControlPlane


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    """The shared API server, emptied of pods and nodes before the test and after it."""
    async with Cluster(control_plane) as cluster:
        await cluster.clear()
        yield cluster
        await cluster.clear()


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.control_plane)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """The same client of the embedded and of the real API server, in a namespace of its own: the contract's two sides."""
    namespace = f"contract-{uuid.uuid4().hex[:8]}"
    if request.param == "embedded":
        async with EmbeddedApiServer() as server, Api(server.url, namespace) as api:
            api.faults = server.faults
            api.compact = server.faults.compact
            yield api
        return
    plane: ControlPlane = request.getfixturevalue("control_plane")
    async with Api(plane.server_url, namespace, token=plane.admin_token, ca_file=plane.ca_file) as api:
        api.compact = lambda: _compact_etcd(plane)
        yield api


@pytest.fixture
def start_scheduler(tmp_path: Path) -> Iterator[Callable[..., SchedulerProcess]]:
    """Starts `carbon-scheduler run`: `start_scheduler(kubeconfig, "--leader-elect", name="first", settings={...})`.

    Arguments are SchedulerProcess's, without the folder. All are ended after the test.
    """
    started: list[SchedulerProcess] = []

    def start(kubeconfig: Path, *args: str, **options: Any) -> SchedulerProcess:
        process = SchedulerProcess(kubeconfig, *args, folder=tmp_path, **options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="session")
def grid_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stand-in of Electricity Maps with synthetic data, shared: leave its faults alone."""
    grid = GridProcess(tmp_path_factory.mktemp("grid"))
    try:
        grid.start()
        yield grid.url
    finally:
        grid.stop()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Cluster]:
    """The embedded API server behind the same client: for what is not about the API server, and runs without Go."""
    async with EmbeddedApiServer() as server, EmbeddedCluster(server, tmp_path / "kubeconfig") as cluster:
        yield cluster


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.control_plane)])
def either_cluster(request: pytest.FixtureRequest) -> Cluster:
    """The same test on the embedded API server and on the real one."""
    both: Cluster = request.getfixturevalue("embedded" if request.param == "embedded" else "cluster")
    return both


@pytest.fixture
async def grid() -> AsyncIterator[FakeElectricityMaps]:
    """A stand-in of Electricity Maps of the test's own, in its loop: `grid.modes` are its faults, `grid.requests` counts."""
    grid = FakeElectricityMaps()
    await grid.start()
    yield grid
    await grid.stop()


def _compact_etcd(plane: ControlPlane) -> None:
    """Events are the one kind that the real API server reads from etcd itself, not from its watch cache."""
    now = plane.request("GET", "/api/v1/events?limit=1")["metadata"]["resourceVersion"]
    body = json.dumps({"revision": now, "physical": True}).encode()
    with urlopen(Request(f"{plane.etcd_url}/v3/kv/compaction", data=body), timeout=10) as response:
        assert response.status == 200
