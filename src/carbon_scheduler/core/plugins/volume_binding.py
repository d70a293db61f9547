"""VolumeBinding: a pod's claims can be met on a node, by volumes that are bound, that are free, or that can be made there.

Sources: kube-scheduler v1.36.3 plugins/volumebinding (volume_binding.go, binder.go), component-helpers v0.36.3
storage/volume/pv_helpers.go (FindMatchingVolume). Between volumes of equal size upstream takes any; here the first by name.
Upstream sorts claims of equal size as they come (up to twelve of them), and so does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.model import Struct
from carbon_scheduler.core.objects import Claim, CsiDriver, CsiNode, StorageCapacity, StorageClass, Volume
from carbon_scheduler.core.plugin import ERROR, UNRESOLVABLE, Change, Plugin, Rejected, State
from carbon_scheduler.core.plugins.reach import Reach
from carbon_scheduler.core.plugins.volume_search import REASONS, Search, limit_b
from carbon_scheduler.core.pod_volumes import claim_key, claim_missing, not_owned, owned
from carbon_scheduler.core.volumes import StaticBinding, VolumePlan, bound_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot


class Claims(Struct, frozen=True):
    """A pod's claims in the order of its volumes: those that are bound, and those that wait for their first consumer."""

    bound: tuple[Claim, ...]
    waiting: tuple[Claim, ...]


def uses_claims(pod: Pod) -> bool:
    """Whether any of the pod's volumes is a claim, its own ephemeral one included."""
    return any(volume.kind in ("claim", "ephemeral") for volume in pod.spec.volumes)


def claims_of(pod: Pod, snap: Snapshot) -> Claims | Rejected:
    """What the pod's claims are, as assumed, or why it cannot be scheduled with them."""
    keys = [(volume, claim_key(pod, volume)) for volume in pod.spec.volumes if volume.kind in ("claim", "ephemeral")]
    for volume, key in keys:
        if why := _unusable(pod, key, snap, ephemeral=volume.kind == "ephemeral"):
            return Rejected(UNRESOLVABLE, (why,))
    bound, waiting, immediate = [], [], False
    for _, key in keys:
        claim = snap.volumes.claim(key)
        assert claim is not None  # it was there a moment ago
        if claim.volume_name and claim.bind_completed:
            bound.append(claim)
            continue
        of_class = snap.objects.get(StorageClass, claim.class_name) if claim.class_name else None
        if of_class is not None and not of_class.binding_mode:
            return Rejected(ERROR, (f'VolumeBindingMode not set for StorageClass "{of_class.name}"',))
        if of_class is not None and of_class.binding_mode == "WaitForFirstConsumer" and not claim.volume_name:
            waiting.append(claim)
        else:
            immediate = True
    if immediate:
        return Rejected(UNRESOLVABLE, ("pod has unbound immediate PersistentVolumeClaims",))
    return Claims(tuple(bound), tuple(waiting))


def _unusable(pod: Pod, key: str, snap: Snapshot, *, ephemeral: bool) -> str:
    claim = snap.objects.get(Claim, key)
    if claim is None:
        name = key.partition("/")[2]
        if ephemeral:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return claim_missing(name)
    if claim.phase == "Lost":
        return f'persistentvolumeclaim "{claim.name}" bound to non-existent persistentvolume "{claim.volume_name}"'
    if claim.terminating:
        return f'persistentvolumeclaim "{claim.name}" is being deleted'
    return not_owned(claim, pod) if ephemeral and not owned(claim, pod) else ""


def plan(pod: Pod, snap: Snapshot, slot: int) -> VolumePlan:
    """How the pod's claims are met on a node that is feasible for it, as the snapshot is now. Equal calls give equal plans.

    Raises ValueError where they cannot be met there. Cost: O(volumes of the classes concerned).
    """
    claims = claims_of(pod, snap)
    if isinstance(claims, Rejected):
        raise ValueError(f"pod {pod.key}: no plan for its volumes: {claims.reasons[0]}; expected a feasible pod")
    here = np.array([slot], np.intp)
    search = Search(claims.bound, claims.waiting, snap, Reach(only=here))
    if search.codes[slot]:
        raise ValueError(f"pod {pod.key}: no plan for its volumes on slot {slot}; expected a feasible node")
    bindings: dict[str, StaticBinding] = {}
    provisions: dict[str, Claim] = {}
    for claim, volume in search.chosen(slot):
        if volume is None:
            provisions.setdefault(claim.key, claim)
        elif claim.key not in bindings:
            ref = volume.claim_ref
            done = ref is not None and (ref.namespace, ref.name, ref.uid) == (claim.namespace, claim.name, claim.uid)
            bindings[claim.key] = StaticBinding(volume, claim, found=not bound_to(volume, claim), done=done)
    made = [claim for key, claim in provisions.items() if key not in bindings]
    return VolumePlan(tuple(bindings.values()), tuple(made))


class _Binding(State):
    filters = True
    relents = True  # what pods are there does not matter
    reasons = REASONS

    def __init__(self, claims: Claims, snap: Snapshot, reach: Reach) -> None:
        search = Search(claims.bound, claims.waiting, snap, reach)
        self._codes = search.codes
        self.error = search.error

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        return self._codes[rows]


class VolumeBinding(Plugin):
    """It has a weight and never scores: upstream's score is off unless storage capacity scoring is switched on."""

    name = "VolumeBinding"
    weight = 1
    reads = "cluster"
    hears = frozenset(
        {
            "node",
            "StorageClass",
            "PersistentVolumeClaim",
            "PersistentVolume",
            "CSINode",
            "CSIDriver",
            "CSIStorageCapacity",
        }
    )
    hears_of_nodes = frozenset({"labels"})

    def __init__(self) -> None:
        self._reach = Reach()

    def key(self, pod: Pod) -> bool | None:
        return uses_claims(pod) or None

    def prepare(self, pod: Pod, snap: Snapshot) -> State | Rejected:
        claims = claims_of(pod, snap)
        return claims if isinstance(claims, Rejected) else _Binding(claims, snap, self._reach)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "node":
            return change.node_before is None or change.of_labels
        before, now = change.object_before, change.object
        match now:
            case Volume():
                return True
            case Claim():
                keys = (claim_key(pod, v) for v in pod.spec.volumes if v.kind in ("claim", "ephemeral"))
                return now.key in keys
            case StorageClass():
                return not isinstance(before, StorageClass) or before.allowed_topologies != now.allowed_topologies
            case CsiNode():
                return not isinstance(before, CsiNode) or before.migrated != now.migrated
            case StorageCapacity():
                return not isinstance(before, StorageCapacity) or _more(limit_b(before), limit_b(now))
            case CsiDriver() if isinstance(before, CsiDriver) and before.storage_capacity and not now.storage_capacity:
                return any(v.kind == "csi" and v.ref == now.name for v in pod.spec.volumes)
            case _:
                return False


def _more(before_b: int | None, now_b: int | None) -> bool:
    return now_b is not None and (before_b is None or now_b > before_b)
