"""`Cluster` over the embedded API server: tests that speak to the real one speak to this one unchanged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from carbon_scheduler.sim.apiserver.__main__ import write_kubeconfig
from real_cluster import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from carbon_scheduler.sim.apiserver import EmbeddedApiServer


class EmbeddedCluster(Cluster):
    """Of a server that is running. `plane.kubeconfig` is where a scheduler finds it."""

    def __init__(self, server: EmbeddedApiServer, kubeconfig: Path) -> None:
        self.server = server
        plane: Any = SimpleNamespace(kubeconfig=kubeconfig, server_url=server.url)
        super().__init__(plane)

    async def __aenter__(self) -> Self:
        write_kubeconfig(self.plane.kubeconfig, self.server.url, self.server.token)
        self._session = aiohttp.ClientSession(self.server.url, timeout=aiohttp.ClientTimeout(total=60))
        return self
