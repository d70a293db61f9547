"""ImageLocality: nodes that have the pod's images already, the larger and the more widespread the better.

Source: kube-scheduler v1.36.3 plugins/imagelocality/image_locality.go. Its queueing hint: none, it only scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from carbon_scheduler.core.plugin import ALL, MAX_SCORE, Change, Plugin, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Rows
    from carbon_scheduler.core.snapshot import Snapshot

_MIN_B: Final = 23 * 2**20
_MAX_CONTAINER_B: Final = 1000 * 2**20
MAX_TABLE: Final = 6
"""Different images of one pod up to which all their combinations are worked out, instead of each node's own."""


class _Alike(State):
    """The same for every node, for all have the same of the images, or none."""

    scores = True

    def __init__(self, constant: int) -> None:
        self.constant = constant

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        return np.full(len(snap.alive[rows]), self.constant, np.int64)


class _Images(State):
    """`shares` are what each image that some nodes have adds to their sums, `base` what those add that all nodes have."""

    scores = True

    def __init__(self, base: int, shares: list[tuple[str, int]], ceiling_b: int) -> None:
        self._base = base
        self._shares = shares
        self._ceiling_b = ceiling_b

    def score(self, snap: Snapshot, rows: Rows) -> NDArray[np.int64]:
        """Cost: a byte operation a node and image, where they are few, as they are."""
        masks = [snap.images.having(name)[rows] for name, _ in self._shares]
        size = len(masks[0])
        if len(masks) > MAX_TABLE:
            sums = np.full(size, self._base, np.int64)
            for mask, (_, share) in zip(masks, self._shares, strict=True):
                sums += share * mask
            return np.array([_stretched(found, self._ceiling_b) for found in sums.tolist()], np.int64)
        which = np.zeros(size, np.uint8)
        sums_of = [self._base]
        for bit, (mask, (_, share)) in enumerate(zip(masks, self._shares, strict=True)):
            which += mask.view(np.uint8) * np.uint8(1 << bit)  # several times as fast as a shift
            sums_of += [found + share for found in sums_of]
        scores = np.array([_stretched(found, self._ceiling_b) for found in sums_of], np.int64)
        return scores.take(which.astype(np.intp), mode="clip")

    def score_all(self, snap: Snapshot, feasible: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self.score(snap, ALL)


def _stretched(sum_b: int, ceiling_b: int) -> int:
    """23 MiB..1000 MiB a container become 0..100."""
    return MAX_SCORE * (max(_MIN_B, min(sum_b, ceiling_b)) - _MIN_B) // (ceiling_b - _MIN_B)


_NOWHERE: Final = _Alike(0)


class ImageLocality(Plugin):
    name = "ImageLocality"
    weight = 1
    reads = "cluster"
    hears = frozenset()

    def key(self, pod: Pod) -> bool:
        return True

    def prepare(self, pod: Pod, snap: Snapshot) -> State:
        """Of each image size x (share of the nodes that have it), summed up. An image that two containers have counts twice;
        one of a volume raises the sum, not the ceiling. Cost where no node has one of the images: a look-up for each."""
        names = [name for name in pod.spec.images if name in snap.images]
        if not names:
            return _NOWHERE
        nodes = len(snap)
        base = 0
        shares: dict[str, int] = {}
        for name in names:
            size_b, count = snap.images.known(name) or (0, 0)
            share = int(float(size_b) * (count / nodes))
            if count == nodes:
                base += share
            else:
                shares[name] = shares.get(name, 0) + share
        ceiling_b = _MAX_CONTAINER_B * pod.spec.containers
        if not shares:
            return _Alike(_stretched(base, ceiling_b))
        return _Images(base, list(shares.items()), ceiling_b)

    def wakes(self, pod: Pod, change: Change, snap: Snapshot) -> bool:
        return False
