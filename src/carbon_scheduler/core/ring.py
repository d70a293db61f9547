"""The order of ties: nodes on a ring of hashes, on which every pod has a place of its own.

Among equally good nodes a pod takes the first at or after its place. That is as even as drawing lots, and the same every time.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK: Final = 64
"""How many nodes after the pod's place are looked at before all that are tied are."""


def name_hash(text: str) -> int:
    """A fixed 64-bit hash: the same on every machine, for every PYTHONHASHSEED. Cost: about 1 µs."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Ring:
    """`hash64` is uint64 (n,), a node's place."""

    def __init__(self, hash64: NDArray[np.uint64]) -> None:
        self._hash64 = hash64
        self._order: NDArray[np.intp] = np.argsort(hash64, kind="stable")
        self._sorted: NDArray[np.uint64] = hash64[self._order]

    def near(self, start: int, count: int) -> NDArray[np.intp]:
        """The indices of the next `count` nodes at or after `start`, fewer at the end of the ring. Cost: O(log n)."""
        at = int(self._sorted.searchsorted(np.uint64(start)))
        return self._order[at : at + count]

    def first_best(self, scores: NDArray[np.int64], start: int, among: NDArray[np.bool_] | None = None) -> int:
        """The index of the first of the highest of `scores` (n,) at or after `start`, `among` some of them (n,), one of which
        has a score of 0 or more. Cost: three passes over n, and two more when none of the best of all is among them."""
        tied = scores == scores[scores.argmax()]
        if among is not None:
            tied &= among
        count = int(np.count_nonzero(tied))
        if not count and among is not None:
            return self.first_best(np.where(among, scores, -1), start)
        if CHUNK * count > 4 * len(scores):  # so many that one of the next few must be among them
            near = self.near(start, CHUNK)
            hits = tied.take(near)
            if len(near) and hits[hit := int(hits.argmax())]:
                return int(near[hit])
        return self._first(tied.nonzero()[0], start)

    def first_best_of(self, these: NDArray[np.intp], scores: NDArray[np.int64], start: int) -> int:
        """The same among the indices `these`, whose scores are given, (m,) both with m >= 1."""
        (tied,) = (scores == scores[scores.argmax()]).nonzero()
        return self._first(these.take(tied), start)

    def _first(self, tied: NDArray[np.intp], start: int) -> int:
        if len(tied) == 1:
            return int(tied[0])
        return int(tied[(self._hash64.take(tied) - np.uint64(start)).argmin()])  # wraps around
