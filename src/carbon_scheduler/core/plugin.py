"""What a plugin is: one object per plugin of kube-scheduler, asked with arrays over all nodes at once.

A plugin prepares a `State` for a pod. The state judges *rows* (slots of the snapshot): all of them the first time, afterwards
only those that changed. Pods for which `key` is equal share one state and its arrays, whatever else differs between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from carbon_scheduler.core.model import Struct

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Namespace, Node, Pod
    from carbon_scheduler.core.objects import AnyObject, ObjectKind
    from carbon_scheduler.core.snapshot import Snapshot

    Rows = slice | NDArray[np.intp]

ALL: Final = slice(None)
MAX_SCORE: Final = 100

UNSCHEDULABLE: Final = "Unschedulable"
UNRESOLVABLE: Final = "UnschedulableAndUnresolvable"
ERROR: Final = "Error"
Code = Literal["Success", "Unschedulable", "UnschedulableAndUnresolvable", "Error"]

UNRESOLVABLE_BIT: Final = np.uint64(1 << 63)
"""Set in a node's rejection when preemption cannot help there; the bits below it index the state's `reasons`."""
ERROR_BIT: Final = np.uint64(1 << 62)
"""Set, alone, for a node that cannot be judged (upstream's error in Filter): if no plugin before rejects the node, the attempt
ends with the state's `error`."""
MAX_REASONS: Final = 60


class Rejected(Struct, frozen=True):
    """The pod as a whole is rejected (upstream's PreFilter), or, with the code Error, the attempt ends there."""

    code: Code
    reasons: tuple[str, ...]


class State:
    """What one plugin has worked out for one kind of pod. Base class: filters nothing, scores nothing.

    `reasons[i]` is the text of bit i. Arrays are returned for the rows asked, in their order.
    """

    filters: bool = False
    scores: bool = False
    reasons: tuple[str, ...] = ()
    error: str = ""
    """What ERROR_BIT stands for; "" where no node has it."""
    failure: str = ""
    """Why it cannot score (upstream's error in PreScore): the attempt ends with it once there is a choice to make."""

    relents: bool = False
    """A node that it lets the pod have, it lets it have all the more when pods have left that node."""

    constant: int | None = None
    """0..100 when this attempt's score is the same for every node: then `score` is not asked. For plugins that read the
    cluster."""

    def only(self, snap: Snapshot) -> NDArray[np.intp] | None:
        """The slots that this pod is pinned to (upstream's PreFilterResult), None for no such limit."""
        return None

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        """uint64 (rows,): 0 where the node is feasible, else bits of `reasons` and `UNRESOLVABLE_BIT`."""
        raise NotImplementedError(f"{type(self).__name__} does not filter")

    def fits(self, snap: Snapshot, rows: Rows) -> NDArray[np.bool_]:
        """bool (rows,): where `reject` gives 0, for those who do not ask why."""
        fits: NDArray[np.bool_] = self.reject(snap, rows) == 0
        return fits

    def refusing(self, snap: Snapshot) -> Sequence[tuple[NDArray[np.intp], NDArray[np.bool_]]] | None:
        """Where the filter depends on nothing but the domains that a node lies in: for each way to divide them, intp
        (capacity,) which domain, the same array as long as no node changes, and bool (domains,) which are turned away."""
        return None

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """int64 (rows,): the raw score, from the node alone; from the feasible `rows` together where it reads the cluster."""
        raise NotImplementedError(f"{type(self).__name__} does not score")

    def normalise(self, raw: NDArray[np.int64]) -> NDArray[np.int64]:
        """0..100 over the feasible nodes' raw scores, as `score` returned them last. Default: they are already."""
        return raw

    def score_all(self, snap: Snapshot, feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        """int64 (capacity,): 0..100 where `feasible`, anything elsewhere. For plugins that read the cluster; some are faster
        without a list of slots."""
        slots = np.flatnonzero(feasible)
        scores = np.zeros(snap.capacity, np.int64)
        scores[slots] = self.normalise(self.score(snap, slots))
        return scores


ChangeKind = Literal[
    "node", "node-gone", "pod-gone", "pod-shrunk", "pod-placed", "pod-labels", "self", "namespace", "object"
]
NodePart = Literal["labels", "taints", "allocatable", "features"]


class Change(Struct, frozen=True):
    """What an event changed, as queueing hints ask for it: things before and after (None: was not, or is no longer there).

    "node": one was added or changed; "node-gone": one was removed (`node_before`). Of a pod that has a node, or was nominated
    to one: "pod-placed" (it came, by whomever; `pod`), "pod-gone" (`pod` is what it was), "pod-shrunk" (it takes less of
    something) and "pod-labels" (both with `pod_before`). "self": the waiting pod itself changed (`pod_before`, `pod`).
    "object": any of `objects`.

    An event that changes several things is one "node" or "self", and one of each other kind that applies.
    """

    kind: ChangeKind
    node_before: Node | None = None
    node: Node | None = None
    pod: Pod | None = None
    pod_before: Pod | None = None
    namespace: Namespace | None = None
    object_before: AnyObject | None = None
    object: AnyObject | None = None

    @property
    def topic(self) -> ChangeKind | ObjectKind:
        """Its kind; of an object, what kind of object."""
        found = self.object or self.object_before
        return self.kind if found is None else found.kind

    @property
    def node_parts(self) -> frozenset[NodePart] | None:
        """Of a node that changed, what did, as far as hints ask; None for all other changes."""
        before, now = self.node_before, self.node
        if before is None or now is None:
            return None
        parts: dict[NodePart, bool] = {
            "labels": before.labels != now.labels,
            "taints": self.of_taints,
            "allocatable": before.allocatable != now.allocatable,
            "features": before.features != now.features,
        }
        return frozenset(part for part, changed in parts.items() if changed)

    @property
    def of_taints(self) -> bool:
        """Whether a node's taints changed, or it was uncordoned (upstream's UpdateNodeTaint)."""
        before, now = self.node_before, self.node
        if before is None or now is None:
            return False
        return before.taints != now.taints or (before.unschedulable and not now.unschedulable)

    @property
    def of_labels(self) -> bool:
        """Whether a node's labels changed (UpdateNodeLabel), or those of the pod that this is about (UpdatePodLabel)."""
        if self.node_before is not None and self.node is not None:
            return self.node_before.labels != self.node.labels
        if self.pod_before is not None and self.pod is not None:
            return self.pod_before.spec.labels != self.pod.spec.labels
        return False


class Plugin:
    """One of upstream's plugins, filter and score together. Weight 0: does not score. A profile may set another weight."""

    name: str
    weight: int = 0
    reads: Literal["node", "load", "cluster"] = "node"
    """What its arrays depend on: what the node is; also what runs on it; or anything in the snapshot. The states of the last
    sort are prepared anew for each attempt, asked once for all nodes and once for the feasible ones, and never kept: what such
    a plugin wants to keep between attempts, it keeps itself."""
    filters: bool = True
    """False where a profile has the plugin's PreFilter and Filter off: then `prepare` rejects no pod."""
    sums: bool = False
    """Of what runs on a node it reads nothing but `requested` and `pod_count`: preemption then works its answer out for many
    nodes at once."""
    hears: frozenset[ChangeKind | ObjectKind] | None = None
    """The topics of changes about which `wakes` must be asked; None: all. Others cost nothing, however many pods wait."""
    hears_of_nodes: frozenset[NodePart] | None = None
    """What of a node that changes (not: comes) matters; None: all. Without meaning where `hears` leaves "node" out."""
    wakes_on_taints: bool = True
    """Upstream retries what a plugin rejected at every change of any node's taints, if the plugin registers for added nodes
    and not for taints, as most do (v1.36.3 scheduler.go buildQueueingHintMap, a repair of long ago). `wakes` is not asked
    then. False for those that register for taints themselves; without meaning where `hears` leaves "node" out."""

    def key(self, pod: Pod) -> Hashable:
        """What of the pod the state depends on; None: this plugin has nothing to say about the pod (upstream's Skip).

        It depends on `pod.spec` and `pod.node_name` alone, and not on what the plugin has learnt."""
        raise NotImplementedError

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        """Once per distinct key; in every attempt where it reads the cluster."""
        raise NotImplementedError

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        """Whether the change may make room for a pod that this plugin rejected (upstream's queueing hint). `snap` has it
        already. Asked once for all waiting pods of one shape, so it may look at the pod's spec and at nothing else of it, but
        for its name when it has an ephemeral volume; and for "self" at all of it."""
        raise NotImplementedError


def by_maximum(raw: NDArray[np.int64], *, reverse: bool) -> NDArray[np.int64]:
    """Upstream's DefaultNormalizeScore (v1.36.3 plugins/helper/normalize_score.go): 100 * raw / max, integer; all 0, or all
    100 when reversed, for a maximum of 0. Shape and dtype of `raw`."""
    top = int(raw.max(initial=0))
    if top == 0:
        return np.full_like(raw, MAX_SCORE if reverse else 0)
    scaled = MAX_SCORE * raw // top
    return MAX_SCORE - scaled if reverse else scaled
