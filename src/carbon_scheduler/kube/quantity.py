"""Quantities of resources ("250m", "1.5Gi", "1e3") as exact integers.

The grammar is apimachinery's (pkg/api/resource/quantity.go, v0.36.3): a sign, decimal digits with one point, and one suffix:
n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or a decimal exponent (e3, E3). The unit here is a thousandth of the resource's base
unit, because the API server rounds every quantity of a resource list up to thousandths when it reads it (pkg/apis/core/v1/
defaults.go): sums of these integers are therefore exact.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from carbon_scheduler.core.model import MAX_QUANTITY

MAX_MILLI: Final = MAX_QUANTITY * 1000
MAX_TEXT: Final = 128
"""Longer ones are refused: the API server's own canonical form has at most about 30 characters."""

_GRAMMAR = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(|[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,19})", re.ASCII)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


class BadQuantity(ValueError):
    """A text that is not a quantity."""


@lru_cache(maxsize=4096)
def milli(text: str) -> int:
    """Thousandths of the base unit, rounded up (away from zero), within +-MAX_QUANTITY x 1000. Negative ones stay negative.

    Raises BadQuantity. Cost: a dictionary look-up for one of the last 4,096 different texts, else a few microseconds.
    """
    if len(text) > MAX_TEXT:
        raise BadQuantity(f"got {text[:20]!r}... of {len(text)} characters, expected a quantity such as 250m or 1.5Gi")
    match = _GRAMMAR.fullmatch(text.strip())  # as Quantity.UnmarshalJSON does
    if match is None or not text.strip():
        raise BadQuantity(f"got {text!r}, expected a quantity such as 250m or 1.5Gi")
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4]
    digits = int(whole + fraction or "0")  # "Ki" is 0: an accident of upstream's scanner, kept
    if digits == 0:
        return 0
    if suffix in _BINARY:
        value = _ceil(digits * 1000 << _BINARY[suffix], len(fraction))
    else:
        power = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        value = _scaled(digits, power + 3 - len(fraction))
    value = min(value, MAX_MILLI)
    return -value if sign == "-" else value


def _scaled(digits: int, power: int) -> int:
    """ceil(digits x 10^power) without building a number of a billion digits: `digits` is 1 or more and below 10^128."""
    if power > 40:
        return MAX_MILLI
    if power < -2 * MAX_TEXT:
        return 1
    return digits * int(10**power) if power >= 0 else _ceil(digits, -power)


def _ceil(value: int, places: int) -> int:
    return -(-value // int(10**places))


def units(thousandths: int) -> int:
    """Whole base units, rounded up, at most MAX_QUANTITY."""
    return min(-(-thousandths // 1000), MAX_QUANTITY)
