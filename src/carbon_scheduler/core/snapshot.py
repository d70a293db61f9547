"""The nodes as arrays: one column a node, updated per event, never rebuilt.

A node keeps its slot while it lives; a free slot is used again. `alive` marks the used ones. Arrays have the length
`capacity`, which grows when it is full: no reference to an array may be kept across an `add`. Everything that filters and
scores read is here, so that "which nodes?" is vector arithmetic and "what changed since?" a list of slots.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from carbon_scheduler.core.basics import BasicsTable
from carbon_scheduler.core.changes import ChangeLog, changes_kept
from carbon_scheduler.core.images import Images
from carbon_scheduler.core.model import MAX_QUANTITY, Node, NodeName, Taint
from carbon_scheduler.core.objects import Objects
from carbon_scheduler.core.peers import Peers
from carbon_scheduler.core.ring import Ring, name_hash
from carbon_scheduler.core.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from carbon_scheduler.core.basics import Basics
    from carbon_scheduler.core.model import GridZone, Pod, Requests

_S = TypeVar("_S", bound=np.generic)

CPU: Final = 0
MEMORY: Final = 1
EPHEMERAL: Final = 2
FIXED: Final = ("cpu", "memory", "ephemeral-storage")
MAX_LABEL_COLUMNS: Final = 512
"""Label keys that selectors may have indexed at the same time; beyond that the oldest column is dropped and made anew."""

ANY_IP: Final = "0.0.0.0"


class LabelColumn:
    """The values of one label key over all nodes, as small integers. `ids` is int32 (capacity,), -1 where it is missing.

    `members[id]` is how many nodes have that value.
    """

    def __init__(self, capacity: int) -> None:
        self.ids: NDArray[np.int32] = np.full(capacity, -1, np.int32)
        self.values: dict[str, int] = {}
        self.members: list[int] = []

    def put(self, slot: int, value: str | None) -> None:
        was: int = self.ids.item(slot)
        now = -1 if value is None else self.values.setdefault(value, len(self.values))
        if was == now:
            return
        if now == len(self.members):
            self.members.append(0)
        if was >= 0:
            self.members[was] -= 1
        if now >= 0:
            self.members[now] += 1
        self.ids[slot] = now


class _Load:
    """Exact sums of what one node's pods take, in Python's integers: they cannot overflow."""

    __slots__ = ("cpu_m", "ephemeral_b", "memory_b", "pods", "scalars", "scoring_cpu_m", "scoring_memory_b")

    def __init__(self) -> None:
        self.pods = self.cpu_m = self.memory_b = self.ephemeral_b = self.scoring_cpu_m = self.scoring_memory_b = 0
        self.scalars: Counter[str] = Counter()


class Snapshot:
    """All nodes. `requested[r]` and `allocatable[r]` are int64 (resources, capacity); the first three rows are cpu
    (millicores), memory and ephemeral storage (bytes), then one a scalar resource that some node offers."""

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.alive: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.hash64: NDArray[np.uint64] = np.zeros(capacity, np.uint64)
        self.allocatable: NDArray[np.int64] = np.zeros((len(FIXED), capacity), np.int64)
        self.requested: NDArray[np.int64] = np.zeros((len(FIXED), capacity), np.int64)
        self.pod_count: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.max_pods: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.unschedulable: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.taint_class: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.grid_zone: NDArray[np.int32] = np.full(capacity, -1, np.int32)
        self.nodes: list[Node | None] = [None] * capacity
        self.slot_of: dict[NodeName, int] = {}
        self.resource_of: dict[str, int] = {name: row for row, name in enumerate(FIXED)}
        self.taint_classes: list[tuple[Taint, ...]] = [()]
        self.grid_zones: list[GridZone] = []
        self.ports: dict[tuple[str, int], dict[int, Counter[str]]] = {}
        """(protocol, port) -> slot -> how often each host IP takes it."""
        self.peers = Peers(capacity)
        """Pods on nodes by kind."""
        self.images = Images(capacity)
        self.objects = Objects()
        self.volumes = Volumes(self.objects, self.slot_of, capacity)
        """Look-ups over volumes and claims, assumed ones, and what pods on nodes use."""
        self.namespaces: dict[str, dict[str, str]] = {}
        """The labels of every namespace. Changed by `put_namespace` and `drop_namespace` alone."""
        self.namespaces_version = 0
        self.generation = 0
        """Changes when arrays were replaced or identifiers renumbered: what was computed before is void."""
        self.spec_log = ChangeLog(changes_kept(capacity))
        self.load_log = ChangeLog(changes_kept(capacity))
        """Changes of what a node is (labels, taints, allocatable, ...) and of what runs on it."""
        self._taint_ids: dict[tuple[Taint, ...], int] = {(): 0}
        self._grid_zone_ids: dict[GridZone, int] = {}
        self._loads: list[_Load] = [_Load() for _ in range(capacity)]
        self._columns: dict[str, LabelColumn] = {}
        self._free = list(range(capacity - 1, -1, -1))
        self._ring: Ring | None = None
        self._apart = False
        self._table = BasicsTable(capacity)

    def __len__(self) -> int:
        return len(self.slot_of)

    # -- nodes ---------------------------------------------------------------------------------------------------

    def put_node(self, node: Node, grid_zone: GridZone | None) -> int:
        """Adds or replaces a node and returns its slot. Its load stays. Cost: O(labels indexed + resources)."""
        slot = self.slot_of.get(node.name)
        if slot is None:
            if not self._free:
                self._grow()
            slot = self._free.pop()
            self.slot_of[node.name] = slot
            self.alive[slot] = True
            self.hash64[slot] = name_hash(node.name)
            self._ring = None
            self.volumes.use.join(slot, node.name)
        self._images(slot, node)
        self.nodes[slot] = node
        self.unschedulable[slot] = node.unschedulable
        self.max_pods[slot] = node.allocatable.get("pods", 0)
        for name in node.allocatable:
            if name != "pods":
                self.know_resource(name)
        for name, row in self.resource_of.items():
            self.allocatable[row, slot] = node.allocatable.get(name, 0)
        self._tabulate(slot)
        self.taint_class[slot] = self._taint_class(node.taints)
        self.grid_zone[slot] = -1 if grid_zone is None else self.grid_zone_id(grid_zone)
        for key, column in self._columns.items():
            column.put(slot, node.labels.get(key))
        self.spec_log.add(slot)
        return slot

    def drop_node(self, name: NodeName) -> None:
        """Frees the node's slot. The caller has taken its pods off first."""
        slot = self.slot_of.pop(name)
        self.volumes.use.leave(slot)
        self.alive[slot] = False
        self._images(slot, None)
        self.nodes[slot] = None
        self.allocatable[:, slot] = self.requested[:, slot] = 0
        self.pod_count[slot] = self.max_pods[slot] = 0
        self.unschedulable[slot] = False
        self.taint_class[slot] = 0
        self.grid_zone[slot] = -1
        self._loads[slot] = _Load()
        self._tabulate(slot)
        for column in self._columns.values():
            column.put(slot, None)
        self._free.append(slot)
        self.spec_log.add(slot)

    def grid_zone_id(self, grid_zone: GridZone) -> int:
        """A small integer for a grid zone, the same for ever."""
        if (known := self._grid_zone_ids.get(grid_zone)) is None:
            known = self._grid_zone_ids[grid_zone] = len(self.grid_zones)
            self.grid_zones.append(grid_zone)
        return known

    def label(self, key: str) -> LabelColumn:
        """The column of a label key, made on first use. Cost: O(nodes) the first time, O(1) afterwards."""
        column = self._columns.get(key)
        if column is None or len(column.values) > 4 * self.capacity + 1024:  # mostly values of nodes long gone
            if column is None and len(self._columns) >= MAX_LABEL_COLUMNS:
                del self._columns[next(iter(self._columns))]
            column = self._columns[key] = LabelColumn(self.capacity)
            for slot in self.slot_of.values():
                if node := self.nodes[slot]:
                    column.put(slot, node.labels.get(key))
        return column

    def put_namespace(self, name: str, labels: dict[str, str]) -> None:
        if self.namespaces.get(name) != labels:
            self.namespaces[name] = labels
            self.namespaces_version += 1

    def drop_namespace(self, name: str) -> None:
        if self.namespaces.pop(name, None) is not None:
            self.namespaces_version += 1

    @property
    def ring(self) -> Ring:
        """The order of ties between nodes. Cost: O(nodes log nodes) after nodes came or went."""
        if self._ring is None:
            self._ring = Ring(self.hash64)
        return self._ring

    def apart(self) -> Snapshot:
        """The nodes with sums of their own (`requested`, `pod_count`), which may be changed to see what would be. All else is
        shared and for reading. Cost: a copy of these arrays."""
        view = copy.copy(self)
        view.requested, view.pod_count = self.requested.copy(), self.pod_count.copy()
        view._apart = True
        return view

    def basics(self, rows: slice | NDArray[np.intp]) -> Basics:
        """Of some slots."""
        if not self._apart:
            return self._table.of(rows, self.spec_log.position + self.load_log.position)
        room = self.allocatable[:2, rows] - self.requested[:2, rows]
        return self._table.with_room(rows, room, self.max_pods[rows] - self.pod_count[rows])

    def _tabulate(self, slot: int) -> None:
        """After a change of what a node offers or of what its pods take."""
        load = self._loads[slot]
        self._table.put(
            slot,
            (self.allocatable.item(CPU, slot), self.allocatable.item(MEMORY, slot)),
            self.requested.item(CPU, slot),
            self.requested.item(MEMORY, slot),
            (min(load.scoring_cpu_m, MAX_QUANTITY), min(load.scoring_memory_b, MAX_QUANTITY)),
            self.max_pods.item(slot) - load.pods,
        )

    @property
    def lopsided(self) -> int:
        """How many nodes offer cpu without memory, or memory without cpu."""
        return self._table.lopsided

    # -- load ----------------------------------------------------------------------------------------------------

    def charge(self, slot: int, pod: Pod, sign: int) -> None:
        """Puts a pod on a node (`sign` 1) or takes it off (-1), all that it takes there. Cost: a few µs."""
        requests = pod.takes
        load = self._loads[slot]
        load.pods += sign
        load.cpu_m += sign * requests.cpu_m
        load.memory_b += sign * requests.memory_b
        load.ephemeral_b += sign * requests.ephemeral_storage_b
        load.scoring_cpu_m += sign * requests.scoring_cpu_m
        load.scoring_memory_b += sign * requests.scoring_memory_b
        for name, amount in requests.scalars:
            load.scalars[name] += sign * amount
            if not load.scalars[name]:
                del load.scalars[name]
            if (row := self.resource_of.get(name)) is not None:
                self.requested[row, slot] = min(load.scalars[name], MAX_QUANTITY)
        self.pod_count[slot] = load.pods
        self.requested[CPU, slot] = min(load.cpu_m, MAX_QUANTITY)
        self.requested[MEMORY, slot] = min(load.memory_b, MAX_QUANTITY)
        self.requested[EPHEMERAL, slot] = min(load.ephemeral_b, MAX_QUANTITY)
        self._tabulate(slot)
        for port in pod.spec.host_ports:
            by_slot = self.ports.setdefault((port.protocol, port.port), {})
            ips = by_slot.setdefault(slot, Counter())
            ips[port.ip] += sign
            if not ips[port.ip]:
                del ips[port.ip]
            if not ips:
                del by_slot[slot]
            if not by_slot:
                del self.ports[port.protocol, port.port]
        if pod.spec.volumes:
            self.volumes.charge(slot, pod, sign)
        if sign > 0:
            self.peers.add(pod.spec, pod.terminating, slot)
        else:
            self.peers.remove(pod.spec, pod.terminating, slot)
        self.load_log.add(slot)

    def renew_images(self, slot: int) -> None:
        """A node was reported once more and nothing has changed: upstream's cache takes the sizes of its images again."""
        self._images(slot, self.nodes[slot])

    # -- inside --------------------------------------------------------------------------------------------------

    def _images(self, slot: int, now: Node | None) -> None:
        before = self.nodes[slot]
        was, shall = (() if node is None else node.images for node in (before, now))
        if was or shall:
            self.images.move(slot, was, shall)

    def _taint_class(self, taints: tuple[Taint, ...]) -> int:
        if (known := self._taint_ids.get(taints)) is None:
            if len(self.taint_classes) > 4 * self.capacity + 1024:  # autoscalers write the time into taints
                self._renumber_taints()
            known = self._taint_ids[taints] = len(self.taint_classes)
            self.taint_classes.append(taints)
        return known

    def _renumber_taints(self) -> None:
        self.taint_classes = [()]
        self._taint_ids = {(): 0}
        for slot in self.slot_of.values():
            if node := self.nodes[slot]:
                self.taint_class[slot] = self._taint_ids.setdefault(node.taints, len(self._taint_ids))
        self.taint_classes = list(self._taint_ids)
        self.generation += 1

    def amounts(self, requests: Requests) -> Iterator[tuple[int, int]]:
        """(row of `requested`, amount) of what some node offers; a row that is not named is 0."""
        yield from enumerate((requests.cpu_m, requests.memory_b, requests.ephemeral_storage_b))
        for name, amount in requests.scalars:
            if (row := self.resource_of.get(name)) is not None:
                yield row, amount

    def know_resource(self, name: str) -> None:
        """Gives a resource its row, if it has none yet."""
        if name in self.resource_of:
            return
        row = self.resource_of[name] = len(self.allocatable)
        empty = np.zeros((1, self.capacity), np.int64)
        self.allocatable = np.concatenate([self.allocatable, empty])
        self.requested = np.concatenate([self.requested, empty])
        for slot, load in enumerate(self._loads):
            self.requested[row, slot] = min(load.scalars.get(name, 0), MAX_QUANTITY)

    def _grow(self) -> None:
        more = self.capacity if self.capacity < 1024 else self.capacity // 8  # what is free costs time in every attempt
        self.alive = _longer(self.alive, more)
        self.hash64 = _longer(self.hash64, more)
        self.allocatable = _longer(self.allocatable, more)
        self.requested = _longer(self.requested, more)
        self.pod_count = _longer(self.pod_count, more)
        self.max_pods = _longer(self.max_pods, more)
        self.unschedulable = _longer(self.unschedulable, more)
        self.taint_class = _longer(self.taint_class, more)
        self.grid_zone = _longer(self.grid_zone, more, -1)
        for column in self._columns.values():
            column.ids = _longer(column.ids, more, -1)
        self.nodes += [None] * more
        self._loads += [_Load() for _ in range(more)]
        self._table.grow(more)
        self._free = list(range(self.capacity + more - 1, self.capacity - 1, -1))
        self.capacity += more
        self.spec_log.keep = self.load_log.keep = changes_kept(self.capacity)
        self.peers.grow(self.capacity)
        self._ring = None
        self.images.grow(self.capacity)
        self.volumes.use.grow(self.capacity)
        self.generation += 1


def _longer(old: NDArray[_S], more: int, fill: int = 0) -> NDArray[_S]:
    return np.concatenate([old, np.full((*old.shape[:-1], more), fill, old.dtype)], axis=-1)
