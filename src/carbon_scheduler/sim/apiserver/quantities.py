"""Resource quantities as the API server reads and rewrites them (apimachinery pkg/api/resource)."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

_FORM: Final = re.compile(
    r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?|[eE]([+-]?[0-9]+))"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_EXACT: Final = Context(prec=200)
_MAX_EXPONENT: Final = 120
MAX_INT64: Final = 2**63 - 1


def parse(quantity: object) -> Decimal:
    """The number. Raises ValueError in the server's words when it is none. Exponents beyond 120 saturate."""
    found = _FORM.fullmatch(str(quantity).strip()) if isinstance(quantity, str | int | float) else None
    if not found or isinstance(quantity, bool) or len(found.group(0)) > 150:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    sign, digits, suffix, exponent = found.groups()
    number = Decimal(sign + digits)
    if exponent is not None:
        power = int(exponent) if len(exponent) < 5 else (-_MAX_EXPONENT if exponent[0] == "-" else _MAX_EXPONENT)
        return _EXACT.scaleb(number, max(-_MAX_EXPONENT, min(_MAX_EXPONENT, power)))
    if suffix in _BINARY:
        return _EXACT.multiply(number, Decimal(1 << _BINARY[suffix]))
    return _EXACT.scaleb(number, _DECIMAL[suffix or ""])


def canonical(quantity: object) -> str:
    """The form that the server answers with: `1.5` is `1500m`, `2000` is `2k`, `1.5Gi` is `1536Mi`, `0.1m` is `1m`.

    Exponents, explicit plus signs and what exceeds int64 stay as they are, as upstream.
    """
    number = parse(quantity)
    written = str(quantity).strip()
    found = _FORM.fullmatch(written)
    if found is None or found.group(1) == "+" or found.group(4) is not None or abs(number) > MAX_INT64:
        return written
    thousandths = int((number * 1000).to_integral_value(ROUND_CEILING))
    if found.group(3) in _BINARY and thousandths % 1000 == 0 and abs(thousandths) >= 1_024_000:
        return _shortest(thousandths // 1000, 1024, ("", *_BINARY))
    return _shortest(thousandths, 1000, ("m", "", "k", "M", "G", "T", "P", "E"))


def _shortest(whole: int, step: int, suffixes: tuple[str, ...]) -> str:
    if whole == 0:
        return "0"
    place = 0
    while whole % step == 0 and place + 1 < len(suffixes):
        whole //= step
        place += 1
    return f"{whole}{suffixes[place]}"
