"""Runs cases on both sides, compares every letter, counts what was exercised, and makes a failing case small."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parity.draft import Choices
from parity.generate import generate
from parity.live import Live, plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from carbon_scheduler.core.settings import Profile
    from parity.oracle import Oracle
    from parity.profiles import Profiles

JSON = dict[str, Any]
GOLDEN: Final = Path(__file__).parent / "golden"
MAX_TRIES: Final = 3000
"""Questions that making a case small may cost, about 0.5 ms each."""


def differences(want: JSON, got: JSON) -> list[str]:
    """What differs, a line each; empty when nothing does. Of an error only that there is one: its text names Go's types."""
    if "error" in want or "error" in got:
        return [] if "error" in want and "error" in got else [f"want {_cut(want)}, got {_cut(got)}"]
    found: list[str] = []
    for key in sorted((want.keys() | got.keys()) - {"id"}):
        a, b = want.get(key), got.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict) and key in ("nodes", "scores", "totals"):
            found += [
                f"{key}.{k}: want {a.get(k)}, got {b.get(k)}"
                for k in sorted(a.keys() | b.keys())
                if a.get(k) != b.get(k)
            ]
        else:
            found.append(f"{key}: want {_cut(a)}, got {_cut(b)}")
    return found


def _cut(value: object) -> str:
    return json.dumps(value)[:300]


@dataclass
class Coverage:
    """How often each plugin rejected a node, or a pod as a whole, and how often its score told nodes apart."""

    cases: int = 0
    errors: int = 0
    no_node: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    told_apart: Counter[str] = field(default_factory=Counter)
    choices: Choices = field(default_factory=Choices)

    def count(self, answer: JSON) -> None:
        self.cases += 1
        if "error" in answer:
            self.errors += 1
            return
        self.no_node += "message" in answer
        if answer["prefilter"]:
            self.whole[answer["prefilter"]["plugin"]] += 1
        else:
            self.rejected.update(node["plugin"] for node in answer["nodes"].values() if node["plugin"])
        self.told_apart.update(name for name, by_node in answer["scores"].items() if len(set(by_node.values())) > 1)

    @property
    def did(self) -> Counter[str]:
        """What each plugin did, how often."""
        parts = (("rejects", self.rejected), ("rejects whole pods", self.whole), ("tells nodes apart", self.told_apart))
        found = Counter({f"{name} {what}": n for what, counter in parts for name, n in counter.items()})
        return found + Counter({"an error": self.errors})

    def add(self, other: Coverage) -> None:
        """That of other cases."""
        self.cases += other.cases
        self.errors += other.errors
        self.no_node += other.no_node
        self.rejected += other.rejected
        self.whole += other.whole
        self.told_apart += other.told_apart
        self.choices.add(other.choices)

    def holes(self, filters: Collection[str], scores: Collection[str]) -> list[str]:
        """What an enabled plugin can do and never did."""
        return [
            *(f"{name} never rejected a node" for name in filters if not self.rejected[name]),
            *(f"{name} never told nodes apart" for name in scores if not self.told_apart[name]),
            *(f"never generated: {what}" for what in self.choices.never),
        ]

    def lines(self) -> Iterator[str]:
        yield f"{self.cases} cases: {self.no_node} without a feasible node, {self.errors} that end in an error"
        for title, counter in (
            ("nodes rejected by", self.rejected),
            ("pods rejected as a whole by", self.whole),
            ("cases in which the score differed between nodes", self.told_apart),
        ):
            yield f"{title}: {', '.join(f'{name} {n}' for name, n in sorted(counter.items())) or 'none'}"


@dataclass
class Failure:
    """A case on which the two sides differ; `stale` when only the incremental path is wrong."""

    case: JSON
    want: JSON
    differences: list[str]
    stale: bool


@dataclass(frozen=True)
class Question:
    """A case, objects of another one that come and go meanwhile, and what kube-scheduler's plugins answer."""

    case: JSON
    noise: JSON
    want: JSON

    def differences(self, live: Live) -> list[str]:
        """What our answer, through events, has different."""
        return differences(self.want, live.ask(self.case, self.noise, random.Random(f"events of {self.case['id']}")))


def questions(
    seed: int | str,
    numbers: Iterable[int],
    names: Collection[str],
    oracle: Oracle,
    choices: Choices | None = None,
    profiles: Profiles | None = None,
) -> Iterator[Question]:
    """The cases of a seed with the oracle's answers. With `profiles`, each is of one of them, and the oracle has read them too."""
    of_noise = Choices()
    for number in numbers:
        case = generate(seed, number, names, choices)
        if profiles:
            case = profiles.give(case, number)
        yield Question(case, generate(f"noise of {seed}", number, names, of_noise), oracle.ask(case))


def run(
    seed: int | str,
    numbers: Iterable[int],
    names: Collection[str],
    oracle: Oracle,
    coverage: Coverage,
    profiles: Profiles | None = None,
) -> Iterator[Failure]:
    """Asks both sides the cases of a seed, ours through events; yields those that differ."""
    made = profiles.made if profiles else ()
    live = Live(names, made)
    for one in questions(seed, numbers, names, oracle, coverage.choices, profiles):
        coverage.count(one.want)
        if found := one.differences(live):
            stale = not differences(one.want, plain(one.case, names, made))
            yield Failure(one.case, one.want, found, stale)


def shrink(case: JSON, names: Collection[str], oracle: Oracle, profiles: Sequence[Profile] = ()) -> JSON:
    """The smallest case found, by leaving parts out, on which the two sides still differ."""
    tries = 0

    def differs(other: JSON) -> bool:
        nonlocal tries
        tries += 1
        return tries <= MAX_TRIES and bool(differences(oracle.ask(other), plain(other, names, profiles)))

    smaller = True
    while smaller and tries <= MAX_TRIES:
        smaller = False
        for path in sorted(_paths(case), key=len):
            other = _without(case, path)
            if other is not None and differs(other):
                case, smaller = other, True
    return case


_KEPT: Final = (
    "id",
    "pod",
    "name",
    "uid",
    "containers",
    "spec",
    "metadata",
    "status",
    "key",
    "operator",
    "effect",
    "values",
    "topologyKey",
    "whenUnsatisfiable",
    "maxSkew",
    "schedulerName",
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    parts: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = reversed(list(enumerate(value)))
    for key, part in parts:
        if key not in _KEPT:
            yield (*path, key)
        yield from _paths(part, (*path, key))


def _without(case: JSON, path: tuple[str | int, ...]) -> JSON | None:
    other: JSON = json.loads(json.dumps(case))
    inner: Any = other
    try:
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
    except (KeyError, IndexError):  # went away together with another part
        return None
    return other


def save(failure: Failure, names: Collection[str], oracle: Oracle, profiles: Profiles | None = None) -> Path:
    """Writes a failing case, made small, among the golden ones."""
    made = profiles.made if profiles else ()
    case = failure.case if failure.stale else shrink(failure.case, names, oracle, made)
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / f"found-{str(failure.case['id']).replace('/', '-')}.json"
    golden = {"plugins": list(names), "case": case, "want": oracle.ask(case)}
    if profiles:
        golden["config"] = profiles.of(case)
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    return path
