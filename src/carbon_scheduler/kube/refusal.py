"""Why an object cannot be used as it is: the first thing in it that could not be read, and bounds on everything in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TERMS: Final = 1000
"""Tolerations, ports, volumes, images, constraints, selector terms and their expressions, each."""
MAX_LABELS: Final = 1000
"""More are cut off (in the order of their keys) and the pod refused: real objects have a few dozen."""
MAX_REFUSAL: Final = 512

T = TypeVar("T")


class Refusal:
    """The first reason why an object cannot be used, "" without one."""

    __slots__ = ("_what", "text")

    def __init__(self, problem: str | None, what: str = "pod") -> None:
        self.text = ""
        self._what = what
        self.add(problem or "")

    def add(self, problem: str) -> None:
        """Notes that a part cannot be read; "" is no problem."""
        if problem:
            self.say(f"cannot read the {self._what}: {problem}")

    def say(self, text: str) -> None:
        if not self.text:
            self.text = text[:MAX_REFUSAL]

    def bounded(self, found: Sequence[T | None] | None, where: str) -> Sequence[T]:
        """What is there of a list, without nulls. More than MAX_TERMS are cut off and noted."""
        if not found:
            return ()
        if len(found) > MAX_TERMS:
            self.add(f"{where}: got {len(found)}, expected at most {MAX_TERMS}")
            found = found[:MAX_TERMS]
        return [part for part in found if part is not None]


def words(found: Mapping[str, str | None] | None) -> dict[str, str]:
    """A map of texts; null is ""."""
    return {key: value or "" for key, value in found.items()} if found else {}


def within(number: int | None, least: int, most: int) -> int:
    """A number between bounds; null is 0."""
    return max(least, min(number or 0, most))
