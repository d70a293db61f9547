"""Which claims, disks and CSI volumes the pods on each node use, and how many more volumes a node takes.

Only pods with volumes, CSINodes, and the objects behind volumes cost anything here. What is attached to a node is worked out
again, when somebody asks, for the nodes on which something changed since.

Source of what counts: kube-scheduler v1.36.3 plugins/nodevolumelimits/csi.go.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from carbon_scheduler.core.in_tree import PROVISIONERS, NotTranslatable, inline_handle, migrated, volume_handle
from carbon_scheduler.core.model import NodeName
from carbon_scheduler.core.objects import Attachment, Claim, CsiNode, StorageClass, Volume
from carbon_scheduler.core.pod_volumes import BadVolume, NoClaim, claim_key, claim_missing, disks_of, not_owned, owned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod, PodUid, PodVolume
    from carbon_scheduler.core.objects import AnyObject, Objects

_K = TypeVar("_K")


class _Uses:
    """How many volumes on one node are a disk, by whether they only read it."""

    __slots__ = ("reading", "writing")

    def __init__(self) -> None:
        self.reading = self.writing = 0


class _Attached:
    """What is attached to a node that has limits: CSI volumes of its pods (name -> driver), and how many a driver."""

    __slots__ = ("counts", "limits", "problem", "volumes")

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = limits
        self.volumes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.problem = ""


class VolumeUse:
    """See the module's docstring. Changed by `charge`, `join`, `leave`, `grow` and `changed` alone."""

    def __init__(self, objects: Objects, slot_of: Mapping[NodeName, int], capacity: int) -> None:
        self._objects = objects
        self._slot_of = slot_of
        self._capacity = capacity
        self._name_of: dict[int, NodeName] = {}
        self._pods: dict[int, dict[PodUid, Pod]] = {}
        self._claims: Counter[str] = Counter()
        self._disks: dict[tuple[str, ...], dict[int, _Uses]] = {}
        self._users: dict[str, Counter[int]] = {}
        self._claims_of: dict[str, dict[str, None]] = {}
        self._attachments: dict[str, dict[str, Attachment]] = {}
        self._attached_to: dict[str, dict[str, str]] = {}
        self._stale: dict[int, None] = {}
        self._attached: dict[int, _Attached] = {}
        self._on: dict[str, dict[int, None]] = {}
        self._limits: dict[str, NDArray[np.int64]] = {}
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._migrated: dict[str, NDArray[np.bool_]] = {}
        self.has_csi_node: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        """bool (capacity,): whether a CSINode says which drivers the node has."""
        self.limited: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        """bool (capacity,): whether any driver has a limit there. Current after `refresh`."""

    # -- questions -------------------------------------------------------------------------------------------------

    def claim_used(self, key: str) -> bool:
        """Whether a pod on a node names the claim."""
        return key in self._claims

    def clashing(self, volume: PodVolume) -> list[int]:
        """The slots on which a pod has a volume that clashes with this one."""
        exclusive = volume.kind == "awsElasticBlockStore" or not volume.read_only
        return [
            slot
            for disk in disks_of(volume)
            for slot, uses in self._disks.get(disk, {}).items()
            if uses.writing or (exclusive and uses.reading)
        ]

    def refresh(self) -> int:
        """Brings what is attached up to date; returns how many nodes were looked at."""
        stale, self._stale = self._stale, {}
        for slot in stale:
            self._look(slot)
        return len(stale)

    def limit(self, driver: str) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """int64 (capacity,) twice: how many volumes of a driver a node takes (-1: no limit), and has. None when no node has a
        limit. After `refresh`."""
        found = self._limits.get(driver)
        return None if found is None else (found, self._counts[driver])

    def migrated(self, plugin: str) -> NDArray[np.bool_]:
        """bool (capacity,): the nodes that say of themselves that a CSI driver has taken over an in-tree plugin. After
        `refresh`."""
        found = self._migrated.get(plugin)
        return np.zeros(self._capacity, np.bool_) if found is None else found

    def slots_with(self, volume: str) -> list[int]:
        """The limited slots whose pods use a CSI volume (named as by `csi_volumes`). After `refresh`."""
        return list(self._on.get(volume, ()))

    def problems(self) -> dict[int, str]:
        """The limited slots with a pod of which a volume cannot be told, and why. After `refresh`. O(limited nodes)."""
        return {slot: found.problem for slot, found in self._attached.items() if found.problem}

    def csi_volumes(self, pod: Pod, *, pending: bool, migrating: bool) -> dict[str, str]:
        """The pod's CSI volumes, `driver/handle` -> driver. `migrating`: the node has a CSINode, so drivers stand for in-tree
        types. A volume yet to be made counts under a name of its own. Raises BadVolume; NoClaim for a pending pod.
        """
        found: dict[str, str] = {}
        for volume in pod.spec.volumes:
            if volume.kind not in ("claim", "ephemeral"):
                in_tree = migrated(volume.kind) if migrating else None
                if in_tree is not None:
                    try:
                        handle = inline_handle(volume)
                    except NotTranslatable as error:
                        raise BadVolume(f"pod {pod.key}: {error}") from error
                    found[f"{in_tree.driver}/{handle}"] = in_tree.driver
                continue
            key = claim_key(pod, volume)
            claim = self._objects.get(Claim, key)
            if claim is None:
                if pending:
                    raise NoClaim(f"looking up PVC {key}: {claim_missing(key.partition('/')[2])}")
                continue
            if volume.kind == "ephemeral" and not owned(claim, pod):
                raise BadVolume(not_owned(claim, pod))
            driver, handle = self._csi(claim, migrating=migrating)
            if driver and handle:
                found[f"{driver}/{handle}"] = driver
        return found

    def _csi(self, claim: Claim, *, migrating: bool) -> tuple[str, str]:
        """Driver and handle of a claim's volume, or of the one that its class would make; ("", "") when that is not known."""
        volume = self._objects.get(Volume, claim.volume_name) if claim.volume_name else None
        if volume is not None:
            if volume.source[:1] == ("csi",):
                return volume.source[1], volume.source[2]
            in_tree = migrated(volume.source[0]) if volume.source and migrating else None
            try:
                return (in_tree.driver, volume_handle(volume)) if in_tree is not None else ("", "")
            except NotTranslatable:
                return "", ""
        of_class = self._objects.get(StorageClass, claim.class_name) if claim.class_name else None
        if of_class is None:
            return "", ""
        driver = of_class.provisioner
        if (known := PROVISIONERS.get(driver)) is not None:
            if not (known.migrated and migrating):
                return "", ""
            driver = known.driver
        return driver, f"\0{claim.key}"

    # -- pods and nodes come and go --------------------------------------------------------------------------------

    def charge(self, slot: int, pod: Pod, sign: int) -> None:
        """A pod that has volumes came to a node (`sign` 1) or left it (-1). Cost: about 1 µs a volume."""
        pods = self._pods.setdefault(slot, {})
        if sign > 0:
            pods[pod.uid] = pod
        else:
            del pods[pod.uid]
            if not pods:
                del self._pods[slot]
        for volume in pod.spec.volumes:
            if volume.kind in ("claim", "ephemeral"):
                key = claim_key(pod, volume)
                _count(self._users.setdefault(key, Counter()), slot, sign)
                if not self._users[key]:
                    del self._users[key]
                if volume.kind == "claim":
                    _count(self._claims, key, sign)
                continue
            for disk in disks_of(volume):
                self._use(disk, slot, volume.read_only, sign)
        self._stale[slot] = None

    def _use(self, disk: tuple[str, ...], slot: int, read_only: bool, sign: int) -> None:
        by_slot = self._disks.setdefault(disk, {})
        uses = by_slot.setdefault(slot, _Uses())
        if read_only:
            uses.reading += sign
        else:
            uses.writing += sign
        if not (uses.reading or uses.writing):
            del by_slot[slot]
            if not by_slot:
                del self._disks[disk]

    def join(self, slot: int, name: NodeName) -> None:
        """A node came. Its pods are charged afterwards."""
        self._name_of[slot] = name
        self._stale[slot] = None

    def leave(self, slot: int) -> None:
        """A node went. Its pods were taken off before."""
        del self._name_of[slot]
        self._look(slot)
        self._stale.pop(slot, None)

    def grow(self, capacity: int) -> None:
        """Nodes may have slots up to `capacity` from now on."""
        more = capacity - self._capacity
        self.has_csi_node = np.concatenate([self.has_csi_node, np.zeros(more, np.bool_)])
        self.limited = np.concatenate([self.limited, np.zeros(more, np.bool_)])
        for plugin, nodes in self._migrated.items():
            self._migrated[plugin] = np.concatenate([nodes, np.zeros(more, np.bool_)])
        for driver in self._limits:
            self._limits[driver] = np.concatenate([self._limits[driver], np.full(more, -1, np.int64)])
            self._counts[driver] = np.concatenate([self._counts[driver], np.zeros(more, np.int64)])
        self._capacity = capacity

    # -- objects change --------------------------------------------------------------------------------------------

    def changed(self, before: AnyObject | None, now: AnyObject | None) -> None:
        """One of the objects was added, changed or dropped; `objects` has it already. Cost: O(nodes that use it)."""
        found = now or before
        match found:
            case Claim():
                for claim, sign in ((before, -1), (now, 1)):
                    if isinstance(claim, Claim) and claim.volume_name:
                        self._refer(claim, sign)
                self._stale_users(found.key)
            case Volume():
                for key in self._claims_of.get(found.name, ()):
                    self._stale_users(key)
                for node in self._attached_to.get(found.name, {}).values():
                    self._stale_node(node)
            case StorageClass():
                self._stale.update(dict.fromkeys(self._pods))
            case CsiNode():
                self._stale_node(found.name)
            case Attachment():
                for attachment, sign in ((before, -1), (now, 1)):
                    if isinstance(attachment, Attachment):
                        self._attach(attachment, sign)

    def _refer(self, claim: Claim, sign: int) -> None:
        of = self._claims_of.setdefault(claim.volume_name, {})
        if sign > 0:
            of[claim.key] = None
        else:
            del of[claim.key]
            if not of:
                del self._claims_of[claim.volume_name]

    def _attach(self, attachment: Attachment, sign: int) -> None:
        here = self._attachments.setdefault(attachment.node_name, {})
        of = self._attached_to.setdefault(attachment.volume_name, {})
        if sign > 0:
            here[attachment.name] = attachment
            of[attachment.name] = attachment.node_name
        else:
            del here[attachment.name], of[attachment.name]
            if not here:
                del self._attachments[attachment.node_name]
            if not of:
                del self._attached_to[attachment.volume_name]
        self._stale_node(attachment.node_name)

    def _stale_users(self, claim: str) -> None:
        self._stale.update(dict.fromkeys(self._users.get(claim, ())))

    def _stale_node(self, name: str) -> None:
        if (slot := self._slot_of.get(NodeName(name))) is not None:
            self._stale[slot] = None

    # -- what is attached ------------------------------------------------------------------------------------------

    def _look(self, slot: int) -> None:
        if (old := self._attached.pop(slot, None)) is not None:
            self._show(slot, old, -1)
        name = self._name_of.get(slot)
        csi_node = self._objects.get(CsiNode, name) if name is not None else None
        limits = {} if csi_node is None else {d: most for d, most in csi_node.limits.items() if most is not None}
        self.has_csi_node[slot] = csi_node is not None
        for nodes in self._migrated.values():
            nodes[slot] = False
        for plugin in csi_node.migrated if csi_node is not None else ():
            if plugin in PROVISIONERS:
                self._migrated.setdefault(plugin, np.zeros(self._capacity, np.bool_))[slot] = True
        self.limited[slot] = bool(limits)
        if limits and name is not None:
            self._attached[slot] = new = self._attach_all(slot, name, limits)
            self._show(slot, new, 1)

    def _attach_all(self, slot: int, name: NodeName, limits: dict[str, int]) -> _Attached:
        found = _Attached(limits)
        problems: list[str] = []
        for pod in self._pods.get(slot, {}).values():
            try:
                found.volumes.update(self.csi_volumes(pod, pending=False, migrating=True))
            except BadVolume as error:
                problems.append(str(error))
        found.problem = min(problems, default="")
        found.counts.update(found.volumes.values())
        attached: dict[str, str] = {}
        for attachment in self._attachments.get(name, {}).values():
            volume = self._objects.get(Volume, attachment.volume_name) if attachment.volume_name else None
            if attachment.attacher and volume is not None and volume.source[:1] == ("csi",):
                attached[f"{attachment.attacher}/{volume.source[2]}"] = attachment.attacher
        found.counts.update(driver for volume, driver in attached.items() if volume not in found.volumes)
        return found

    def _show(self, slot: int, attached: _Attached, sign: int) -> None:
        """Puts what is attached to a node into the arrays and the index, or takes it out."""
        for driver, most in attached.limits.items():
            if driver not in self._limits:
                self._limits[driver] = np.full(self._capacity, -1, np.int64)
                self._counts[driver] = np.zeros(self._capacity, np.int64)
            self._limits[driver][slot] = most if sign > 0 else -1
            self._counts[driver][slot] = attached.counts[driver] if sign > 0 else 0
        for volume in attached.volumes:
            on = self._on.setdefault(volume, {})
            if sign > 0:
                on[slot] = None
            else:
                del on[slot]
                if not on:
                    del self._on[volume]

    # -- checks ----------------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, object]:
        """Everything that is known of nodes, by their names: equal for equal clusters. For tests. O(all)."""
        self.refresh()
        name = self._name_of
        return {
            "claims": dict(self._claims),
            "users": {key: {name[s]: n for s, n in slots.items()} for key, slots in self._users.items()},
            "disks": {
                disk: {name[s]: (uses.reading, uses.writing) for s, uses in slots.items()}
                for disk, slots in self._disks.items()
            },
            "attached": {
                name[s]: (found.limits, found.volumes, dict(found.counts), found.problem)
                for s, found in self._attached.items()
            },
            "on": {volume: {name[s] for s in slots} for volume, slots in self._on.items()},
            "limits": {
                (driver, name[s]): (int(self._limits[driver][s]), int(self._counts[driver][s]))
                for driver in self._limits
                for s in name
                if self._limits[driver][s] >= 0
            },
            "csi": {name[s] for s in name if self.has_csi_node[s]},
            "migrated": {(plugin, name[s]) for plugin, nodes in self._migrated.items() for s in name if nodes[s]},
            "limited": {name[s] for s in name if self.limited[s]},
        }


def _count(counter: Counter[_K], key: _K, sign: int) -> None:
    counter[key] += sign
    if not counter[key]:
        del counter[key]
