"""Judges decisions from the API's objects alone, without any code of the scheduler's: one pod and one node at a time.

The decisions are replayed in the order of their `seq`. Before each one the cluster is what the earlier ones and the pods
that were there before made of it; what it says of itself is compared with what a plain reading of the objects gives.
It knows requests of cpu, memory and pods, `nodeSelector`, taints and cordons: what the tests' pods and nodes use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

JSON = dict[str, Any]
DECISION = "carbon-scheduler.io/decision"
_SUFFIXES = {
    "m": 1,
    "": 1000,
    "k": 10**6,
    "M": 10**9,
    "G": 10**12,
    "Ki": 1000 << 10,
    "Mi": 1000 << 20,
    "Gi": 1000 << 30,
}


def thousandths(quantity: str) -> int:
    digits = quantity.rstrip("mkKMGi")
    return int(digits) * _SUFFIXES[quantity[len(digits) :]]


@dataclass
class NaiveNode:
    name: str
    grid_zone: str | None
    labels: dict[str, str]
    taints: list[JSON]
    unschedulable: bool
    cpu: int
    memory: int
    pods: int
    """What is still free, in thousandths; may become negative, which is what a test looks for."""

    def admits(self, pod: NaivePod) -> bool:
        return (
            self.cpu >= pod.cpu
            and self.memory >= pod.memory
            and self.pods >= 1
            and not self.unschedulable
            and all(self.labels.get(key) == value for key, value in pod.selector.items())
            and all(
                taint["effect"] == "PreferNoSchedule" or any(_tolerates(one, taint) for one in pod.tolerations)
                for taint in self.taints
            )
        )

    def charge(self, pod: NaivePod) -> None:
        self.cpu -= pod.cpu
        self.memory -= pod.memory
        self.pods -= 1


@dataclass
class NaivePod:
    name: str
    node: str
    cpu: int
    memory: int
    selector: dict[str, str]
    tolerations: list[JSON]
    decision: JSON | None


def _tolerates(toleration: JSON, taint: JSON) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def read_node(found: JSON, default_zone: str | None = None) -> NaiveNode:
    labels, room = found["metadata"].get("labels", {}), found["status"]["allocatable"]
    return NaiveNode(
        found["metadata"]["name"],
        labels.get("carbon-zone", default_zone),
        labels,
        found["spec"].get("taints", []),
        found["spec"].get("unschedulable", False),
        thousandths(room["cpu"]),
        thousandths(room["memory"]),
        int(room["pods"]),
    )


def read_pod(found: JSON) -> NaivePod:
    requests = [one.get("resources", {}).get("requests", {}) for one in found["spec"]["containers"]]
    written = found["metadata"].get("annotations", {}).get(DECISION)
    return NaivePod(
        found["metadata"]["name"],
        found["spec"].get("nodeName", ""),
        sum(thousandths(one.get("cpu", "0")) for one in requests),
        sum(thousandths(one.get("memory", "0")) for one in requests),
        found["spec"].get("nodeSelector", {}),
        found["spec"].get("tolerations", []),
        json.loads(written) if written else None,
    )


@dataclass
class Replay:
    """`wrong` holds a sentence for each decision that was not as it should have been, and for each node given away twice."""

    decided: int = 0
    wrong: list[str] = field(default_factory=list)


def replay(
    nodes: Iterable[JSON],
    pods: Iterable[JSON],
    g_per_kwh: Callable[[str, int], float],
    *,
    default_zone: str | None = None,
    tolerance_frac: float = 0.05,
    tolerance_g_per_kwh: float = 5.0,
) -> Replay:
    """`g_per_kwh` gives a grid zone's intensity at a `seq`. Pods without a decision were there from the beginning."""
    cluster = {node.name: node for node in (read_node(one, default_zone) for one in nodes)}
    all_pods = [read_pod(one) for one in pods]
    for pod in all_pods:
        if pod.decision is None and pod.node:
            cluster[pod.node].charge(pod)
    result = Replay()
    decided = [(pod.decision["seq"], pod, pod.decision) for pod in all_pods if pod.decision is not None]
    if len({seq for seq, *_ in decided}) != len(decided):
        result.wrong.append("two decisions have the same seq")
    for seq, pod, said in sorted(decided, key=lambda one: one[0]):
        result.decided += 1
        feasible = [node for node in cluster.values() if node.admits(pod)]
        taken = cluster[pod.node]
        zones = {node.grid_zone for node in feasible if node.grid_zone}
        intensities = {zone: g_per_kwh(zone, seq) for zone in zones}
        cleanest = min(intensities.values(), default=None)
        mine = intensities.get(taken.grid_zone or "")
        want: JSON = {
            "node": pod.node,
            "grid_zone": taken.grid_zone,
            "feasible": len(feasible),
            "cleanest_g_per_kwh": cleanest,
            "intensity_g_per_kwh": mine,
        }
        got = {key: said[key] for key in want}
        if taken not in feasible:
            result.wrong.append(f"{pod.name}: {taken.name} is not feasible")
        elif got != want:
            result.wrong.append(f"{pod.name}: says {got}, but is {want}")
        elif mine is None or cleanest is None or mine > cleanest + max(tolerance_frac * cleanest, tolerance_g_per_kwh):
            result.wrong.append(f"{pod.name}: taken at {mine} g/kWh, the cleanest is {cleanest}")
        blind = cluster[said["blind"]]
        if blind not in feasible:
            result.wrong.append(f"{pod.name}: the blind choice {blind.name} is not feasible")
        elif mine is not None and said["saved_g_per_kwh"] != intensities[blind.grid_zone or ""] - mine:
            result.wrong.append(f"{pod.name}: saved_g_per_kwh is {said['saved_g_per_kwh']}, blind is {blind}")
        taken.charge(pod)
    result.wrong += [
        f"{node.name} is over-allocated: {node}"
        for node in cluster.values()
        if min(node.cpu, node.memory, node.pods) < 0
    ]
    return result
