"""Whether cases notice an error planted into the core. Cases and the oracle's answers are made once per process and read again
by every error; each stops at its first difference."""

from __future__ import annotations

import json
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from parity.compare import Question, questions
from parity.live import Live
from parity.mutations import OF_PREEMPTION, OF_PROFILES, plant
from parity.parts import PROFILES, WHOLE, Side, oracle_of, profiles_of
from parity.preempting import Preempting, PreemptionQuestion, questions_preempting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST: Final = 1500
"""Cases within which an error must be noticed."""
BROKEN: Final = (AssertionError, KeyError, ZeroDivisionError)
"""debug_check noticed, or what the core counts on was not so."""


class Stored:
    """Questions that are made when the first one asks for them. Kept as text, which is small and cannot be changed."""

    def __init__(self, sort: type[Question], source: Iterator[Question]) -> None:
        self._sort = sort
        self._source = source
        self._lines: list[str] = []

    def __iter__(self) -> Iterator[Question]:
        for number in range(MOST):
            if number == len(self._lines):
                one = next(self._source)
                self._lines.append(json.dumps([one.case, one.noise, one.want]))
            yield self._sort(*json.loads(self._lines[number]))


def noticed(sentence: str) -> str:
    """By which case and how; "" when none notices it.

    An error that cannot even run proves nothing: it is raised.
    """
    stored, live_of = _suite(sentence)
    with pytest.MonkeyPatch.context() as patch:
        plant(sentence, patch)
        live = live_of()
        for number, one in enumerate(stored):
            try:
                found = one.differences(live)
            except BROKEN as error:
                return f"case {number}: {error!r:.100}"
            if found:
                return f"case {number}: {found[0]:.100}"
    return ""


def _suite(sentence: str) -> tuple[Stored, Callable[[], Live]]:
    if sentence in OF_PREEMPTION:
        return _preempting(), lambda: Preempting(WHOLE.names)
    side = PROFILES if sentence in OF_PROFILES else WHOLE
    made = profiles_of(side)
    return _plain(side), lambda: Live(side.names, made.made if made else ())


@cache
def _plain(side: Side) -> Stored:
    source = questions("mutations", count(), side.names, oracle_of(side), profiles=profiles_of(side))
    return Stored(Question, source)


@cache
def _preempting() -> Stored:
    source = questions_preempting("mutations", count(), WHOLE.names, oracle_of(WHOLE, "-preempt"))
    return Stored(PreemptionQuestion, source)
