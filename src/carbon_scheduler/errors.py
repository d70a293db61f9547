"""The exception tree. Every message says what, where, got, expected, and the next step; none contains a secret.

CarbonSchedulerError
├── ConfigError              a file, variable or flag of the operator's (exit code 2)
├── InvalidObject            one API object that cannot be read; others go on
├── ClusterError             the API server
│   ├── ApiStatusError       it answered with a failure status
│   └── ApiUnreachable       it did not answer: refused, cut, timed out
│       └── AnswerTooLarge   it answered more than we take in
├── LeaseLost                leadership ended: stop writing, exit
└── ProviderError            a source of carbon data
    ├── KeyRejected          the key is wrong (tried again when it changes, and hourly)
    ├── NotInPlan            the key is right but does not cover this zone or endpoint
    ├── UnknownZone          the source does not know the zone
    ├── NoRecentData         the source has no value for now
    ├── RateLimited          ask less; may carry how long to wait
    ├── ProviderUnavailable  down, slow, cut, 5xx, in maintenance
    ├── BudgetSpent          our own limit of requests, kept before the source's
    └── MalformedBody        an answer that is not what it claims to be
        └── RejectedValue    a well-formed answer with a value that cannot be true
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class CarbonSchedulerError(Exception):
    """Base of all errors that this program raises on purpose."""


class ConfigError(CarbonSchedulerError):
    """A setting that cannot be used: names the key, what was given, what is allowed, and where it came from."""


class InvalidObject(CarbonSchedulerError):
    """An API object that cannot be read (`kind namespace/name: field: got, expected`). It concerns that object alone."""


class ClusterError(CarbonSchedulerError):
    """The API server refused or could not be asked."""


class ApiStatusError(ClusterError):
    """The API server answered with a failure.

    `code` is the HTTP status, `reason` the machine-readable word of the Status body ("Conflict", "Expired", ...) or "",
    `retry_after_s` the wait it asked for, or None, `said` its own words, or "".
    """

    def __init__(
        self, message: str, *, code: int, reason: str = "", retry_after_s: float | None = None, said: str = ""
    ) -> None:
        super().__init__(message)
        self.said = said
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s


class ApiUnreachable(ClusterError):
    """No answer. `sent` is False when the request certainly never reached the server (connection refused, no route, TLS),
    True when it may have been carried out (cut or timed out after it was written)."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class AnswerTooLarge(ApiUnreachable):
    """An answer, or a line of a stream, above our limit. The request was carried out."""


class LeaseLost(CarbonSchedulerError):
    """This process is not, or no longer, the leader."""


class ProviderError(CarbonSchedulerError):
    """A source of carbon data gave no usable answer. `label` is the value of the metric's `outcome`."""

    label = "error"


class KeyRejected(ProviderError):
    label = "key_rejected"


class NotInPlan(ProviderError):
    label = "not_in_plan"


class UnknownZone(ProviderError):
    label = "unknown_zone"


class NoRecentData(ProviderError):
    label = "no_recent_data"


class RateLimited(ProviderError):
    label = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ProviderUnavailable(ProviderError):
    label = "unavailable"


class BudgetSpent(ProviderError):
    label = "budget_spent"


class MalformedBody(ProviderError):
    label = "malformed_body"


class RejectedValue(MalformedBody):
    """`reason` is the value of the metric's `reason`: null, type, nan, negative, zero, range, zone_echo, factor_type, time,
    future, stale, jump."""

    label = "rejected_value"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def did_you_mean(word: str, known: Iterable[str], count: int = 3) -> str:
    """A sentence with the nearest known words, or "" when none is near. Cost: linear in the number of known words."""
    near = get_close_matches(word, list(known), n=count, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
