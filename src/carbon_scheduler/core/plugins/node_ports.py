"""NodePorts: no two pods of a node take the same host port (v1.36.3 framework/types.go HostPortInfo.CheckConflict)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carbon_scheduler.core.plugin import Change, Plugin, State
from carbon_scheduler.core.snapshot import ANY_IP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import HostPort, Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot


def _clash(wanted: str, taken: Iterable[str]) -> bool:
    """0.0.0.0 stands for every address on both sides."""
    return any(wanted in (ip, ANY_IP) or ip == ANY_IP for ip in taken)


class _Ports(State):
    filters = True
    relents = True
    reasons = ("node(s) didn't have free ports for the requested pod ports",)

    def __init__(self, wanted: tuple[HostPort, ...]) -> None:
        self._wanted = wanted

    def reject(self, snap: Snapshot, rows: Rows) -> NDArray[np.uint64]:
        codes = np.zeros(snap.capacity, np.uint64)
        for port in self._wanted:
            for slot, ips in snap.ports.get((port.protocol, port.port), {}).items():
                if _clash(port.ip, ips):
                    codes[slot] = 1
        return codes[rows]


class NodePorts(Plugin):
    name = "NodePorts"
    reads = "load"
    hears = frozenset({"node", "pod-gone"})
    hears_of_nodes = frozenset()

    def key(self, pod: Pod) -> tuple[HostPort, ...] | None:
        return pod.spec.host_ports or None

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        return _Ports(pod.spec.host_ports)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        if change.kind == "node":
            return change.node_before is None
        return change.pod is not None and any(
            (mine.protocol, mine.port) == (theirs.protocol, theirs.port) and _clash(mine.ip, (theirs.ip,))
            for mine in pod.spec.host_ports
            for theirs in change.pod.spec.host_ports
        )
