"""ImageLocality: nodes that have the pod's images already, the larger and the more widespread the better.

Source: kube-scheduler v1.36.3 plugins/imagelocality/image_locality.go. Its queueing hint: none, it only scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.plugin import MAX_SCORE, Change, Plugin, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot

_MIN_B: Final = 23 * 2**20
_MAX_CONTAINER_B: Final = 1000 * 2**20


class _Elsewhere(State):
    """No node has any of the images."""

    scores = True
    constant = 0

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        return np.zeros(len(snap.alive[rows]), np.int64)


class _Images(State):
    scores = True

    def __init__(self, names: list[str], containers: int) -> None:
        self._names = names
        self._ceiling_b = _MAX_CONTAINER_B * containers

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """Of each image size x (share of the nodes that have it), summed up, then stretched from 23 MiB..1000 MiB a container
        to 0..100. An image that two containers have counts twice; one of a volume raises the sum, not the ceiling."""
        sums = np.zeros(len(snap.alive[rows]), np.int64)
        for name in self._names:
            known = snap.images.known(name)
            if known is not None:
                size_b, count = known
                share_b = min(int(float(size_b) * (count / len(snap))), self._ceiling_b)  # the sum is cut there anyhow
                sums += share_b * snap.images.having(name, snap.nodes)[rows]
        np.clip(sums, _MIN_B, max(self._ceiling_b, _MIN_B), out=sums)
        return MAX_SCORE * (sums - _MIN_B) // (self._ceiling_b - _MIN_B)


_NOWHERE: Final = _Elsewhere()


class ImageLocality(Plugin):
    name = "ImageLocality"
    weight = 1
    reads = "cluster"
    hears = frozenset()

    def key(self, pod: Pod) -> bool:
        return True

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        """Cost where no node has one of the images: a look-up for each."""
        names = [name for name in pod.spec.images if name in snap.images]
        return _Images(names, pod.spec.containers) if names else _NOWHERE

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        return False
