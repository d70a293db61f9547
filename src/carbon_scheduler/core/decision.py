"""What the core wants done. Effects are requests to the shell; their answers come back as events."""

from __future__ import annotations

from typing import Literal

from carbon_scheduler.core.carbon import Quality
from carbon_scheduler.core.model import GridZone, NodeName, PodUid, Struct
from carbon_scheduler.core.settings import Policy


class Decision(Struct, frozen=True):
    """Why a pod goes to a node. Written on the pod (design section 8) and logged; intensities are None without a value.

    `seq` orders decisions, also across restarts: it starts at the wall clock's microseconds and counts up.
    `cleanest_g_per_kwh` is the lowest intensity among the feasible nodes, `blind` the node that upstream's score alone
    would have taken, `saved_g_per_kwh` blind's intensity minus the chosen one's (signed; None when either has no value).
    """

    seq: int
    at_us: int
    node: NodeName
    grid_zone: GridZone | None
    intensity_g_per_kwh: float | None
    cleanest_g_per_kwh: float | None
    quality: Quality | None
    source: str | None
    feasible: int
    policy: Policy
    blind: NodeName
    saved_g_per_kwh: float | None
    blind_g_per_kwh: float | None = None
    blind_grid_zone: GridZone | None = None


class _Effect(Struct, frozen=True, tag=True):
    pass


class PodDetected(_Effect, frozen=True):
    """A pending pod of ours was seen for the first time."""

    uid: PodUid
    namespace: str
    name: str


class Bind(_Effect, frozen=True):
    """POST a Binding with the pod's uid. Answered by `Bound`, `Refused` or `Unknown`. `annotations_b`: size on the pod now."""

    uid: PodUid
    namespace: str
    name: str
    node: NodeName
    decision: Decision
    annotations_b: int = 0
    attempts: int = 1
    waited_s: float = 0.0
    """Attempts so far, this one included, and seconds since the pod was first seen."""
    scheduler_name: str = "carbon-aware-scheduler"


class VolumeWrite(Struct, frozen=True):
    """A PersistentVolume whose claimRef is to name a claim, unless it has changed since `resource_version`. `found`: the
    scheduler found the match, which an annotation is to say."""

    name: str
    resource_version: str
    claim_namespace: str
    claim_name: str
    claim_uid: str
    found: bool


class ClaimWrite(Struct, frozen=True):
    """A claim whose annotation volume.kubernetes.io/selected-node is to name the node, unless it has changed."""

    namespace: str
    name: str
    resource_version: str


class BindVolumes(_Effect, frozen=True):
    """Write down how a pod's claims are to be met on a node, volumes first, in this order, stopping at the first that fails.
    Answered by `VolumesWritten` or `VolumesNotWritten` with the same `seq`."""

    uid: PodUid
    namespace: str
    name: str
    node: NodeName
    seq: int
    volumes: tuple[VolumeWrite, ...]
    claims: tuple[ClaimWrite, ...]


class ReadPod(_Effect, frozen=True):
    """GET the pod, until there is an answer. Answered by `PodRead` with the same `seq` (of the Binding in doubt)."""

    uid: PodUid
    namespace: str
    name: str
    seq: int


class Unschedulable(_Effect, frozen=True):
    """No node fits (reason "Unschedulable") or the attempt failed ("SchedulerError"): a FailedScheduling event, and the
    PodScheduled condition when `patch` says that it differs from what the API server has. `news`: not what was last said."""

    uid: PodUid
    namespace: str
    name: str
    reason: Literal["Unschedulable", "SchedulerError"]
    message: str
    patch: bool
    scheduler_name: str = "carbon-aware-scheduler"
    generation: int = 0
    """`Pod.generation`, for the condition's observedGeneration; 0 leaves that out."""
    news: bool = True
    nominate: NodeName | Literal[""] | None = None
    """What to write into status.nominatedNodeName with the condition, "" to clear it; None leaves it as it is."""
    victims: int | None = None
    """How many pods preemption chose to evict for this one; None: it was not tried."""


class Evict(_Effect, frozen=True):
    """Tell a pod to go, because another of higher priority needs its room: the condition DisruptionTarget, then a DELETE with
    the pod's own grace and its uid. Answered by `Evicted` or `NotEvicted`. `scheduler_name` is the preemptor's."""

    uid: PodUid
    namespace: str
    name: str
    node: NodeName
    preemptor_uid: PodUid
    preemptor_namespace: str
    preemptor_name: str
    scheduler_name: str = "carbon-aware-scheduler"
    generation: int = 0
    marked: bool = False
    """It has the condition already: the time of its transition stays."""
    cancelled: bool = False
    """It waited for its volumes and looks for another node instead: nothing is to be written but the event, nor answered."""


class Nominate(_Effect, frozen=True):
    """Write status.nominatedNodeName and nothing else: where a pod is going to be that has to wait for its volumes first, or ""
    where the room that was kept for it is needed for a pod of higher priority."""

    uid: PodUid
    namespace: str
    name: str
    node: NodeName | Literal[""] = ""


class PodWarning(_Effect, frozen=True):
    """Something about the pod was ignored: a Warning event on it, once per change. `reason` is CamelCase."""

    uid: PodUid
    namespace: str
    name: str
    reason: str
    message: str
    scheduler_name: str = "carbon-aware-scheduler"


class ZonesInUse(_Effect, frozen=True):
    """The grid zones of the nodes changed: these are the ones that need data. Sorted."""

    grid_zones: tuple[GridZone, ...]


class Overcommitted(_Effect, frozen=True):
    """The pods on a node request more than it offers: a Warning event on the node, once for each spell. `short` are
    (resource, requested, offered) in base units, cpu in millicores."""

    node: NodeName
    uid: str
    short: tuple[tuple[str, int, int], ...]
    scheduler_name: str = "carbon-aware-scheduler"

    @property
    def message(self) -> str:
        parts = ", ".join(f"{name}: {requested} of {offered}" for name, requested, offered in self.short)
        return (
            f"The pods on this node request more than it offers ({parts}); the kubelet fails those that do not fit. "
            "Does another scheduler use it too?"
        )


class ZoneNotKnown(_Effect, frozen=True):
    """A node names a grid zone that does not exist. Said once per spelling."""

    node: NodeName
    text: str
    where: str
    nearest: tuple[str, ...]


Effect = (
    PodDetected
    | BindVolumes
    | Bind
    | ReadPod
    | Unschedulable
    | Evict
    | Nominate
    | PodWarning
    | ZonesInUse
    | ZoneNotKnown
    | Overcommitted
)
