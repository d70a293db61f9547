"""The search for volumes: for every node at once, how each claim of a pod could be met there, and why not.

Source: kube-scheduler v1.36.3 plugins/volumebinding/binder.go (FindPodVolumes and what it calls), component-helpers v0.36.3
storage/volume/pv_helpers.go (FindMatchingVolume).
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.in_tree import NotTranslatable, migrated, translated_affinity
from carbon_scheduler.core.objects import CsiDriver, StorageClass
from carbon_scheduler.core.plugin import ERROR_BIT, UNRESOLVABLE_BIT
from carbon_scheduler.core.selectors import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from carbon_scheduler.core.objects import Claim, StorageCapacity, Volume
    from carbon_scheduler.core.plugins.reach import Reach
    from carbon_scheduler.core.snapshot import Snapshot

REASONS: Final = (
    "node(s) didn't match PersistentVolume's node affinity",
    "node(s) didn't find available persistent volumes to bind",
    "node(s) did not have enough free storage",
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
)
_AFFINITY, _NO_VOLUME, _NO_SPACE, _LOST = (UNRESOLVABLE_BIT | np.uint64(1 << bit) for bit in range(len(REASONS)))

NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"


class Search:
    """`codes` is uint64 (capacity,): bits of `REASONS`, or ERROR_BIT where `error` says why the node cannot be judged.

    Claims are told apart by their place, not their name: upstream looks for a volume each time that a pod names a claim.
    Cost: O(volumes of the classes concerned + nodes), for volumes of one node each about 2 µs a volume.
    """

    def __init__(self, bound: tuple[Claim, ...], waiting: tuple[Claim, ...], snap: Snapshot, reach: Reach) -> None:
        self.codes: NDArray[np.uint64] = np.zeros(snap.capacity, np.uint64)
        self.error = ""
        self._snap = snap
        self._reach = reach
        self._volumes: list[Volume] = []
        self._matches: list[tuple[Claim, NDArray[np.int64]]] = []
        self._selected = tuple(claim for claim in waiting if claim.selected_node is not None)
        left = np.zeros(snap.capacity, np.bool_)
        left[reach.affinity(None, snap)] = True
        if bound:
            left &= ~self._check_bound(bound, left)
        if waiting:
            self._find(waiting, left)

    def chosen(self, slot: int) -> Iterator[tuple[Claim, Volume | None]]:
        """How each claim that waits is met on a feasible node: by a volume that exists, or None: by one yet to be made."""
        for claim in self._selected:
            yield claim, None
        for claim, match in self._matches:
            yield claim, self._volumes[match[slot]] if match[slot] >= 0 else None

    # -- bound claims ----------------------------------------------------------------------------------------------

    def _check_bound(self, claims: tuple[Claim, ...], asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Each node stops at the first claim that it cannot serve. Returns the nodes that cannot be judged."""
        left = asked.copy()
        failed = np.zeros_like(left)
        for claim in claims:
            volume = self._snap.volumes.volume(claim.volume_name)
            if volume is None:
                self.codes[left] |= _LOST
                break
            fits, broken = self._serves(volume)
            broken &= left
            self.codes[broken] = ERROR_BIT
            failed |= broken
            self.codes[left & ~fits & ~broken] |= _AFFINITY
            left &= fits & ~broken
        return failed

    def _serves(self, volume: Volume) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """bool (capacity,) twice: the nodes that a bound volume allows, and those where that cannot be told."""
        fits = self._mask(self._reach.affinity(volume.node_affinity, self._snap))
        broken = np.zeros_like(fits)
        in_tree = migrated(volume.source[0]) if volume.source else None
        if in_tree is None:
            return fits, broken
        self._snap.volumes.use.refresh()
        there = self._snap.volumes.use.migrated(in_tree.plugin)
        if there.any():
            try:
                translated = self._reach.affinity(translated_affinity(volume), self._snap)
            except NotTranslatable as error:
                self.error = f"could not translate PersistentVolume {volume.name}: {error}"
                broken |= there
            else:
                fits = np.where(there, self._mask(translated), fits)
        return fits, broken

    # -- claims that wait ------------------------------------------------------------------------------------------

    def _find(self, waiting: tuple[Claim, ...], left: NDArray[np.bool_]) -> None:
        for claim in self._selected:
            others = left.copy()
            if claim.selected_node in self._snap.slot_of:
                others[self._snap.slot_of[claim.selected_node]] = False
            self.codes[others] |= _NO_VOLUME
            left = left & ~others
        rest = sorted((claim for claim in waiting if claim.selected_node is None), key=lambda claim: claim.request_b)
        numbers: dict[str, int] = {}
        for claim in rest:
            self._matches.append((claim, self._match(claim, left, numbers)))
        for claim in self._selected:
            left = self._provision(claim, left, left)
        for claim, match in self._matches:
            left = self._provision(claim, left, match < 0)

    def _match(self, claim: Claim, left: NDArray[np.bool_], numbers: dict[str, int]) -> NDArray[np.int64]:
        """int64 (capacity,): the number of the volume that a claim takes on each node, -1 without one.

        A volume reserved for the claim comes first, whatever its class allows else; where that one does not fit, no other does.
        """
        match = np.full(len(left), -1, np.int64)
        open_here = left.copy()
        for volume in self._snap.volumes.reserved(claim):
            if _large_enough(volume, claim):
                number = self._number(volume, numbers)
                here = open_here & ~self._taken(number)
                fits = self._mask(self._reach.affinity(volume.node_affinity, self._snap))
                match[here & fits] = number
                open_here &= ~here
        remaining = int(np.count_nonzero(open_here))
        for volume, slots in self._candidates(claim, open_here) if remaining else ():
            number = self._number(volume, numbers)
            slots = slots[open_here[slots]]
            for _, other in self._matches:
                slots = slots[other[slots] != number]
            match[slots] = number
            open_here[slots] = False
            remaining -= len(slots)
            if not remaining:
                break
        return match

    def _candidates(self, claim: Claim, open_here: NDArray[np.bool_]) -> list[tuple[Volume, NDArray[np.intp]]]:
        """Free volumes that suit a claim, and the nodes that reach them: the smallest first, then by name.

        Of those with one affinity as many as there are claims served so far, and one: more cannot be needed on any node.
        """
        found: list[tuple[int, str, Volume, NDArray[np.intp]]] = []
        is_assumed = self._snap.volumes.is_assumed
        most = len(self._matches) + 1
        for affinity, volumes in self._snap.volumes.free(claim.class_name or "").items():
            slots = self._reach.affinity(affinity, self._snap)
            if not len(slots):
                continue
            first = bisect_left(volumes, claim.request_b, key=_capacity)
            suitable = (v for v in volumes[first:] if _suits(v, claim) and not is_assumed(v.name))
            found += ((volume.capacity_b, volume.name, volume, slots) for volume in islice(suitable, most))
        found.sort(key=_by_size)
        return [(volume, slots) for _, _, volume, slots in found]

    def _number(self, volume: Volume, numbers: dict[str, int]) -> int:
        number = numbers.setdefault(volume.name, len(numbers))
        if number == len(self._volumes):
            self._volumes.append(volume)
        return number

    def _taken(self, number: int) -> NDArray[np.bool_]:
        taken = np.zeros(len(self.codes), np.bool_)
        for _, other in self._matches:
            taken |= other == number
        return taken

    def _provision(self, claim: Claim, left: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where a volume for the claim has to be made: whether it can be. Returns the nodes still in the running."""
        todo = left & wanted
        if not todo.any():
            return left
        of_class = self._snap.objects.get(StorageClass, claim.class_name or "")
        assert of_class is not None  # or the claim would not wait
        can = np.zeros_like(todo)
        if of_class.provisioner not in ("", NO_PROVISIONER):
            can[self._reach.topologies(of_class.allowed_topologies, self._snap)] = True
        self.codes[todo & ~can] |= _NO_VOLUME
        room = self._room(claim, of_class)
        self.codes[todo & can & ~room] |= _NO_SPACE
        return left & ~(todo & ~(can & room))

    def _room(self, claim: Claim, of_class: StorageClass) -> NDArray[np.bool_]:
        """bool (capacity,): where the class's driver has room, as far as it says so. Each claim is looked at alone."""
        driver = self._snap.objects.get(CsiDriver, of_class.provisioner)
        if not claim.request_b or driver is None or not driver.storage_capacity:
            return np.ones(len(self.codes), np.bool_)
        room = np.zeros(len(self.codes), np.bool_)
        for capacity in self._snap.volumes.capacities(of_class.name):
            most = limit_b(capacity)
            if most is not None and most >= claim.request_b:
                room[self._reach.selector(capacity.topology, self._snap)] = True
        return room

    def _mask(self, slots: NDArray[np.intp]) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.codes), np.bool_)
        mask[slots] = True
        return mask


def limit_b(capacity: StorageCapacity) -> int | None:
    """How large a volume may be: what the driver says of one volume, else of all; bytes."""
    return capacity.capacity_b if capacity.maximum_volume_b is None else capacity.maximum_volume_b


def _large_enough(volume: Volume, claim: Claim) -> bool:
    """What also a volume that is reserved for the claim has to be."""
    return volume.capacity_b >= claim.request_b and not volume.terminating and _alike(volume, claim)


def _alike(volume: Volume, claim: Claim) -> bool:
    return volume.volume_mode == claim.volume_mode and (volume.attributes_class or "") == (claim.attributes_class or "")


def _suits(volume: Volume, claim: Claim) -> bool:
    """What else a free volume that is large enough has to be."""
    return (
        _alike(volume, claim)
        and (claim.access_modes == volume.access_modes or set(claim.access_modes) <= set(volume.access_modes))
        and (claim.selector == "none" or matches(claim.selector, volume.labels))
    )


def _capacity(volume: Volume) -> int:
    return volume.capacity_b


def _by_size(candidate: tuple[int, str, Volume, NDArray[np.intp]]) -> tuple[int, str]:
    return candidate[0], candidate[1]
