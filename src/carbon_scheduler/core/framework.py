"""Runs the plugins of a profile for one pod.

Pods that every plugin sees alike share what was worked out for them (`shapes`); what is said of the pod is a `verdict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
        self._specs: dict[int, tuple[PodSpec, int]] = {}
        self.judged = 0
        """Slots judged so far, over all plugins: counted work."""

    def judge(self, pod: Pod) -> Verdict:
        """Filters all nodes for a pod. Cost: judging what changed, and O(nodes) for each plugin that reads the cluster."""
        snap = self._snap
        shape = self._shape(pod)
        stop = len(self.plugins) if shape.rejected is None else shape.rejected[0]
        if shape.rejected is None:
            self.judged += shape.refresh(snap)
        once: dict[int, Once] = {}
        for number, plugin in self._asked:
            if number > stop:
                break
            if plugin.key(pod) is None:
                continue
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

    def _shape(self, pod: Pod) -> Shape:
        if self._generation != self._snap.generation:
            self._rows.clear()
            self._shapes.clear()
            self._generation = self._snap.generation
        known = self._specs.get(id(pod.spec)) if pod.node_name is None else None
        number = self._number(pod) if known is None else known[1]
        shape = self._shapes.pop(number, None)
        if shape is None:
            shape = self._new_shape(pod)
            if len(self._shapes) >= MAX_SHAPES:
                del self._shapes[next(iter(self._shapes))]
        self._shapes[number] = shape
        return shape

    def _number(self, pod: Pod) -> int:
        """The number of the pod's shape. The spec is held, so that its id stays its own."""
        if len(self._keys) >= MAX_SPECS or len(self._specs) >= MAX_SPECS:
            self._keys.clear()
            self._specs.clear()
            self._shapes.clear()
        key = tuple(plugin.key(pod) for _, plugin in self._kept)
        number = self._keys.setdefault(key, len(self._keys))
        if pod.node_name is None:
            self._specs[id(pod.spec)] = (pod.spec, number)
        return number

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
