"""Ages as kubectl writes them (apimachinery pkg/util/duration.HumanDuration), and the times they come from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from carbon_scheduler.sim.apiserver.documents import text

if TYPE_CHECKING:
    from carbon_scheduler.sim.apiserver.documents import Document


def seconds_between(earlier: str, now: datetime) -> float:
    """Seconds from an RFC 3339 time to `now`; NaN when it cannot be read."""
    try:
        moment = datetime.fromisoformat(earlier)
    except ValueError:
        return float("nan")
    return (now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()


def ago(document: Document, now: datetime) -> str:
    """The age of an object; `<unknown>` without a creation time."""
    created = text(document, "metadata", "creationTimestamp")
    return human_duration(seconds_between(created, now)) if created else "<unknown>"


def human_duration(seconds: float) -> str:
    """`5s`, `3m20s`, `23h`, `2d4h`, `328d`, `2y30d`: at most two units, three significant places."""
    if seconds != seconds:
        return "<unknown>"
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first}{first_unit}{second}{second_unit}" if second else f"{first}{first_unit}"
