"""What the plugins say about one pod: which nodes are feasible, how they rank, and, when asked, why the others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from carbon_scheduler.core.groups import Field
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
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from carbon_scheduler.core.groups import Groups
    from carbon_scheduler.core.plugin import Code, Plugin
    from carbon_scheduler.core.shapes import Load, Once, Row, Shape
    from carbon_scheduler.core.snapshot import Snapshot

    Reasons = list[tuple[Plugin | None, NDArray[np.intp], NDArray[np.uint64], tuple[str, ...]]]

NARROWED: Final = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
NO_NODES: Final = "no nodes available to schedule pods"


class Ranks(NamedTuple):
    """`ranked` is int64 (n,), a higher number is better; it means nothing where a node is not `feasible`, bool (n,). Without
    that, those are feasible whose rank is not negative."""

    ranked: NDArray[np.int64]
    feasible: NDArray[np.bool_] | None = None

    def fits(self) -> NDArray[np.bool_]:
        """bool (n,)."""
        return self.ranked >= 0 if self.feasible is None else self.feasible


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
        shape: Shape,
        once: Mapping[int, Once],
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
        self._faulty = shape.faulty
        for part in once.values():
            self.failed = self.failed or part.state.failure
            self._faulty = self._faulty or bool(part.state.error)

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

    def ranks(self) -> Ranks:
        """How the feasible nodes rank: upstream's weighted score, less what all of them have alike. Cost: none when nothing but
        plugins of the node and its load have to do with the pod."""
        shape, snap = self._shape, self._snap
        if shape.curved:
            slots = np.flatnonzero(self.feasible)
            ranked = np.full(snap.capacity, -1, np.int64)
            ranked[slots] = self.totals(slots)
            return Ranks(ranked)
        total = shape.ranked
        for number, part in self._once.items():
            if part.state.scores and part.state.constant is None:
                total = total + self._plugins[number].weight * part.state.score_all(snap, self.feasible)
        return Ranks(total, None if total is shape.ranked and self.feasible is shape.fits else self.feasible)

    def ranked(self) -> NDArray[np.int64]:
        """The same as int64 (capacity,), -1 where the node is not feasible."""
        ranks = self.ranks()
        return ranks.ranked if ranks.feasible is None else np.where(ranks.feasible, ranks.ranked, -1)

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

    def _parts(self) -> list[tuple[Plugin, Row | Load | Once]]:
        found: list[tuple[Plugin, Row | Load | Once]] = []
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
        if self._turned_away or self._faulty:
            errors = {plugin.name: part.state.error for plugin, part in self._parts() if part.state.error}
            for plugin, _, codes, texts in self.reasons():
                if plugin is not None and (codes & ERROR_BIT).any():
                    return errors.get(plugin.name) or texts[0]
        return ""

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
