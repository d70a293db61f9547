"""What can happen to the core. Every event carries `at` (monotonic seconds: backoff, timers) and `wall` (Unix time: deadlines,
carbon hours). Events are facts; an event that comes twice, late, or out of order between kinds must not do harm."""

from __future__ import annotations

from carbon_scheduler.core.carbon import CarbonValue
from carbon_scheduler.core.model import GridZone, Namespace, Node, NodeName, Pod, PodUid, Struct
from carbon_scheduler.core.objects import AnyObject, ObjectKind


class _Event(Struct, frozen=True, tag=True):
    at: float
    wall: float


class NodeChanged(_Event, frozen=True):
    """A node was added or changed; the whole node as it is now."""

    node: Node


class NodeGone(_Event, frozen=True):
    name: NodeName


class PodChanged(_Event, frozen=True):
    """A pod was added or changed (any scheduler's, any phase); the whole pod as the API server has it."""

    pod: Pod


class PodGone(_Event, frozen=True):
    """The object was deleted (or a relist no longer shows it)."""

    uid: PodUid


class NamespaceChanged(_Event, frozen=True):
    namespace: Namespace


class NamespaceGone(_Event, frozen=True):
    name: str


class ObjectChanged(_Event, frozen=True):
    """One of the other objects was added or changed; the whole object as it is now."""

    object: AnyObject


class ObjectGone(_Event, frozen=True):
    """`key` is `namespace/name`, or the name of an object outside namespaces."""

    kind: ObjectKind
    key: str


class CarbonChanged(_Event, frozen=True):
    """The ladder's answer for a zone: its value for the current hour, or None when no rung has one.

    The first one for a zone says that its source has answered or failed (design 3.6).
    """

    grid_zone: GridZone
    value: CarbonValue | None


class Synced(_Event, frozen=True):
    """The first lists of all kinds are in. Before this nothing is decided."""


class Tick(_Event, frozen=True):
    """Time passed; nothing else."""


class Bound(_Event, frozen=True):
    """The API server accepted the Binding. `seq` of this and the next ones is the decision's: an answer to an earlier
    attempt must not be taken for one to the present one."""

    uid: PodUid
    node: NodeName
    seq: int


class Refused(_Event, frozen=True):
    """The Binding was certainly not carried out. `code` is the HTTP status, 0 when the request never reached the server."""

    uid: PodUid
    node: NodeName
    seq: int
    code: int
    message: str


class Unknown(_Event, frozen=True):
    """The answer to the Binding was lost: it may have been carried out. Settled by reading the pod, never by time."""

    uid: PodUid
    node: NodeName
    seq: int
    message: str = ""


class VolumesWritten(_Event, frozen=True):
    """The API server has taken all that a `BindVolumes` effect asked for."""

    uid: PodUid
    seq: int


class VolumesNotWritten(_Event, frozen=True):
    """It has refused some of it, or the answer to it was lost. What was written stays, and comes back by the watch."""

    uid: PodUid
    seq: int
    message: str


class PodRead(_Event, frozen=True):
    """The answer to a `ReadPod` effect: the pod as the API server has it now, or None when it is gone."""

    uid: PodUid
    seq: int
    pod: Pod | None


class Evicted(_Event, frozen=True):
    """The API server took the deletion of a victim, or has no such pod any more."""

    uid: PodUid


class NotEvicted(_Event, frozen=True):
    """A victim was not deleted, or nobody knows: `code` is the HTTP status, 0 without an answer."""

    uid: PodUid
    code: int
    message: str


Event = (
    NodeChanged
    | NodeGone
    | PodChanged
    | PodGone
    | NamespaceChanged
    | NamespaceGone
    | ObjectChanged
    | ObjectGone
    | CarbonChanged
    | Synced
    | Tick
    | Bound
    | Refused
    | Unknown
    | PodRead
    | VolumesWritten
    | VolumesNotWritten
    | Evicted
    | NotEvicted
)
