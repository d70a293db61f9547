"""Faults on request: what can go wrong between a client and a real API server, made to happen when a test says so.

From Python: `server.faults.add(Rule(verb="create", resource="pods/binding", lose_answer=True, count=1))`. Over HTTP, for a
server in a process of its own, `POST /_faults` with the JSON of a `Command`; every member is optional:

    {"add": [{"verb": "get", "resource": "nodes", "status": 503, "probability": 0.1}],  rules, see Rule
     "clear": true,                                       forget all rules, holds and delays (done first)
     "close_watches": {"resource": "pods", "how": "end"}, now; how: "end", "cut" or "half-line"
     "hold": ["pods"], "release": ["pods"],               stop and resume the delivery of a resource's watch events
     "compact": true,                                     410 for every older list and watch
     "refuse_s": 5}                                       close all connections, refuse new ones for so long

`GET /_faults` answers `{"rules": [...], "requests": {"create pods/binding": 17, ...}}`. Equal seeds and requests give
equal faults.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Ending: TypeAlias = Literal["end", "cut", "half-line"]
"""How a watch stops: a clean end of the body, a cut connection, or a cut in the middle of a line."""


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to do to requests of a verb and a resource ("*" is any).

    Verbs: get, list, watch, create, update, patch, delete, deletecollection. A subresource is written `pods/binding`. The
    rule leaves the first `skip` matching requests alone, then acts with `probability`, at most `count` times (None: always).
    """

    verb: str = "*"
    resource: str = "*"
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    latency_s: float = 0.0
    """Wait before the request is carried out."""
    status: int = 0
    """Answer with this failure (429, 500, 503, 410, ...) instead of carrying the request out."""
    retry_after_s: int | None = None
    """The header of such a failure. 429 without it says 1, and has a body of plain text, as from priority and fairness."""
    drop: bool = False
    """Close the connection without carrying the request out."""
    lose_answer: bool = False
    """Carry the request out, then close the connection without an answer."""
    end_after: int | None = None
    """End a watch after this many events, counted anew for each watch, in the middle of a burst when there is one."""
    how: Ending = "end"
    delay_s: float = 0.0
    """Deliver a watch's events this much later (out of order with other resources)."""


class CloseWatches(msgspec.Struct, forbid_unknown_fields=True):
    resource: str = "*"
    how: Ending = "end"


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /_faults`."""

    clear: bool = False
    add: list[Rule] = []
    close_watches: CloseWatches | None = None
    hold: list[str] = []
    release: list[str] = []
    compact: bool = False
    refuse_s: float = 0.0


class Faults:
    """The rules in force and a switch for each thing that happens at once."""

    def __init__(self, seed: int, compact: Callable[[], None]) -> None:
        self.rules: list[Rule] = []
        self.requests: Counter[str] = Counter()
        """Requests that arrived, by `verb resource`."""
        self._random = random.Random(seed)
        self._compact = compact
        self._held: dict[str, asyncio.Event] = {}
        self._watches: dict[object, tuple[str, Callable[[Ending], None]]] = {}

    def add(self, rule: Rule) -> Rule:
        """Put a rule in force; `count` and `skip` of the returned rule go down as it acts."""
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """End all rules and holds."""
        self.rules.clear()
        self.release(*self._held)

    def on_request(self, verb: str, resource: str) -> list[Rule]:
        """The rules that act on this request; counts it."""
        self.requests[f"{verb} {resource}"] += 1
        return [rule for rule in self.rules if self._acts(rule, verb, resource)]

    def _acts(self, rule: Rule, verb: str, resource: str) -> bool:
        if rule.verb not in ("*", verb) or rule.resource not in ("*", resource) or rule.count == 0:
            return False
        if rule.skip > 0:
            rule.skip -= 1
            return False
        if rule.probability < 1.0 and self._random.random() >= rule.probability:
            return False
        if rule.count is not None:
            rule.count -= 1
        return True

    def compact(self) -> None:
        """Forget all history: older lists and watches get 410."""
        self._compact()

    def close_watches(self, resource: str = "*", how: Ending = "end") -> int:
        """End the open watches of a resource; returns how many there were."""
        closing = [close for name, close in self._watches.values() if resource in ("*", name)]
        for close in closing:
            close(how)
        return len(closing)

    def watching(self, token: object, resource: str, close: Callable[[Ending], None]) -> Callable[[], None]:
        """Register an open watch; returns the call that says it has ended."""
        self._watches[token] = (resource, close)
        return lambda: self._watches.pop(token, None) and None

    def watches(self, resource: str = "*") -> int:
        """How many watches of a resource are open."""
        return sum(resource in ("*", name) for name, _ in self._watches.values())

    def hold(self, *resources: str) -> None:
        """Deliver no more watch events of these resources until `release`."""
        for resource in resources:
            self._held.setdefault(resource, asyncio.Event())

    def release(self, *resources: str) -> None:
        for resource in resources:
            held = self._held.pop(resource, None)
            if held:
                held.set()

    async def passage(self, resource: str) -> None:
        """Wait while a resource's events are held."""
        while resource in self._held:
            await self._held[resource].wait()
