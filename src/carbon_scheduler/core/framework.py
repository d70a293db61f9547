"""Runs the plugins of a profile for one pod: which nodes are feasible, why not the others, and upstream's score.

Every plugin's answer for every node is kept as an array and brought up to date only where nodes changed since. Pods of one
shape, and pods that merely agree in what one plugin reads, share those arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.plugin import ALL, UNRESOLVABLE, UNRESOLVABLE_BIT, UNSCHEDULABLE, Rejected

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Change, Code, Plugin, Rows, State
    from carbon_scheduler.core.snapshot import Snapshot

MAX_ROWS: Final = 256
"""Arrays kept, over all plugins and shapes; the least recently used goes first. At 5,000 nodes one takes 85 KB."""

NARROWED: Final = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
NO_NODES: Final = "no nodes available to schedule pods"


class _Row:
    """One state's answers for all slots, and up to which changes they are current."""

    __slots__ = ("_load_at", "_raw", "_reads_load", "_spec_at", "codes", "fits", "state")

    def __init__(self, state: State, snap: Snapshot, *, reads_load: bool) -> None:
        self.state = state
        self.codes: NDArray[np.uint64] = np.zeros(snap.capacity, np.uint64)
        self.fits: NDArray[np.bool_] = np.ones(snap.capacity, np.bool_)
        self._raw: NDArray[np.int64] = np.zeros(snap.capacity, np.int64)
        self._reads_load = reads_load
        self._spec_at = self._load_at = -1

    def refresh(self, snap: Snapshot) -> int:
        """Brings the arrays up to date and returns how many slots were judged again. Cost: O(changed)."""
        changed = snap.spec_log.since(self._spec_at) if self._spec_at >= 0 else None
        if changed is not None and self._reads_load:
            loads = snap.load_log.since(self._load_at)
            changed = None if loads is None else list(dict.fromkeys(changed + loads)) if changed else loads
        self._spec_at, self._load_at = snap.spec_log.position, snap.load_log.position
        if changed is not None and not changed:
            return 0
        rows: Rows = ALL if changed is None or 4 * len(changed) > snap.capacity else np.array(changed, np.intp)
        if self.state.filters:
            codes = self.state.reject(snap, rows)
            self.codes[rows] = codes
            self.fits[rows] = codes == 0
        if self.state.scores:
            self._raw[rows] = self.state.score(snap, rows)
        return snap.capacity if rows is ALL or changed is None else len(changed)

    def score(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """0..100 for the feasible `slots`."""
        return self.state.normalise(self._raw[slots])


class _Once:
    """The answers of a state that reads the whole cluster: for one attempt."""

    __slots__ = ("_snap", "codes", "fits", "state")

    def __init__(self, state: State, snap: Snapshot) -> None:
        self.state = state
        self._snap = snap
        if state.filters:
            self.codes: NDArray[np.uint64] = state.reject(snap, ALL)
            self.fits: NDArray[np.bool_] = self.codes == 0

    def score(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        return self.state.normalise(self.state.score(self._snap, slots))


class Verdict:
    """What the plugins say about one pod over the snapshot as it is. Valid until the snapshot changes.

    `feasible` is bool (capacity,). `rejected` is (plugin, rejection) when the pod was refused as a whole. `failed` is the text
    of an error that ends the attempt when two or more nodes are feasible (for one, upstream does not score). `rejecting` are
    the plugins that kept at least one node away: those that may wake the pod later.
    """

    def __init__(
        self,
        snap: Snapshot,
        rows: Sequence[tuple[Plugin, _Row | _Once]],
        rejected: tuple[Plugin, Rejected] | None = None,
    ) -> None:
        self.rejected = rejected
        self.failed = next((row.state.failure for _, row in rows if row.state.failure), "")
        self._snap = snap
        self._rows = rows
        self._allowed: NDArray[np.bool_] | None = None
        self.feasible: NDArray[np.bool_]
        if rejected:
            self.feasible = np.zeros(snap.capacity, np.bool_)
            return
        self.feasible = snap.alive.copy()
        for _, row in rows:
            if (only := row.state.only(snap)) is not None:
                self._allowed = np.zeros(snap.capacity, np.bool_)
                self._allowed[only] = True
                self.feasible &= self._allowed
        for _, row in rows:
            if row.state.filters:
                self.feasible &= row.fits

    def totals(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """Upstream's weighted sum for the feasible `slots` (all of them: scores are relative). int64 (slots,)."""
        total = np.zeros(len(slots), np.int64)
        for plugin, row in self._rows:
            if row.state.scores:
                total += plugin.weight * row.score(slots)
        return total

    def scores(self, slots: NDArray[np.intp]) -> dict[str, NDArray[np.int64]]:
        """Each scoring plugin's 0..100 for the feasible `slots`."""
        return {p.name: row.score(slots) for p, row in self._rows if row.state.scores}

    def reasons(self) -> list[tuple[Plugin | None, NDArray[np.intp], NDArray[np.uint64], tuple[str, ...]]]:
        """For each plugin that turned nodes away first: those slots, their codes, and what the bits mean. The plugin is
        None for nodes outside the set that the pod is pinned to."""
        found: list[tuple[Plugin | None, NDArray[np.intp], NDArray[np.uint64], tuple[str, ...]]] = []
        left = self._snap.alive.copy()
        if self._allowed is not None:
            out = np.flatnonzero(left & ~self._allowed)
            if len(out):
                found.append((None, out, np.full(len(out), UNRESOLVABLE_BIT | np.uint64(1), np.uint64), (NARROWED,)))
            left &= self._allowed
        for plugin, row in self._rows:
            if row.state.filters:
                out = np.flatnonzero(left & ~row.fits)
                if len(out):
                    found.append((plugin, out, row.codes[out], row.state.reasons))
                    left[out] = False
        return found

    @property
    def rejecting(self) -> tuple[str, ...]:
        if self.rejected:
            return (self.rejected[0].name,)
        return tuple("NodeAffinity" if plugin is None else plugin.name for plugin, *_ in self.reasons())

    def message(self) -> str:
        """Upstream's FitError text for the pod, when no node is feasible."""
        count = len(self._snap)
        if self.rejected:
            return fit_error(count, {}, self.rejected[1].reasons)
        histogram: dict[str, int] = {}
        for _, _, codes, texts in self.reasons():
            for bit, text in enumerate(texts):
                if hits := int(np.count_nonzero(codes & np.uint64(1 << bit))):
                    histogram[text] = histogram.get(text, 0) + hits
        return fit_error(count, histogram)

    def status(self) -> dict[str, tuple[Code, str, tuple[str, ...]]]:
        """For each node name: code, plugin and sorted reasons; ("Success", "", ()) where feasible."""
        nodes = [node for node in self._snap.nodes if node is not None]
        if self.rejected:
            plugin, rejection = self.rejected
            return {node.name: (rejection.code, plugin.name, tuple(sorted(rejection.reasons))) for node in nodes}
        found: dict[str, tuple[Code, str, tuple[str, ...]]] = {node.name: ("Success", "", ()) for node in nodes}
        for by, slots, codes, texts in self.reasons():
            for slot, code in zip(slots.tolist(), codes.tolist(), strict=True):
                node = self._snap.nodes[slot]
                assert node is not None
                why = tuple(sorted(text for bit, text in enumerate(texts) if code >> bit & 1))
                found[node.name] = (
                    UNRESOLVABLE if code >> 63 else UNSCHEDULABLE,
                    by.name if by else "NodeAffinity",
                    why,
                )
        return found


def fit_error(nodes: int, histogram: Mapping[str, int], whole: Sequence[str] = ()) -> str:
    """Upstream's FitError text (v1.36.3 framework/types.go), without the sentence about preemption: every distinct reason
    with its count of nodes, the entries sorted as strings; or the reasons why the pod as a whole was rejected."""
    if not nodes:
        return NO_NODES
    reasons = whole or sorted(f"{hits} {text}" for text, hits in histogram.items())
    return f"0/{nodes} nodes are available: {', '.join(reasons)}."


class Framework:
    """The plugins of one profile and their arrays over one snapshot."""

    def __init__(self, plugins: Sequence[Plugin], snap: Snapshot) -> None:
        self._plugins = tuple(plugins)
        self._by_name = {plugin.name: plugin for plugin in plugins}
        self._snap = snap
        self._generation = snap.generation
        self._rows: dict[tuple[str, Hashable], _Row | Rejected] = {}
        self.judged = 0
        """Slots judged so far, over all plugins: counted work."""

    def judge(self, pod: Pod) -> Verdict:
        """Filters all nodes for a pod. Cost: O(plugins x nodes) bit operations, plus judging what changed."""
        snap = self._snap
        if self._generation != snap.generation:
            self._rows.clear()
            self._generation = snap.generation
        rows: list[tuple[Plugin, _Row | _Once]] = []
        for plugin in self._plugins:
            key = plugin.key(pod)
            if key is None:
                continue
            if plugin.reads == "cluster":
                made = plugin.prepare(pod, snap)
                if isinstance(made, Rejected):
                    return Verdict(snap, (), (plugin, made))
                rows.append((plugin, _Once(made, snap)))
                continue
            found = self._row(plugin, key, pod)
            if isinstance(found, Rejected):
                return Verdict(snap, (), (plugin, found))
            self.judged += found.refresh(snap)
            rows.append((plugin, found))
        return Verdict(snap, rows)

    def hears(self, rejecting: Sequence[str], change: Change) -> bool:
        """Whether any of these plugins wants to be asked about such changes at all: what spares asking for each pod."""
        topic = change.topic
        return any(
            plugin.hears is None or topic in plugin.hears for plugin in map(self._by_name.__getitem__, rejecting)
        )

    def wakes(self, pod: Pod, rejecting: Sequence[str], change: Change) -> bool:
        """Whether a change may make room for a pod that these plugins rejected."""
        topic, of_taints = change.topic, change.of_taints
        for plugin in map(self._by_name.__getitem__, rejecting):
            if plugin.hears is not None and topic not in plugin.hears:
                continue
            if (of_taints and plugin.wakes_on_taints) or plugin.wakes(pod, change, self._snap):
                return True
        return False

    def _row(self, plugin: Plugin, key: Hashable, pod: Pod) -> _Row | Rejected:
        name = (plugin.name, key)
        found = self._rows.pop(name, None)
        if found is None:
            made = plugin.prepare(pod, self._snap)
            found = made if isinstance(made, Rejected) else _Row(made, self._snap, reads_load=plugin.reads == "load")
            if len(self._rows) >= MAX_ROWS:
                del self._rows[next(iter(self._rows))]
        self._rows[name] = found
        return found
