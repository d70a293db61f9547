"""Runs the plugins of a profile for one pod.

Pods that every plugin sees alike share what was worked out for them (`shapes`); what is said of the pod is a `verdict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from carbon_scheduler.core.plugin import Rejected
from carbon_scheduler.core.shapes import Load, Once, Row, Shape
from carbon_scheduler.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from carbon_scheduler.core.model import Pod, PodSpec
    from carbon_scheduler.core.plugin import Change, Plugin
    from carbon_scheduler.core.snapshot import Snapshot

MAX_SHAPES: Final = 256
"""Shapes, and rows, whose arrays are kept; the least recently used goes first. At 5,000 nodes a shape takes 50 KB."""
MAX_SPECS: Final = 8192
"""Pod specs whose shape is remembered."""


class _Known(NamedTuple):
    """Of a spec, which is held so that its id stays its own: the number of its shape, and the plugins that have to be asked in
    each attempt."""

    spec: PodSpec
    number: int
    asked: tuple[tuple[int, Plugin], ...]


class Framework:
    """The plugins of one profile and their arrays over one snapshot."""

    def __init__(self, plugins: Sequence[Plugin], snap: Snapshot) -> None:
        self.plugins = tuple(plugins)
        self._by_name = {plugin.name: plugin for plugin in plugins}
        self._kept = tuple((number, p) for number, p in enumerate(self.plugins) if p.reads != "cluster")
        self._asked = tuple((number, p) for number, p in enumerate(self.plugins) if p.reads == "cluster")
        self._snap = snap
        self._generation = snap.generation
        self._rows: dict[tuple[int, Hashable], Row] = {}
        self._shapes: dict[int, Shape] = {}
        self._keys: dict[tuple[Hashable, ...], int] = {}
        self._specs: dict[int, _Known] = {}
        self.judged = 0
        """Slots judged so far, over all plugins: counted work."""

    def judge(self, pod: Pod) -> Verdict:
        """Filters all nodes for a pod. Cost: judging what changed, and O(nodes) for each plugin that reads the cluster."""
        snap = self._snap
        known = self._known(pod)
        shape = self._shape(pod, known.number)
        stop = len(self.plugins) if shape.rejected is None else shape.rejected[0]
        if shape.rejected is None:
            self.judged += shape.refresh(snap)
        once: dict[int, Once] = {}
        for number, plugin in known.asked:
            if number > stop:
                break
            made = plugin.prepare(pod, snap)
            if isinstance(made, Rejected):
                return Verdict(snap, self.plugins, shape, {}, (plugin, made))
            once[number] = Once(made)
        if shape.rejected is not None:
            return Verdict(snap, self.plugins, shape, {}, (self.plugins[stop], shape.rejected[1]))
        return Verdict(snap, self.plugins, shape, once)

    def wakes(self, pod: Pod, rejecting: Sequence[str], change: Change) -> bool:
        """Whether a change may make room for a pod that these plugins rejected."""
        topic, of_taints = change.topic, change.of_taints
        for plugin in map(self._by_name.__getitem__, rejecting):
            if plugin.hears is not None and topic not in plugin.hears:
                continue
            if (of_taints and plugin.wakes_on_taints) or plugin.wakes(pod, change, self._snap):
                return True
        return False

    # -- shapes --------------------------------------------------------------------------------------------------

    def _shape(self, pod: Pod, number: int) -> Shape:
        if self._generation != self._snap.generation:
            self._rows.clear()
            self._shapes.clear()
            self._generation = self._snap.generation
        shape = self._shapes.pop(number, None)
        if shape is None:
            shape = self._new_shape(pod)
            if len(self._shapes) >= MAX_SHAPES:
                del self._shapes[next(iter(self._shapes))]
        self._shapes[number] = shape
        return shape

    def _known(self, pod: Pod) -> _Known:
        """What follows from the pod's spec alone, and from the node that it names. Cost: a look-up, unless it names one."""
        if pod.node_name is None and (known := self._specs.get(id(pod.spec))) is not None:
            return known
        if len(self._keys) >= MAX_SPECS or len(self._specs) >= MAX_SPECS:
            self._keys.clear()
            self._specs.clear()
            self._shapes.clear()
        key = tuple(plugin.key(pod) for _, plugin in self._kept)
        number = self._keys.setdefault(key, len(self._keys))
        known = _Known(pod.spec, number, tuple((n, plugin) for n, plugin in self._asked if plugin.key(pod) is not None))
        if pod.node_name is None:
            self._specs[id(pod.spec)] = known
        return known

    def _new_shape(self, pod: Pod) -> Shape:
        shape = Shape(self._snap)
        for number, plugin in self._kept:
            key = plugin.key(pod)
            if key is None:
                continue
            row = self._rows.pop((number, key), None) if plugin.reads == "node" else None
            if row is None:
                made = plugin.prepare(pod, self._snap)
                if isinstance(made, Rejected):
                    shape.rejected = (number, made)
                    break
                if plugin.reads == "load":
                    shape.add(number, plugin, Load(made))
                    continue
                row = Row(made, self._snap)
                if len(self._rows) >= MAX_SHAPES:
                    del self._rows[next(iter(self._rows))]
            self._rows[number, key] = row
            shape.add(number, plugin, row)
        return shape
