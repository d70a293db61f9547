"""Runs the plugins of a profile for one pod: which nodes are feasible, why not the others, and upstream's score.

Pods that every plugin sees alike share a `_Shape`: which nodes fit and their score, as two arrays that are brought up to date
only for the nodes that changed since. What depends on the node alone is kept in a `_Row` for each plugin, which many shapes
share. Plugins that read the whole cluster are asked in each attempt. Reasons are worked out when somebody asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.groups import Field, Tops
from carbon_scheduler.core.plugin import (
    ALL,
    ERROR,
    ERROR_BIT,
    UNRESOLVABLE,
    UNRESOLVABLE_BIT,
    UNSCHEDULABLE,
    Rejected,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.groups import Groups
    from carbon_scheduler.core.model import Pod, PodSpec
    from carbon_scheduler.core.plugin import Change, Code, Plugin, Rows
    from carbon_scheduler.core.snapshot import Snapshot

    Reasons = list[tuple[Plugin | None, NDArray[np.intp], NDArray[np.uint64], tuple[str, ...]]]

MAX_SHAPES: Final = 256
"""Shapes, and rows, whose arrays are kept; the least recently used goes first. At 5,000 nodes a shape takes 50 KB."""
MAX_TOPS: Final = 4
"""Ways to group nodes for which a shape's best ones are kept."""
MAX_SPECS: Final = 8192
"""Pod specs whose shape is remembered."""

NARROWED: Final = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
NO_NODES: Final = "no nodes available to schedule pods"


def _relative(state: State) -> bool:
    """Whether its scores depend on which nodes are feasible."""
    return type(state).normalise is not State.normalise


class _Row:
    """What a plugin that looks at the node alone says of every slot.

    `flat` is the score of all nodes when it is the same for each, whichever of them are feasible; else None.
    """

    __slots__ = ("_at", "fits", "flat", "raw", "state")

    def __init__(self, state: State, snap: Snapshot) -> None:
        self.state = state
        self.fits: NDArray[np.bool_] = np.ones(snap.capacity, np.bool_)
        self.raw: NDArray[np.int64] = np.zeros(snap.capacity if state.scores else 0, np.int64)
        self.flat: int | None = None
        self._at = -1

    def refresh(self, snap: Snapshot) -> int:
        """Brings the arrays up to date and returns how many slots were judged again. Cost: O(changed), and O(nodes) to see
        whether the scores are flat."""
        if self._at == snap.spec_log.position:
            return 0
        rows = _rows(snap, snap.spec_log.rows_since(self._at) if self._at >= 0 else None)
        self._at = snap.spec_log.position
        if self.state.filters:
            self.fits[rows] = self.state.fits(snap, rows)
        if self.state.scores:
            self.raw[rows] = self.state.score(snap, rows)
            there = self.raw[snap.alive]
            even = not len(there) or bool((there == there[0]).all())
            self.flat = int(self.state.normalise(there[:1]).sum()) if even else None
        return _size(snap, rows)

    def codes(self, snap: Snapshot) -> NDArray[np.uint64]:
        return self.state.reject(snap, ALL)

    def score(self, snap: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        return self.state.normalise(self.raw[slots])


class _Load:
    """A plugin that also reads what runs on a node: judged where that changed, straight into the shape."""

    __slots__ = ("state",)

    def __init__(self, state: State) -> None:
        self.state = state

    def codes(self, snap: Snapshot) -> NDArray[np.uint64]:
        return self.state.reject(snap, ALL)

    def score(self, snap: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        return self.state.normalise(self.state.score(snap, slots))


class _Once:
    """A plugin that reads the whole cluster: its answers hold for one attempt."""

    __slots__ = ("_codes", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self._codes: NDArray[np.uint64] | None = None

    def codes(self, snap: Snapshot) -> NDArray[np.uint64]:
        if self._codes is None:
            self._codes = self.state.reject(snap, ALL)
        return self._codes

    def score(self, snap: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        if self.state.constant is not None:
            return np.full(len(slots), self.state.constant, np.int64)
        return self.state.normalise(self.state.score(snap, slots))


class _Shape:
    """Pods that all plugins but those that read the cluster see alike.

    `fits` is bool (capacity,). `ranked` is int64 (capacity,): the weighted sum of those scores that do not depend on which
    nodes are feasible, -1 where the node does not fit. `curved`: there are others, which are not equal for all nodes.
    `allowed` are the slots that the pod is pinned to, None without such a limit. Built up to the first plugin that refuses the
    pod as a whole.
    """

    __slots__ = (
        "_load_at",
        "_spec_at",
        "_standing",
        "_steady",
        "_tops",
        "allowed",
        "curved",
        "failed",
        "fits",
        "loads",
        "parts",
        "ranked",
        "rejected",
        "rows",
    )

    def __init__(self, snap: Snapshot) -> None:
        self.parts: dict[int, _Row | _Load] = {}
        self.rows: list[tuple[Plugin, _Row]] = []
        self.loads: list[tuple[Plugin, State]] = []
        self.rejected: tuple[int, Rejected] | None = None
        self.failed = ""
        self.fits: NDArray[np.bool_] = np.zeros(snap.capacity, np.bool_)
        self.ranked: NDArray[np.int64] = np.full(snap.capacity, -1, np.int64)
        self.curved = False
        self.allowed: NDArray[np.bool_] | None = None
        self._standing: NDArray[np.bool_] = self.fits
        self._steady: NDArray[np.int64] | None = None
        self._spec_at = self._load_at = -1
        self._tops: dict[Groups, Tops] = {}

    def tops(self, groups: Groups) -> Tops:
        """What the shape's best nodes are by group. Cost: O(nodes) the first time."""
        found = self._tops.get(groups)
        if found is None:
            if len(self._tops) >= MAX_TOPS:
                del self._tops[next(iter(self._tops))]
            found = self._tops[groups] = Tops(groups, self.fits, self.ranked)
        return found

    def add(self, number: int, plugin: Plugin, part: _Row | _Load) -> None:
        self.parts[number] = part
        self.failed = self.failed or part.state.failure
        if isinstance(part, _Row):
            self.rows.append((plugin, part))
        else:
            self.loads.append((plugin, part.state))

    def refresh(self, snap: Snapshot) -> int:
        """Brings the arrays up to date and returns how many slots were judged again. Cost: O(changed); O(nodes) when a node
        itself changed."""
        spec, load = snap.spec_log, snap.load_log
        rows: Rows
        if self._spec_at != spec.position:
            changed = spec.rows_since(self._spec_at) if self._spec_at >= 0 else None
            if changed is not None:
                loads = load.rows_since(self._load_at)
                changed = None if loads is None else np.concatenate([changed, loads])
            judged = sum(row.refresh(snap) for _, row in self.rows)
            self._stand(snap)
            rows = _rows(snap, changed)
        elif self._load_at != load.position and self.loads:
            judged = 0
            rows = _rows(snap, load.rows_since(self._load_at))
        else:
            return 0
        self._spec_at, self._load_at = spec.position, load.position
        fits = self._standing[rows]
        if rows is ALL:
            fits = fits.copy()
            self._tops.clear()
        total: NDArray[np.int64] | int = 0 if self._steady is None else self._steady[rows]
        for plugin, state in self.loads:
            if state.filters:
                fits &= state.fits(snap, rows)
            if state.scores:
                score = state.score(snap, rows)
                total = total + (score if plugin.weight == 1 else plugin.weight * score)
        ranked = np.where(fits, total, -1)
        if not isinstance(rows, slice):
            for tops in self._tops.values():
                tops.update(rows, self.fits[rows], fits, ranked)
        self.fits[rows] = fits
        self.ranked[rows] = ranked
        return judged + _size(snap, rows)

    def _stand(self, snap: Snapshot) -> None:
        """What depends on the nodes alone, put together."""
        standing = snap.alive.copy()
        self.allowed = None
        self.curved = any(state.scores and _relative(state) for _, state in self.loads)
        self._steady = None
        for plugin, row in self.rows:
            state = row.state
            if (only := state.only(snap)) is not None:
                self.allowed = np.zeros(snap.capacity, np.bool_)
                self.allowed[only] = True
                standing &= self.allowed
            if state.filters:
                standing &= row.fits
            if state.scores and not _relative(state):
                steady = plugin.weight * row.raw
                self._steady = steady if self._steady is None else self._steady + steady
            elif state.scores and row.flat is None:
                self.curved = True
        self._standing = standing


def _rows(snap: Snapshot, changed: NDArray[np.intp] | None) -> Rows:
    return ALL if changed is None or 4 * len(changed) > snap.capacity else changed


def _size(snap: Snapshot, rows: Rows) -> int:
    return snap.capacity if isinstance(rows, slice) else len(rows)


class Verdict:
    """What the plugins say about one pod over the snapshot as it is. Valid until that changes; its arrays are read only.

    `feasible` is bool (capacity,). `rejected` is (plugin, rejection) when the pod was refused as a whole. `failed` is the text
    of an error that ends the attempt when two or more nodes are feasible (for one, upstream does not score). `rejecting` are
    the plugins that kept at least one node away: those that may wake the pod later.
    """

    def __init__(
        self,
        snap: Snapshot,
        plugins: Sequence[Plugin],
        shape: _Shape,
        once: Mapping[int, _Once],
        rejected: tuple[Plugin, Rejected] | None = None,
    ) -> None:
        self.rejected = rejected
        self.failed = shape.failed
        self._snap = snap
        self._plugins = plugins
        self._shape = shape
        self._once = once
        self._turned_away: Reasons = []
        self._reasons: Reasons | None = None
        self._feasible: NDArray[np.bool_] | None = None
        for part in once.values():
            self.failed = self.failed or part.state.failure

    @property
    def feasible(self) -> NDArray[np.bool_]:
        if self._feasible is None:
            self._feasible = np.zeros(self._snap.capacity, np.bool_) if self.rejected else self._shape.fits
            for part in self._once.values():
                if part.state.filters and not self.rejected:
                    self._feasible = self._feasible & part.state.fits(self._snap, ALL)
        return self._feasible

    def field(self, groups_of: Callable[[list[NDArray[np.intp]]], Groups | None]) -> Field | None:
        """The feasible nodes by groups, where feasibility beyond the shape's own depends on domains alone, and ranks on nothing
        beyond it; else None. `groups_of` gives the groups for some ways to divide the nodes into domains."""
        shape = self._shape
        if self.rejected or shape.curved or self._turned_away:
            return None
        divisions: list[NDArray[np.intp]] = []
        passing: list[NDArray[np.bool_]] = []
        for part in self._once.values():
            if part.state.scores and part.state.constant is None:
                return None
            if part.state.filters:
                refusing = part.state.refusing(self._snap)
                if refusing is None:
                    return None
                divisions += [domain for domain, _ in refusing]
                passing += [~domains for _, domains in refusing]
        groups = groups_of(divisions)
        if groups is None:
            return None
        tops = shape.tops(groups)
        open_ = tops.fitting > 0
        open_[-1] = False
        for domains, passes in zip(groups.domains, passing, strict=True):
            open_ &= passes.take(domains)
        return Field(tops, open_, passing, shape.ranked)

    def ranked(self) -> NDArray[np.int64]:
        """int64 (capacity,): upstream's weighted score of the feasible nodes, less what all of them have alike; -1 elsewhere.
        Cost: none when nothing but plugins of the node and its load have to do with the pod."""
        shape, snap = self._shape, self._snap
        if shape.curved:
            slots = np.flatnonzero(self.feasible)
            ranked = np.full(snap.capacity, -1, np.int64)
            ranked[slots] = self.totals(slots)
            return ranked
        total = shape.ranked
        for number, part in self._once.items():
            if part.state.scores and part.state.constant is None:
                total = total + self._plugins[number].weight * part.state.score_all(snap, self.feasible)
        return total if total is shape.ranked and self.feasible is shape.fits else np.where(self.feasible, total, -1)

    def totals(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """Upstream's weighted sum for the feasible `slots` (all of them: scores are relative). int64 (slots,)."""
        total = np.zeros(len(slots), np.int64)
        for plugin, part in self._parts():
            if part.state.scores:
                total += plugin.weight * part.score(self._snap, slots)
        return total

    def scores(self, slots: NDArray[np.intp]) -> dict[str, NDArray[np.int64]]:
        """Each scoring plugin's 0..100 for the feasible `slots`."""
        return {plugin.name: part.score(self._snap, slots) for plugin, part in self._parts() if part.state.scores}

    def reasons(self) -> Reasons:
        """For each plugin that turned nodes away first: those slots, their codes, and what the bits mean. The plugin is
        None for nodes outside the set that the pod is pinned to."""
        if self._reasons is not None:
            return self._reasons
        found = [*self._turned_away]
        left = self._snap.alive.copy()
        for _, slots, _, _ in found:
            left[slots] = False
        if self._shape.allowed is not None:
            out = np.flatnonzero(left & ~self._shape.allowed)
            if len(out):
                found.append((None, out, np.full(len(out), UNRESOLVABLE_BIT | np.uint64(1), np.uint64), (NARROWED,)))
            left &= self._shape.allowed
        for plugin, part in self._parts():
            if part.state.filters:
                codes = part.codes(self._snap)
                out = np.flatnonzero(left & (codes != 0))
                if len(out):
                    found.append((plugin, out, codes[out], part.state.reasons))
                    left[out] = False
        self._reasons = found
        return found

    def turn_away(self, reasons: Reasons) -> None:
        """Takes nodes away that the plugins would not have with other pods there, or gives others as the reason."""
        self._feasible = self.feasible.copy()
        for _, slots, _, _ in reasons:
            self._feasible[slots] = False
        self._turned_away += reasons
        self._reasons = None

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """bool (capacity,): the nodes that plugins were asked about. Read only."""
        return self._snap.alive if self._shape.allowed is None else self._shape.allowed & self._snap.alive

    def states(self) -> list[tuple[Plugin, State]]:
        """What the plugins worked out for the pod, in the order in which they filter; without those it is nothing to."""
        return [(plugin, part.state) for plugin, part in self._parts()]

    def _parts(self) -> list[tuple[Plugin, _Row | _Load | _Once]]:
        found: list[tuple[Plugin, _Row | _Load | _Once]] = []
        for number, plugin in enumerate(self._plugins):
            part = self._shape.parts.get(number) or self._once.get(number)
            if part is not None:
                found.append((plugin, part))
        return found

    @property
    def error(self) -> str:
        """Why the attempt ends in an error, whichever nodes are feasible; "" if it does not. A plugin cannot work for the pod,
        or cannot judge a node that none before it turns away."""
        if not len(self._snap):
            return ""
        if self.rejected:
            return self.rejected[1].reasons[0] if self.rejected[1].code == ERROR else ""
        if self._turned_away or self._any_error():
            errors = {plugin.name: part.state.error for plugin, part in self._parts() if part.state.error}
            for plugin, _, codes, texts in self.reasons():
                if plugin is not None and (codes & ERROR_BIT).any():
                    return errors.get(plugin.name) or texts[0]
        return ""

    def _any_error(self) -> bool:
        for parts in (self._shape.parts, self._once):
            for part in parts.values():
                if part.state.error:
                    return True
        return False

    @property
    def rejecting(self) -> tuple[str, ...]:
        if self.rejected:
            return (self.rejected[0].name,)
        names = [plugin.name for plugin, *_ in self.reasons() if plugin is not None]
        pinned = self._shape.allowed is not None  # counts even where no node is left out, as upstream has it
        return tuple(dict.fromkeys(["NodeAffinity", *names] if pinned else names))

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
        self.plugins = tuple(plugins)
        self._by_name = {plugin.name: plugin for plugin in plugins}
        self._kept = tuple((number, p) for number, p in enumerate(self.plugins) if p.reads != "cluster")
        self._asked = tuple((number, p) for number, p in enumerate(self.plugins) if p.reads == "cluster")
        self._snap = snap
        self._generation = snap.generation
        self._rows: dict[tuple[int, Hashable], _Row] = {}
        self._shapes: dict[int, _Shape] = {}
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
        once: dict[int, _Once] = {}
        for number, plugin in self._asked:
            if number > stop:
                break
            if plugin.key(pod) is None:
                continue
            made = plugin.prepare(pod, snap)
            if isinstance(made, Rejected):
                return Verdict(snap, self.plugins, shape, {}, (plugin, made))
            once[number] = _Once(made)
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

    def _shape(self, pod: Pod) -> _Shape:
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

    def _new_shape(self, pod: Pod) -> _Shape:
        shape = _Shape(self._snap)
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
                    shape.add(number, plugin, _Load(made))
                    continue
                row = _Row(made, self._snap)
                if len(self._rows) >= MAX_SHAPES:
                    del self._rows[next(iter(self._rows))]
            self._rows[number, key] = row
            shape.add(number, plugin, row)
        return shape
