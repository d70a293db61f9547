"""One pod judged on one node as it is at this moment: what preemption and nominated pods try out.

The snapshot itself is changed for a trial, by whoever makes it, and put back; the plugins are the same objects that judge all
nodes at once. Nothing here is kept from one question to the next that a change of the node's load could make untrue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from carbon_scheduler.core.plugin import ALL, ERROR_BIT, UNRESOLVABLE, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Plugin, State
    from carbon_scheduler.core.snapshot import Snapshot
    from carbon_scheduler.core.verdict import Reasons, Verdict


class Refusal(NamedTuple):
    """The first plugin that turned a node away, its code, and what the code's bits mean; of an error, its text."""

    plugin: Plugin
    code: int
    texts: tuple[str, ...]


class Trial:
    """The plugins of a verdict, to be asked again about single nodes. `sums_only`: what those that filter read of a node's pods
    is summed up in the snapshot, so that many nodes can be tried at once (`at_sums`)."""

    def __init__(self, pod: Pod, verdict: Verdict, snap: Snapshot) -> None:
        self._pod = pod
        self._snap = snap
        self._parts = verdict.states()
        self._standing: dict[str, NDArray[np.uint64]] = {}
        self._more = [
            (plugin, state)
            for plugin, state in self._parts
            if state.filters and not (plugin.reads == "node" or plugin.sums)
        ]
        self.sums_only = not self._more

    def relenting(self) -> NDArray[np.bool_]:
        """bool (capacity,): where nothing but sums may turn the pod away, as long as pods do no more than leave the node. To be
        asked before anything is tried. Cost: one judgement a plugin that looks at more than sums."""
        found: NDArray[np.bool_] = np.full(self._snap.capacity, all(state.relents for _, state in self._more))
        if found.any():
            for _, state in self._more:
                found &= state.fits(self._snap, ALL)
        return found

    def at(self, slot: int) -> Refusal | None:
        """Why the pod cannot have this node, None when it can. Cost: a few µs a plugin that reads the node's load; that of a
        whole judgement for each that reads the cluster."""
        rows = np.array([slot], np.intp)
        for plugin, state in self._parts:
            if (
                not state.filters
            ):  # upstream's Skip: a plugin that had nothing to say is not asked about other pods either
                continue
            if plugin.reads == "cluster":
                found = self._of_cluster(plugin, slot)
            elif plugin.reads == "node":
                found = self._alike(plugin, state, int(self._codes(plugin, state)[slot]))
            else:
                found = self._alike(plugin, state, int(state.reject(self._snap, rows)[0]))
            if found is not None:
                return found
        return None

    def at_sums(self, view: Snapshot, slots: NDArray[np.intp]) -> tuple[NDArray[np.bool_], Reasons]:
        """For many nodes at once, by the sums of `view`: bool (slots,) where the pod fits, and why not where it does not.
        Plugins that read more of the load than sums answer as in the snapshot, those that read the cluster are left out: the
        answer is right where the pod is `relenting`.
        Cost: a few vector operations a plugin."""
        fits = np.ones(len(slots), np.bool_)
        reasons: Reasons = []
        for plugin, state in self._parts:
            if not state.filters or plugin.reads == "cluster":
                continue
            codes = state.reject(view, slots)
            out = np.flatnonzero(fits & (codes != 0))
            if len(out):
                reasons.append((plugin, slots[out], codes[out], state.reasons))
                fits[out] = False
        return fits, reasons

    def fits_sums(self, view: Snapshot, slots: NDArray[np.intp]) -> NDArray[np.bool_]:
        """bool (slots,): the same where it is known that nothing but sums keeps the pod away."""
        fits = np.ones(len(slots), np.bool_)
        for plugin, state in self._parts:
            if plugin.sums and state.filters:
                fits &= state.fits(view, slots)
        return fits

    def _codes(self, plugin: Plugin, state: State) -> NDArray[np.uint64]:
        """What depends on the nodes alone does not change while pods are tried."""
        if (codes := self._standing.get(plugin.name)) is None:
            codes = self._standing[plugin.name] = state.reject(self._snap, ALL)
        return codes

    def _of_cluster(self, plugin: Plugin, slot: int) -> Refusal | None:
        state = plugin.prepare(self._pod, self._snap)
        if isinstance(state, Rejected):
            code = (1 << len(state.reasons)) - 1 | (1 << 63 if state.code == UNRESOLVABLE else 0)
            return Refusal(plugin, code, state.reasons)
        rows = np.array([slot], np.intp)
        return self._alike(plugin, state, int(state.reject(self._snap, rows)[0])) if state.filters else None

    def _alike(self, plugin: Plugin, state: State, code: int) -> Refusal | None:
        if not code:
            return None
        return Refusal(plugin, code, (state.error,) if code & int(ERROR_BIT) else state.reasons)


def grouped(refusals: Iterable[tuple[int, Refusal]]) -> Reasons:
    """The refusals of single slots, put together where a plugin gave them in the same words."""
    by: dict[tuple[str, tuple[str, ...]], tuple[Plugin, list[int], list[int]]] = {}
    for slot, refusal in refusals:
        _, slots, codes = by.setdefault((refusal.plugin.name, refusal.texts), (refusal.plugin, [], []))
        slots.append(slot)
        codes.append(refusal.code)
    return [
        (plugin, np.array(slots, np.intp), np.array(codes, np.uint64), texts)
        for (_, texts), (plugin, slots, codes) in by.items()
    ]
