"""The trace: every call to the core as one JSON line, so that a run can be kept, compared and played again.

First a line of the settings, then each event as it was applied, and each `decide` with the effects that it returned. Playing
the lines into a fresh core must give the same effects, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from carbon_scheduler.core.decision import Effect
from carbon_scheduler.core.events import Event
from carbon_scheduler.core.model import Struct
from carbon_scheduler.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VERSION: Final = 1


class Began(Struct, frozen=True, tag="Began"):
    """The first line. `version` is the format's; another one is refused."""

    settings: Settings
    version: int = VERSION


class Decided(Struct, frozen=True, tag="Decided"):
    """One call of `decide` and what it returned."""

    at: float
    limit: int
    effects: tuple[Effect, ...]


Line = Began | Event | Decided

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """One line, with its end. About 5 µs for a pod."""
    return _encoder.encode(line) + b"\n"


class BrokenTrace(ValueError):
    """A line of a trace that cannot be read, or that is not what the core does now; the message names the line."""


class Difference(Struct, frozen=True):
    """A `decide` whose effects are not those on record."""

    line: int
    want: tuple[Effect, ...]
    got: tuple[Effect, ...]


class Core(Protocol):
    """What a trace is played into: `scheduler.Scheduler`."""

    def apply(self, event: Event) -> None: ...

    def decide(self, at: float, limit: int) -> list[Effect]: ...


def play(lines: Iterable[bytes], fresh: Callable[[Settings], Core]) -> Iterator[Difference]:
    """Plays a trace into the core that `fresh` makes, and yields where its effects differ. Raises BrokenTrace."""
    scheduler: Core | None = None
    for number, text in enumerate(lines, start=1):
        try:
            line = _decoder.decode(text)
        except msgspec.DecodeError as error:
            raise BrokenTrace(f"line {number}: not a line of a trace: {error}") from error
        if isinstance(line, Began):
            if line.version != VERSION:
                raise BrokenTrace(f"line {number}: the trace has format {line.version}, this program reads {VERSION}")
            scheduler = fresh(line.settings)
        elif scheduler is None:
            raise BrokenTrace(f"line {number}: got {type(line).__name__}, expected Began as the first line")
        elif isinstance(line, Decided):
            got = tuple(scheduler.decide(line.at, line.limit))
            if got != line.effects:
                yield Difference(number, line.effects, got)
        else:
            scheduler.apply(line)
