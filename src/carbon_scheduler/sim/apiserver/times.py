"""Times as Go's metav1.Time and metav1.MicroTime read them; both are strict, and a client's own formatting meets that first."""

from __future__ import annotations

import re
from typing import Final

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_MICRO_LAYOUT: Final = "2006-01-02T15:04:05.000000Z07:00"
_TIME_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"


def check_micro_time(written: object) -> None:
    """Raise ValueError for anything but null or RFC 3339 with exactly six digits of fraction."""
    if written is None:
        return
    found = _TIME.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        raise ValueError(f'parsing time "{written}" as "{_MICRO_LAYOUT}": cannot parse "{written}" as "2006"')
    fraction, zone = found.group(1) or "", found.group(2)
    if len(fraction) != 7:
        raise ValueError(f'parsing time "{written}" as "{_MICRO_LAYOUT}": cannot parse "{fraction}{zone}" as ".000000"')


def check_time(written: object) -> None:
    """Raise ValueError for anything but null or RFC 3339 (a fraction is read and dropped)."""
    if written is not None and (not isinstance(written, str) or _TIME.fullmatch(written) is None):
        raise ValueError(f'parsing time "{written}" as "{_TIME_LAYOUT}": cannot parse "{written}" as "2006"')


def whole_seconds(written: str) -> str:
    """A time as metav1.Time writes it again."""
    found = _TIME.fullmatch(written)
    return written if found is None or not found.group(1) else written.replace(found.group(1), "", 1)
