"""Bindings that were asked for and whose end is not known yet, and when those whose answer was lost are sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carbon_scheduler.core.decision import Bind
    from carbon_scheduler.core.model import PodUid


class Binding:
    """One of them. `lost`: an answer to it was, so it may land at any time. `reading`: the pod is being read to find out."""

    __slots__ = ("effect", "lost", "reading", "sent", "why")

    def __init__(self, effect: Bind) -> None:
        self.effect = effect
        self.lost = self.reading = False
        self.sent = 1
        self.why = ""


class Bindings:
    """At most one a pod. The first repetition is due at once (a connection broke), later ones after a growing backoff: an
    API server that answers each with 500 must not be asked as fast as it can answer. Times in seconds."""

    def __init__(self, initial_backoff_s: float, max_backoff_s: float) -> None:
        self._initial_s = initial_backoff_s
        self._max_s = max_backoff_s
        self._of: dict[PodUid, Binding] = {}
        self._again: dict[PodUid, float] = {}

    def __contains__(self, uid: PodUid) -> bool:
        return uid in self._of

    def ask(self, effect: Bind) -> None:
        """The shell is asked for it the first time."""
        self._of[effect.uid] = Binding(effect)

    def present(self, uid: PodUid, seq: int) -> Binding | None:
        """The pod's Binding if that is the one of this decision: answers to earlier ones concern nothing any more."""
        binding = self._of.get(uid)
        return binding if binding is not None and binding.effect.decision.seq == seq else None

    def accepted(self, binding: Binding) -> None:
        """The API server said so; the echo will end it."""
        binding.lost = binding.reading = False
        self._again.pop(binding.effect.uid, None)

    def read(self, binding: Binding) -> None:
        """The pod is being read: nothing is due before that is known."""
        binding.reading = True
        self._again.pop(binding.effect.uid, None)

    def end(self, uid: PodUid) -> None:
        """It came to its end, one way or another, if there was one."""
        self._again.pop(uid, None)
        self._of.pop(uid, None)

    def repeat(self, binding: Binding, at: float) -> None:
        """To be sent again in time."""
        wait_s = min(self._initial_s * 2.0 ** min(binding.sent - 2, 60), self._max_s) if binding.sent > 1 else 0.0
        self._again[binding.effect.uid] = at + wait_s
        binding.sent += 1

    def due(self, at: float) -> list[Binding]:
        """Those to be sent again now, in the order of their decisions; they are not due any more then. Cost: O(in doubt)."""
        due = [self._of[uid] for uid, when in self._again.items() if when <= at]
        for binding in due:
            del self._again[binding.effect.uid]
        return sorted(due, key=lambda binding: binding.effect.decision.seq)

    def next_at(self) -> float | None:
        """When the next one is due."""
        return min(self._again.values(), default=None)
