"""Reads a tree of YAML field by field, and collects what cannot be used instead of stopping at the first.

Nothing here raises for what the tree holds: a field that cannot be read becomes a `Problem` and its default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from carbon_scheduler.core.plugins.profiles import Problem
from carbon_scheduler.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

MAX_ITEMS: Final = 1000
"""Of one list. Real files have a few dozen."""
MAX_SHOWN: Final = 80
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_UNIT_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Reader:
    """One mapping of the tree. Every field is asked for by name; `end` reports those that nobody asked for."""

    def __init__(self, tree: object, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self._asked: list[str] = []
        self._tree: dict[object, object] = {}
        if isinstance(tree, dict):
            self._tree = tree
        elif tree is not None:
            self.say("", tree, "fields", "see kube-scheduler's documentation of this field")

    def say(self, key: str, got: object, expected: str, next_step: str) -> None:
        """Notes a problem of a field of this mapping; "" is the mapping itself."""
        shown = got if isinstance(got, _Shown) else _shown(got)
        self.problems.append(Problem(self.at(key), shown, expected, next_step))

    def at(self, key: str) -> str:
        return ".".join(part for part in (self.path, key) if part)

    def has(self, key: str) -> bool:
        return self._tree.get(key) is not None

    def end(self) -> None:
        """All known fields were asked for."""
        for key in self._tree:
            if key not in self._asked:
                near = did_you_mean(str(key), self._asked)
                known = f"one of {', '.join(self._asked)}"
                self.say(str(key), _Shown("a field that is not known"), known, f"correct or remove it{near.rstrip()}")

    def _value(self, key: str) -> object:
        self._asked.append(key)
        return self._tree.get(key)

    # -- fields

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        found = self._value(key)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
            self.say(key, found, f"an integer, {low} to {high}", "correct it")
            return default
        return found

    def boolean(self, key: str, default: bool) -> bool:
        found = self._value(key)
        if found is None:
            return default
        if not isinstance(found, bool):
            self.say(key, found, "true or false", "correct it")
            return default
        return found

    def word(self, key: str, default: T, allowed: Sequence[T]) -> T:
        """One of the allowed words."""
        found = self._value(key)
        if found is None or found == "":
            return default
        for one in allowed:
            if found == one:
                return one
        self.say(key, found, f"one of {', '.join(map(str, allowed))}", "choose one of these")
        return default

    def text(self, key: str, default: str = "", *, needed: str = "") -> str:
        """`needed`: what to do about it when the text is missing or empty."""
        found = self._value(key)
        if found is not None and not isinstance(found, str):
            self.say(key, found, "a text", "put it in quotes")
            return default
        if not found and needed:
            self.say(key, _Shown("nothing"), "a text", needed)
        return found or default

    def seconds(self, key: str, default: float) -> float:
        """A duration as Go writes it, e.g. 1m30s."""
        found = self._value(key)
        if found is None:
            return default
        parts = _DURATION.findall(found) if isinstance(found, str) else []
        if not parts or "".join(number + unit for number, unit in parts) != found or len(str(found)) > 64:
            self.say(key, found, "a duration such as 15s", "correct it")
            return default
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)

    def inner(self, key: str) -> Reader:
        """The mapping below a field, empty when it is missing."""
        return Reader(self._value(key), self.at(key), self.problems)

    def items(self, key: str) -> list[Reader]:
        """The mappings of a list."""
        return [Reader(item, f"{self.at(key)}[{i}]", self.problems) for i, item in enumerate(self._list(key))]

    def texts(self, key: str) -> tuple[str, ...]:
        found = self._list(key)
        for i, item in enumerate(found):
            if not isinstance(item, str):
                self.say(f"{key}[{i}]", item, "a text", "put it in quotes")
        return tuple(str(item) for item in found)

    def unused(self, key: str, without_meaning: Sequence[object], next_step: str) -> None:
        """A field that has no counterpart here: only the values that ask for nothing may stand there."""
        found = self._value(key)
        if found is None or found in ("", [], {}):
            return
        if not any(type(found) is type(one) and found == one for one in without_meaning):
            nothing = " or ".join(map(str, without_meaning))
            expected = f"no value, or kube-scheduler's default {nothing}" if nothing else "no value"
            self.say(key, found, f"{expected}: it has no counterpart here", next_step)

    def _list(self, key: str) -> list[object]:
        found = self._value(key)
        if found is None:
            return []
        if not isinstance(found, list):
            self.say(key, found, "a list", "write it as a list")
            return []
        if len(found) > MAX_ITEMS:
            self.say(key, _Shown(f"{len(found)} items"), f"at most {MAX_ITEMS}", "shorten it")
        return found[:MAX_ITEMS]


class _Shown(str):
    """What was got, in words already."""

    __slots__ = ()


def _shown(value: object) -> _Shown:
    if value is None:
        return _Shown("nothing")
    if isinstance(value, (dict, list)):
        return _Shown(f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}")
    text = repr(value)
    return _Shown(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")
