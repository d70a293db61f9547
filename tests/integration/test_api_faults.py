"""The scheduler's process against an API server that does everything badly: in the end each pod is bound, and bound once.

200 pods fill 20 nodes to the last millicore while the fault is in force. What happened is read from the server's own store,
which no fault touches.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.sim.apiserver import EmbeddedApiServer, Rule
from carbon_scheduler.sim.apiserver.__main__ import write_kubeconfig
from carbon_scheduler.sim.apiserver.kinds import PODS
from carbon_scheduler.sim.apiserver.registry import DeleteOptions
from cluster_checks import NodeNames, decision, over_allocated
from real_cluster import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from carbon_scheduler.sim.apiserver import Faults
    from scheduler_process import SchedulerProcess

    Start = Callable[..., SchedulerProcess]

NODES: Final = 20
PODS_COUNT: Final = 200
ZONES: Final = ("FR", "DE", "PL", "SE")
BINDINGS: Final = {"verb": "create", "resource": "pods/binding"}
WITHIN_S: Final = 60.0


class StoredPods(NodeNames):
    """Every state of every pod, from the server's store."""

    def __init__(self, server: EmbeddedApiServer) -> None:
        super().__init__()
        self._collection = server.store.collection(PODS.storage)
        self._position = self._collection.end
        self._collection.listen(self._see_new)
        self.lost = False

    def _see_new(self) -> None:
        changes = self._collection.changes(self._position, 1 << 30)
        if changes is None:
            self.lost = True  # compacted before it was seen: cannot happen, since each change is seen at once
            return
        self._position += len(changes)
        for change in changes:
            self.see(change.stored.document)

    async def until(self, count: int, within_s: float, last_words: Callable[[], str]) -> None:
        end = asyncio.get_running_loop().time() + within_s
        while self.bound < count:
            if asyncio.get_running_loop().time() > end:
                pytest.fail(f"{self.bound} of {count} pods bound within {within_s:g} s\n{last_words()}")
            await asyncio.sleep(0.02)


async def nothing(faults: Faults, step: int) -> None:
    """The rules alone do it."""


async def compact(faults: Faults, step: int) -> None:
    faults.compact()
    faults.close_watches("pods", "cut")


async def close_all(faults: Faults, step: int) -> None:
    faults.close_watches("*", ("end", "cut", "half-line")[step % 3])


async def hold_in_turn(faults: Faults, step: int) -> None:
    """Pods and nodes reach the scheduler in any order but their own; for a while none of them does."""
    faults.release("pods", "nodes")
    faults.hold(("pods", "nodes")[step % 2])


@dataclasses.dataclass(frozen=True)
class Fault:
    rules: tuple[dict[str, Any], ...] = ()
    meddle: Callable[[Faults, int], Awaitable[None]] = nothing
    """Done once with each of ten parts of the pods."""
    acted: str = ""
    """A request (`verb resource`) that is seen more often under the fault, and how often at least."""
    times: int = 0
    unknown: int = 0
    """How many Bindings at least must have had no answer."""


FAULTS: dict[str, Fault] = {
    "watches that end in the middle of a burst": Fault(
        ({"verb": "watch", "resource": "pods", "end_after": 7},), acted="watch pods", times=20
    ),
    "watches cut in the middle of a line": Fault(
        ({"verb": "watch", "resource": "pods", "end_after": 40, "how": "half-line"},), acted="watch pods", times=5
    ),
    "watches that are cut": Fault(
        ({"verb": "watch", "resource": "*", "end_after": 40, "how": "cut"},), acted="watch pods", times=5
    ),
    "all watches closed again and again": Fault(meddle=close_all, acted="watch nodes", times=3),
    "500 and 503 for a fifth of everything": Fault(
        ({"status": 503, "probability": 0.1}, {"status": 500, "probability": 0.1}),
        acted="create pods/binding",
        times=PODS_COUNT + 20,
    ),
    "Bindings whose answer is lost after they were carried out": Fault(
        ({**BINDINGS, "lose_answer": True, "probability": 0.5},), unknown=50
    ),
    "Bindings whose answer is lost and whose echo comes late": Fault(
        ({**BINDINGS, "lose_answer": True, "probability": 0.5}, {"verb": "watch", "resource": "pods", "delay_s": 0.7}),
        acted="get pods",
        times=50,
        unknown=50,
    ),
    "connections closed before anything was carried out": Fault(
        ({**BINDINGS, "drop": True, "probability": 0.2},), acted="create pods/binding", times=PODS_COUNT + 20
    ),
    "429 with Retry-After": Fault(
        ({**BINDINGS, "status": 429, "retry_after_s": 1, "probability": 0.2},),
        acted="create pods/binding",
        times=PODS_COUNT + 20,
    ),
    "a history that is compacted again and again": Fault(meddle=compact, acted="list pods", times=4),
    "answers and events that come late": Fault(
        ({"latency_s": 0.3}, {"verb": "watch", "resource": "pods", "delay_s": 1.0}),
    ),
    "kinds whose events come out of order": Fault(meddle=hold_in_turn),
    "everything at once": Fault(
        (
            {"verb": "watch", "end_after": 30, "how": "half-line"},
            {"status": 503, "probability": 0.05},
            {**BINDINGS, "lose_answer": True, "probability": 0.1},
            {**BINDINGS, "status": 429, "retry_after_s": 1, "probability": 0.1},
            {"verb": "watch", "resource": "nodes", "delay_s": 0.5},
            {"latency_s": 0.05, "probability": 0.5},
        ),
        meddle=compact,
    ),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_all_pods_end_bound_once_whatever_the_api_server_does(
    case: str, start_scheduler: Start, tmp_path: Path
) -> None:
    fault = FAULTS[case]
    async with EmbeddedApiServer(seed=7) as server:
        write_kubeconfig(tmp_path / "kubeconfig", server.url, None)
        pods = StoredPods(server)
        # One half of the nodes is there from the beginning, the other comes between the pods.
        nodes = [make_node(f"n{i}", cpu="1", carbon_zone=ZONES[i % len(ZONES)]) for i in range(NODES)]
        server.load(nodes[: NODES // 2])
        process = start_scheduler(tmp_path / "kubeconfig")
        await process.ready()
        before = server.faults.requests.copy()
        for rule in fault.rules:
            server.faults.add(Rule(**rule))
        server.faults.close_watches()  # new ones are under the rules
        for part in range(10):
            each = PODS_COUNT // 10
            server.load(make_pod(f"p{part}-{i}", cpu="100m") for i in range(each))
            server.load([nodes[NODES // 2 + part]])
            await fault.meddle(server.faults, part)
            await asyncio.sleep(0.1)
        server.faults.release("pods", "nodes")
        await pods.until(PODS_COUNT, WITHIN_S, lambda: process.last_words)
        acted = server.faults.requests - before
        assert acted[fault.acted] >= fault.times, f"the fault did not act: {acted}"
        assert (await process.metrics()).get('carbon_scheduler_binds_total{result="unknown"}', 0) >= fault.unknown
        server.faults.clear()
        await check_it_knows_what_is_full(server, pods, process)
        assert await process.terminate() == 0, process.last_words

        stored = [one.document for one in server.store.collection(PODS.storage).listing()]
        all_nodes = [one.document for one in server.store.collection("nodes").listing()]
        assert pods.lost is False
        assert pods.changed == {}
        assert len(stored) == PODS_COUNT == pods.bound - 1
        assert over_allocated(all_nodes, stored) == {}
        assert {one["metadata"]["name"] for one in stored if decision(one)["node"] != one["spec"]["nodeName"]} == set()


async def check_it_knows_what_is_full(server: EmbeddedApiServer, pods: StoredPods, process: SchedulerProcess) -> None:
    """All nodes are full, to the scheduler too; one pod less, and the next has its room. Nothing was lost or kept."""
    server.load([make_pod("late", cpu="100m")])

    async def message() -> str:
        conditions = server.registry.get(PODS, "default", "late").document["status"].get("conditions") or []
        return next((one["message"] for one in conditions if one["type"] == "PodScheduled"), "")

    await eventually(message, "the scheduler says why the pod beyond all room waits", within_s=20)
    assert (await message()).startswith(f"0/{NODES} nodes are available: {NODES} Insufficient cpu."), await message()
    server.registry.delete(PODS, "default", "p3-3", DeleteOptions(grace_period_s=0))
    await pods.until(PODS_COUNT + 1, 20, lambda: process.last_words)


async def test_a_pod_made_again_under_its_name_is_not_bound_by_the_decision_about_the_first(
    start_scheduler: Start, tmp_path: Path
) -> None:
    """Between the decision and its Binding the pod is replaced by one that may not run on that node, nor on any other yet:
    only the uid can keep the Binding from it."""
    async with EmbeddedApiServer() as server:
        write_kubeconfig(tmp_path / "kubeconfig", server.url, None)
        pods = StoredPods(server)
        server.load([make_node("clean", carbon_zone="SE")])
        process = start_scheduler(tmp_path / "kubeconfig")
        await process.ready()
        server.faults.add(Rule(**BINDINGS, latency_s=2.0, count=1))
        server.load([make_pod("p")])
        [first_uid] = pods.of
        await process.said("Selected node clean in zone SE")

        async def bindings() -> int:
            return server.faults.requests["create pods/binding"]

        async def refused() -> float:
            return (await process.metrics()).get('carbon_scheduler_binds_total{result="refused"}', 0)

        await eventually(bindings, "the Binding lies with the server")
        server.registry.delete(PODS, "default", "p", DeleteOptions(grace_period_s=0))
        server.load([make_pod("p", nodeSelector={"carbon-zone": "PL"})])
        await eventually(refused, "the Binding is refused")
        assert pods.bound == 0
        server.load([make_node("dirty", carbon_zone="PL")])
        await pods.until(1, 20, lambda: process.last_words)
        assert await process.terminate() == 0
        [pod] = [one.document for one in server.store.collection(PODS.storage).listing()]
        assert pods.of == {first_uid: [], pod["metadata"]["uid"]: ["dirty"]}
        assert decision(pod)["node"] == "dirty"
        assert await bindings() == 2
