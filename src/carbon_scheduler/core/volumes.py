"""PersistentVolumes and claims: who refers to whom, what is about to be bound, and which node holds what.

A pod's volumes are decided in three steps. The filter asks on which nodes its claims could be met; a `VolumePlan` says how they
are met on the chosen node; `Volumes.assume` makes that known to the pods that come next, before anything is written. An assumed
object ends when a newer one comes by the watch, as upstream's does (v1.36.3 plugins/volumebinding/passive_assume_cache.go).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, TypeVar

import msgspec

from carbon_scheduler.core.model import Struct
from carbon_scheduler.core.objects import Claim, ClaimRef, StorageCapacity, Volume
from carbon_scheduler.core.volume_use import VolumeUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carbon_scheduler.core.model import NodeName, NodeSelectorTerm, Pod, PodUid
    from carbon_scheduler.core.objects import AnyObject, Objects

    Terms = tuple[NodeSelectorTerm, ...] | None

_T = TypeVar("_T")


class StaticBinding(Struct, frozen=True):
    """A PersistentVolume that exists, to be given to a claim: its claimRef is to name the claim, with its uid.

    Both as they were when planned, so that their `resource_version` guards the write. `found`: the scheduler found this match,
    so the write also sets the annotation pv.kubernetes.io/bound-by-controller to "yes"; otherwise somebody else had already
    reserved the volume for the claim. `done`: the claimRef is already complete, and there is nothing to write.
    """

    volume: Volume
    claim: Claim
    found: bool
    done: bool


class VolumePlan(Struct, frozen=True):
    """How a pod's claims are to be met on one node.

    `bindings`: volumes that exist. `provisions`: claims whose annotation volume.kubernetes.io/selected-node is to name the
    node, so that a provisioner makes their volumes; as they were when planned. Both empty: every claim is bound.
    """

    bindings: tuple[StaticBinding, ...] = ()
    provisions: tuple[Claim, ...] = ()

    @property
    def nothing_to_do(self) -> bool:
        return not (self.bindings or self.provisions)


def bound_to(volume: Volume, claim: Claim) -> bool:
    """Whether a volume names a claim, by uid if it has one (IsVolumeBoundToClaim): bound to it, or reserved for it."""
    ref = volume.claim_ref
    if ref is None or (ref.namespace, ref.name) != (claim.namespace, claim.name):
        return False
    return not ref.uid or ref.uid == claim.uid


class Volumes:
    """Look-ups over the volumes and claims of `objects`, kept up to date by `changed`. Costs are O(1) where not said otherwise.

    `volume`, `claim` and `reserved` show what is assumed; `objects` shows what the API server has.
    """

    def __init__(self, objects: Objects, slot_of: Mapping[NodeName, int], capacity: int) -> None:
        self.use = VolumeUse(objects, slot_of, capacity)
        self._objects = objects
        self._free: dict[str, dict[Terms, list[Volume]]] = {}
        self._reserved: dict[str, dict[str, None]] = {}
        self._capacities: dict[str, dict[str, StorageCapacity]] = {}
        self._assumed: dict[tuple[type[Volume | Claim], str], Volume | Claim] = {}
        self._holders: dict[tuple[type[Volume | Claim], str], dict[PodUid, None]] = {}

    # -- look-ups --------------------------------------------------------------------------------------------------

    def volume(self, name: str) -> Volume | None:
        """A PersistentVolume, as assumed."""
        found = self._objects.get(Volume, name)
        assumed = self._assumed.get((Volume, name))
        return assumed if found is not None and isinstance(assumed, Volume) else found

    def claim(self, key: str) -> Claim | None:
        """A PersistentVolumeClaim by `namespace/name`, as assumed."""
        found = self._objects.get(Claim, key)
        assumed = self._assumed.get((Claim, key))
        return assumed if found is not None and isinstance(assumed, Claim) else found

    def free(self, class_name: str) -> Mapping[Terms, Sequence[Volume]]:
        """The volumes of a class ("": of none) that the API server shows as available to any claim, by their node affinity, the
        smallest first, then by name. Some may be `assumed`."""
        return self._free.get(class_name, {})

    def reserved(self, claim: Claim) -> list[Volume]:
        """The volumes of the claim's class that name the claim (`bound_to`), as assumed, by name. O(assumed)."""
        names = set(self._reserved.get(claim.key, ()))
        names.update(
            found.name for found in self._assumed.values() if isinstance(found, Volume) and bound_to(found, claim)
        )
        there = (found for name in sorted(names) if (found := self.volume(name)) is not None)
        return [found for found in there if found.class_name == (claim.class_name or "") and bound_to(found, claim)]

    def is_assumed(self, name: str) -> bool:
        """Whether a PersistentVolume is about to be bound."""
        return (Volume, name) in self._assumed

    def capacities(self, class_name: str) -> Iterator[StorageCapacity]:
        """What the provisioners of a class say they have room for."""
        return iter(self._capacities.get(class_name, {}).values())

    # -- assumed ---------------------------------------------------------------------------------------------------

    def assume(self, plan: VolumePlan, pod: PodUid, node: NodeName) -> bool:
        """Makes a plan known before it is written: no other pod is given its volumes, nor another node chosen for its claims.

        False, and nothing is assumed, when an object of the plan has changed since it was made. The pod holds what it assumed
        until `forget`, or until newer objects come.
        """
        made: list[Volume | Claim] = [
            msgspec.structs.replace(b.volume, claim_ref=ClaimRef(b.claim.namespace, b.claim.name, b.claim.uid))
            for b in plan.bindings
        ]
        made += [msgspec.structs.replace(claim, selected_node=node) for claim in plan.provisions]
        for new in made:
            stored = self._objects.get(type(new), new.key)
            if stored is None or stored.resource_version != new.resource_version:
                return False
        for new in made:
            key = (type(new), new.key)
            self._assumed[key] = new
            self._holders.setdefault(key, {})[pod] = None
        return True

    def forget(self, plan: VolumePlan, pod: PodUid) -> None:
        """Takes back what the pod assumed by a plan, where no other pod relies on it and nothing newer has come. Twice does no
        harm. For volumes and claims that were certainly not written; one that was is shown by the watch."""
        planned: list[Volume | Claim] = [*(binding.volume for binding in plan.bindings), *plan.provisions]
        for old in planned:
            key = (type(old), old.key)
            held = self._holders.get(key)
            if held is None or self._assumed[key].resource_version != old.resource_version:
                continue
            held.pop(pod, None)
            if not held:
                del self._holders[key], self._assumed[key]

    @property
    def assumed(self) -> Mapping[tuple[type[Volume | Claim], str], Volume | Claim]:
        """Everything that is assumed, by class and key."""
        return self._assumed

    # -- what changed ----------------------------------------------------------------------------------------------

    def charge(self, slot: int, pod: Pod, sign: int) -> None:
        """A pod that has volumes came to a node (`sign` 1) or left it (-1)."""
        self.use.charge(slot, pod, sign)

    def changed(self, before: AnyObject | None, now: AnyObject | None) -> None:
        """One of the objects was added, changed or dropped; `objects` has it already."""
        self.use.changed(before, now)
        if isinstance(before, Volume):
            self._index(before, -1)
        elif isinstance(before, StorageCapacity):
            _remove(self._capacities, before.class_name, before.key)
        if isinstance(now, Volume):
            self._index(now, 1)
        elif isinstance(now, StorageCapacity):
            self._capacities.setdefault(now.class_name, {})[now.key] = now
        found = now or before
        if isinstance(found, (Volume, Claim)):
            key = (type(found), found.key)
            assumed = self._assumed.get(key)
            if assumed is not None and (now is None or assumed.resource_version != found.resource_version):
                del self._assumed[key], self._holders[key]

    def _index(self, volume: Volume, sign: int) -> None:
        if (ref := volume.claim_ref) is not None:
            key = f"{ref.namespace}/{ref.name}"
            if sign > 0:
                self._reserved.setdefault(key, {})[volume.name] = None
            else:
                _remove(self._reserved, key, volume.name)
        elif volume.phase == "Available" and not volume.terminating:
            of_class = self._free.setdefault(volume.class_name, {})
            group = of_class.setdefault(volume.node_affinity, [])
            at = bisect_left(group, _by_size(volume), key=_by_size)
            if sign > 0:
                group.insert(at, volume)
                return
            del group[at]
            if not group:
                del of_class[volume.node_affinity]
            if not of_class:
                del self._free[volume.class_name]

    def shown(self) -> dict[str, object]:
        """Everything but what is assumed: equal for equal clusters. For tests. O(all)."""
        return {
            **self.use.shown(),
            "free": self._free,
            "reserved": self._reserved,
            "capacities": self._capacities,
        }


def _by_size(volume: Volume) -> tuple[int, str]:
    return volume.capacity_b, volume.name


def _remove(index: dict[str, dict[str, _T]], name: str, key: str) -> None:
    del index[name][key]
    if not index[name]:
        del index[name]
