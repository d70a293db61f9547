"""The PodScheduled condition: never a late word on a pod that is bound by then, and never lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from api_objects import make_node, make_pod
from carbon_scheduler.sim.apiserver import Rule
from pod_outcomes import bound, pending, waits_for
from real_cluster import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded_cluster import EmbeddedCluster
    from scheduler_process import SchedulerProcess


async def _full(cluster: EmbeddedCluster, start_scheduler: Callable[..., SchedulerProcess]) -> SchedulerProcess:
    """One node, and a pod on it that leaves no room."""
    await cluster.create([make_node("only", cpu="1", carbon_zone="FR")])
    await cluster.create([make_pod("occupant", scheduler=None, cpu="900m", node="only")])
    scheduler = start_scheduler(cluster.plane.kubeconfig)
    await scheduler.ready()
    return scheduler


async def test_a_condition_that_is_being_written_does_not_come_after_the_binding(
    embedded: EmbeddedCluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    """An admission webhook may take seconds over a status, and room may appear meanwhile."""
    scheduler = await _full(embedded, start_scheduler)
    embedded.server.faults.add(Rule(verb="patch", resource="pods/status", latency_s=2.0))
    await embedded.create([make_pod("waits", cpu="500m")])
    await scheduler.said("cannot be scheduled")

    async def asked() -> bool:
        return embedded.server.faults.requests["patch pods/status"] > 0

    await eventually(asked, "the condition is being written", every_s=0.01)
    await embedded.delete("Pod", "occupant")
    await bound(embedded, "waits")
    await asyncio.sleep(2.5)  # whatever is under way has arrived by then
    assert waits_for(await embedded.get("Pod", "waits")) is None


async def test_a_condition_that_could_not_be_written_is_written_at_the_next_attempt(
    embedded: EmbeddedCluster, start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    scheduler = await _full(embedded, start_scheduler)
    rule = embedded.server.faults.add(Rule(verb="patch", resource="pods/status", status=503))
    await embedded.create([make_pod("waits", cpu="500m")])
    await scheduler.said("given up after")
    embedded.server.faults.rules.remove(rule)
    assert waits_for(await embedded.get("Pod", "waits")) is None
    # Any event that may help makes the next attempt, with the same outcome.
    await embedded.create([make_pod("passer-by", scheduler=None, cpu="1m", node="only")])
    await embedded.delete("Pod", "passer-by")
    condition = await pending(embedded, "waits")
    assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")
    assert scheduler.text.count("cannot be scheduled") == 1, "it is no news"
