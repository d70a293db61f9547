"""What must hold for the objects of a cluster whatever went wrong: each pod bound once, and no node beyond its room."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from real_cluster import Cluster

JSON = dict[str, Any]
DECISION: Final = "carbon-scheduler.io/decision"
_UNITS: Final = {"m": Decimal("0.001"), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}


def over_allocated(nodes: Iterable[JSON], pods: Iterable[JSON]) -> dict[str, str]:
    """Node -> what does not fit on it, summed anew from the API objects. A pod on a node that is not there counts too.

    Counts the requests of the containers, not those of init containers nor overhead.
    """
    room = {node["metadata"]["name"]: node["status"]["allocatable"] for node in nodes}
    used: dict[str, Counter[str]] = {name: Counter() for name in room}
    problems = {}
    for pod in pods:
        if (name := pod["spec"].get("nodeName")) is None or pod["status"].get("phase") in ("Succeeded", "Failed"):
            continue
        if name not in room:
            problems[name] = f"{pod['metadata']['name']} is bound to it, and it does not exist"
            continue
        used[name]["pods"] += 1
        for container in pod["spec"]["containers"]:
            for resource, quantity in (container.get("resources", {}).get("requests") or {}).items():
                used[name][resource] += _number(quantity)  # type: ignore[assignment]  # a Counter of Decimals
    for name, sums in used.items():
        if beyond := {key: str(value) for key, value in sums.items() if value > _number(room[name].get(key, "0"))}:
            problems[name] = f"{beyond} of {room[name]}"
    return problems


def decision(pod: JSON) -> JSON:
    """What the scheduler wrote on a pod that it bound."""
    found: JSON = json.loads(pod["metadata"]["annotations"][DECISION])
    return found


def _number(quantity: str) -> Decimal:
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return Decimal(quantity.removesuffix(unit)) * factor
    return Decimal(quantity)


class NodeNames:
    """Every node name that each pod was ever seen with. Feed it every state of every pod, in order."""

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}
        """uid -> its node names in the order seen; [] while pending. A pod bound once has one."""

    def see(self, pod: Mapping[str, Any]) -> None:
        names = self.of.setdefault(pod["metadata"]["uid"], [])
        name = pod["spec"].get("nodeName") or ""
        if (names[-1] if names else "") != name:
            names.append(name)

    @property
    def bound(self) -> int:
        return sum(bool(names) for names in self.of.values())

    @property
    def changed(self) -> dict[str, list[str]]:
        """Pods whose node name changed after it was set: there must be none."""
        return {uid: names for uid, names in self.of.items() if len(names) > 1}


class PodWatch(NodeNames):
    """All pods of a cluster from the moment of `async with PodWatch(cluster)` on, through cuts of the connection.

    `gaps` counts the times when it had to list again, having missed states between.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.gaps = 0
        self._cluster = cluster
        self._version = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._list()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        [ended] = await asyncio.gather(self._task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), f"the watch of pods has failed: {ended!r}"

    async def until(self, count: int, within_s: float) -> None:
        """Returns as soon as so many pods are bound; fails after `within_s`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while self.bound < count:
            assert loop.time() < end, (
                f"{self.bound} of {len(self.of)} pods bound within {within_s:g} s, expected {count}"
            )
            await asyncio.sleep(0.005)

    async def _list(self) -> None:
        listed = await self._cluster.call("GET", "/api/v1/pods")
        for pod in listed["items"]:
            self.see(pod)
        self._version = listed["metadata"]["resourceVersion"]

    async def _follow(self) -> None:
        while True:
            try:
                async for event in self._cluster.watch("/api/v1/pods", resourceVersion=self._version):
                    if event["type"] == "ERROR":
                        self.gaps += 1
                        await self._list()
                        break
                    self._version = event["object"]["metadata"]["resourceVersion"]
                    self.see(event["object"])
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                await asyncio.sleep(0.1)
