"""Both schedulers' outcomes side by side, and the file of what kube-scheduler's were."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.errors import ConfigError
from e2e.suite import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

EXPECTED: Final = Path(__file__).with_name("expected.json")
FAST_S: Final = 30.0
_NOT_RUN: Final = Outcome("not run", 0.0)


@dataclass(frozen=True)
class Row:
    """One spec under both schedulers."""

    spec: str
    upstream: Outcome
    ours: Outcome

    @property
    def worse(self) -> bool:
        """It passes with kube-scheduler and not with ours."""
        return self.upstream.passed and not self.ours.passed


def compare(upstream: Mapping[str, Outcome], ours: Mapping[str, Outcome]) -> list[Row]:
    """A row for each spec that ran under either, by name."""
    return [Row(spec, upstream.get(spec, _NOT_RUN), ours.get(spec, _NOT_RUN)) for spec in sorted({*upstream, *ours})]


def lines(rows: list[Row]) -> Iterator[str]:
    """The table, the reasons below it, and the sum."""
    yield f"{'kube-scheduler':<18}  {'ours':<18}  spec"
    for row in rows:
        yield f"{_cell(row.upstream):<18}  {_cell(row.ours):<18}  {'! ' if row.worse else ''}{row.spec}"
    for row in rows:
        for who, outcome in {"kube-scheduler": row.upstream, "ours": row.ours}.items():
            if outcome.why:
                yield f"\n{row.spec}\n  {who}: {outcome.state}: {outcome.why}"
    worse = sum(row.worse for row in rows)
    both = sum(row.upstream.passed and row.ours.passed for row in rows)
    yield f"\n{len(rows)} specs, {both} pass with both, {worse} pass with kube-scheduler alone"


def _cell(outcome: Outcome) -> str:
    return f"{outcome.state} {outcome.seconds:.1f} s" if outcome is not _NOT_RUN else outcome.state


def as_json(rows: list[Row]) -> str:
    """A list of objects: spec, kube_scheduler and ours (state, seconds, why), worse."""
    made = [{"spec": row.spec, "kube_scheduler": row.upstream, "ours": row.ours, "worse": row.worse} for row in rows]
    return msgspec.json.format(msgspec.json.encode(made)).decode()


def read_expected(path: Path = EXPECTED) -> dict[str, Outcome]:
    """What became of each spec under kube-scheduler when the file was last written."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Outcome])


def write_expected(outcomes: Mapping[str, Outcome], path: Path = EXPECTED) -> None:
    """`outcomes` under kube-scheduler, sorted by name."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(dict(sorted(outcomes.items()))), indent=1) + b"\n")


def select(expected: Mapping[str, Outcome], *, fast: bool = False, pattern: str = "") -> list[str]:
    """Names of the specs, only those that passed in less than half a minute when `fast`, and that match `pattern`.

    Raises ConfigError when none does.
    """
    named = [spec for spec in expected if re.search(pattern, spec)]
    if not named:
        raise ConfigError(f"specs: {pattern!r} matches none of: {'; '.join(expected)}")
    return [spec for spec in named if not fast or (expected[spec].passed and expected[spec].seconds < FAST_S)]


def shares(expected: Mapping[str, Outcome], specs: Iterable[str], count: int) -> list[list[str]]:
    """`specs` in so many parts that take about as long, by kube-scheduler's times."""
    parts: list[list[str]] = [[] for _ in range(count)]
    taken_s = [0.0] * count
    for spec in sorted(specs, key=lambda spec: -expected[spec].seconds):
        least = taken_s.index(min(taken_s))
        parts[least].append(spec)
        taken_s[least] += expected[spec].seconds
    return parts
