"""A case in the making: the objects so far, and a record of every choice that was made."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

JSON = dict[str, Any]
T = TypeVar("T")


class Choices:
    """How often each option of each choice was taken, over many cases. An option that could be taken and never was is a
    hole in the generator: whoever adds one to a choice needs to do nothing more to have it watched."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, str]] = Counter()
        self._possible: dict[str, set[str]] = {}

    def took(self, what: str, option: object, options: Sequence[object]) -> None:
        if what not in self._possible:
            self._possible[what] = {str(o) for o in options}
        self.taken[what, str(option)] += 1

    def add(self, other: Choices) -> None:
        """Those of other cases."""
        self.taken += other.taken
        self._possible |= other._possible

    @property
    def never(self) -> list[str]:
        return sorted(
            f"{what}: {option}"
            for what, options in self._possible.items()
            for option in options
            if not self.taken[what, option]
        )


class Draft:
    """One case. Ingredients add to `nodes`, `pods` and `pod`, and to further lists by `extra`."""

    def __init__(self, rng: random.Random, choices: Choices, name: str) -> None:
        self.rng = rng
        self.name = name
        self._choices = choices
        self.nodes: list[JSON] = []
        self.pods: list[JSON] = []
        self.pod: JSON = {}
        self.extra: dict[str, list[JSON]] = {}

    def one_of(self, what: str, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One option, noted under `what`: the same name must always go with the same options."""
        many = range(len(options))
        at = self.rng.choices(many, weights)[0] if weights else int(self.rng.random() * len(many))  # as choices() does
        self._choices.took(what, options[at], options)
        return options[at]

    def chance(self, what: str, probability: float) -> bool:
        """Whether something happens; both outcomes must come up over many cases."""
        happens = self.rng.random() < probability
        self._choices.took(what, happens, (True, False))
        return happens

    def some(self, what: str, most: int, make: Callable[[], T], *, least: int = 0) -> list[T]:
        """`least` to `most` made things."""
        return [make() for _ in range(self.one_of(f"number of {what}", range(least, most + 1)))]

    @property
    def all_pods(self) -> list[JSON]:
        return [*self.pods, self.pod]

    def case(self) -> JSON:
        return {"id": self.name, "nodes": self.nodes, "pods": self.pods, "pod": self.pod, **self.extra}


def filled(**fields: Any) -> JSON:
    """Without the fields that are empty, as the API server stores objects."""
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}


def labels_of(node: Mapping[str, Any]) -> JSON:
    found: JSON = node["metadata"]["labels"]
    return found
