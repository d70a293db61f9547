"""Builders of core records with defaults, for tests. Quantities as people write them: `make_pod(cpu="500m")`."""

from __future__ import annotations

from itertools import count
from typing import Any

from carbon_scheduler.core.carbon import CarbonValue
from carbon_scheduler.core.events import CarbonChanged, Event, NodeChanged, PodChanged, Synced
from carbon_scheduler.core.grid import GridZones
from carbon_scheduler.core.model import GridZone, HostPort, Node, NodeName, Pod, PodSpec, PodUid, Requests, Taint
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.core.settings import Settings
from carbon_scheduler.providers.tables import grid_zones

_SUFFIX = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_numbers = count(1)

OURS = "carbon-aware-scheduler"
WALL = 1_767_225_600.0
"""2026-01-01T00:00:00Z: the wall clock of tests at `at` 0."""


def milli(text: str) -> int:
    """Millicores of "500m" or "2"."""
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def bytes_of(text: str) -> int:
    """Bytes of "64Mi" or "100"."""
    return int(text[:-2]) * _SUFFIX[text[-2:]] if text[-2:] in _SUFFIX else int(text)


def make_requests(cpu: str = "", memory: str = "", storage: str = "0", **scalars: int) -> Requests:
    return Requests(
        cpu_m=milli(cpu) if cpu else 0,
        memory_b=bytes_of(memory) if memory else 0,
        ephemeral_storage_b=bytes_of(storage),
        scalars=tuple(sorted((name.replace("_", "/"), n) for name, n in scalars.items())),
        scoring_cpu_m=milli(cpu) if cpu else 100,
        scoring_memory_b=bytes_of(memory) if memory else 200 * 2**20,
    )


def make_pod(
    name: str = "",
    *,
    cpu: str = "",
    memory: str = "",
    node: str | None = None,
    ports: tuple[int, ...] = (),
    scheduler: str = OURS,
    priority: int = 0,
    uid: str = "",
    namespace: str = "default",
    scalars: dict[str, int] | None = None,
    spec: dict[str, Any] | None = None,
    **fields: Any,
) -> Pod:
    """A pending pod of ours; `spec` sets further fields of PodSpec, `fields` of Pod."""
    name = name or f"pod-{next(_numbers)}"
    return Pod(
        uid=PodUid(uid or f"uid-{namespace}-{name}"),
        namespace=namespace,
        name=name,
        spec=PodSpec(
            namespace=namespace,
            requests=make_requests(cpu, memory, **(scalars or {})),
            host_ports=tuple(HostPort("0.0.0.0", "TCP", port) for port in ports),
            priority=priority,
            **(spec or {}),
        ),
        scheduler_name=scheduler,
        node_name=NodeName(node) if node else None,
        **fields,
    )


def make_node(
    name: str = "",
    *,
    cpu: str = "4",
    memory: str = "16Gi",
    pods: int = 110,
    zone: str = "",
    labels: dict[str, str] | None = None,
    taints: tuple[Taint, ...] = (),
    unschedulable: bool = False,
    extra: dict[str, int] | None = None,
    provider_id: str = "",
) -> Node:
    """A node; `zone` sets its label carbon-zone."""
    name = name or f"node-{next(_numbers)}"
    return Node(
        name=NodeName(name),
        labels={"kubernetes.io/hostname": name} | (labels or {}) | ({"carbon-zone": zone} if zone else {}),
        taints=taints,
        unschedulable=unschedulable,
        allocatable={"cpu": milli(cpu), "memory": bytes_of(memory), "pods": pods} | (extra or {}),
        provider_id=provider_id,
    )


def make_value(zone: str, g_per_kwh: float, quality: str = "measured", **fields: Any) -> CarbonValue:
    return CarbonValue(
        GridZone(zone),
        g_per_kwh,
        quality,  # type: ignore[arg-type]
        fields.pop("source", "electricity-maps"),
        hour_s=fields.pop("hour_s", WALL),
        known_s=fields.pop("known_s", WALL),
        **fields,
    )


def unhelped(nodes: int, why: str = "Preemption is not helpful for scheduling") -> str:
    """What follows the reasons in the message of a pod for which preemption could do nothing, on any of the nodes."""
    return f" no new claims to deallocate, preemption: 0/{nodes} nodes are available: {nodes} {why}."


NOBODY = "No preemption victims found for incoming pod"


class Story:
    """A scheduler and a clock: each step moves time by `step_s`; `decide()` gives the effects as a list."""

    def __init__(self, settings: Settings | None = None, grid: GridZones | None = None, *, synced: bool = True) -> None:
        self.scheduler = Scheduler(settings or Settings(), grid or grid_zones())
        self.at = 0.0
        self.effects: list[Any] = []
        if synced:
            self.apply(Synced(*self.now))

    @property
    def now(self) -> tuple[float, float]:
        return self.at, WALL + self.at

    def apply(self, *events: Event) -> Story:
        for event in events:
            self.scheduler.apply(event)
            self.scheduler.cluster.debug_check()
        return self

    def nodes(self, *nodes: Node) -> Story:
        return self.apply(*(NodeChanged(*self.now, node) for node in nodes))

    def pods(self, *pods: Pod) -> Story:
        return self.apply(*(PodChanged(*self.now, pod) for pod in pods))

    def carbon(self, **g_per_kwh: float | None) -> Story:
        """Intensities by zone, `US_NY_NYIS=300`; None: no value on any rung."""
        for name, g in g_per_kwh.items():
            zone = name.replace("_", "-")
            value = None if g is None else make_value(zone, g, hour_s=self.now[1])
            self.apply(CarbonChanged(*self.now, GridZone(zone), value))
        return self

    def wait(self, seconds: float) -> Story:
        self.at += seconds
        return self

    def decide(self, limit: int = 1000) -> list[Any]:
        self.effects = list(self.scheduler.decide(self.at, limit))
        self.scheduler.cluster.debug_check()
        return self.effects
