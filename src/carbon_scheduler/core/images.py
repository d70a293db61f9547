"""Which images the nodes have, and how large each is, as kube-scheduler's cache keeps it.

The size of a name is the one that the first of its present nodes reported; others may say something else. A name is forgotten
with its last node. Source: v1.36.3 backend/cache/cache.go (addNodeImageStates, removeNodeImageStates).

Only counts are kept of all names, for most images no pod will ever ask for; which nodes have one is made out when asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from carbon_scheduler.core.model import Image, Node

MAX_MASKS: Final = 256
"""Names whose nodes are kept as an array; the least recently used goes first. At 5,000 nodes one takes 5 KB."""


class _Known:
    """A name: how many nodes have it, and its size."""

    __slots__ = ("count", "size_b")

    def __init__(self, size_b: int) -> None:
        self.count = 0
        self.size_b = size_b


class Images:
    """All names on all nodes. Changed by the snapshot alone."""

    def __init__(self, capacity: int) -> None:
        self._known: dict[str, _Known] = {}
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self._capacity = capacity

    def known(self, name: str) -> tuple[int, int] | None:
        """(size in bytes, on how many nodes), None when no node has it."""
        found = self._known.get(name)
        return None if found is None else (found.size_b, found.count)

    def counts(self) -> dict[str, int]:
        """On how many nodes each name is. Cost: O(names)."""
        return {name: found.count for name, found in self._known.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def having(self, name: str, nodes: Iterable[Node | None]) -> NDArray[np.bool_]:
        """bool (capacity,): the slots that have it. `nodes` by slot. Cost: O(nodes x images) the first time, then none."""
        mask = self._masks.pop(name, None)
        if mask is None:
            found = (node is not None and any(name in image.names for image in node.images) for node in nodes)
            mask = np.fromiter(found, np.bool_, self._capacity)
            if len(self._masks) >= MAX_MASKS:
                del self._masks[next(iter(self._masks))]
        self._masks[name] = mask
        return mask

    def move(self, slot: int, before: tuple[Image, ...], after: tuple[Image, ...]) -> None:
        """A node's images were reported anew, also when they are the same: a size that no other node vouches for is then taken
        from the report. Cost: about 0.2 us a name."""
        for name in _names(before):
            found = self._known[name]
            found.count -= 1
            if not found.count:
                del self._known[name]
            if (mask := self._masks.get(name)) is not None:
                mask[slot] = False
        for name, size_b in _names(after).items():
            found = self._known.get(name) or self._known.setdefault(name, _Known(size_b))
            found.count += 1
            if (mask := self._masks.get(name)) is not None:
                mask[slot] = True

    def grow(self, capacity: int) -> None:
        more = np.zeros(capacity - self._capacity, np.bool_)
        self._masks = {name: np.concatenate([mask, more]) for name, mask in self._masks.items()}
        self._capacity = capacity


def _names(images: tuple[Image, ...]) -> dict[str, int]:
    """Each name of a node with the size of the first image that has it."""
    found: dict[str, int] = {}
    for image in images:
        for name in image.names:
            found.setdefault(name, image.size_b)
    return found
