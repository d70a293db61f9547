"""Quantities against a naive reading with fractions."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.core.model import MAX_QUANTITY
from carbon_scheduler.kube.quantity import MAX_MILLI, BadQuantity, milli, units

SUFFIXES = {
    "": Fraction(1),
    **{s: Fraction(10) ** p for s, p in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{s + "i": Fraction(1024) ** (n + 1) for n, s in enumerate("KMGTPE")},
}


def naive(sign: str, whole: str, fraction: str, factor: Fraction) -> int:
    exact = Fraction(int((whole + fraction) or "0"), 10 ** len(fraction)) * factor * 1000
    value = min(math.ceil(exact), MAX_MILLI)
    return -value if sign == "-" else value


digits = st.text("0123456789", max_size=25)


@given(
    sign=st.sampled_from(["", "+", "-"]),
    whole=digits,
    point=st.booleans(),
    fraction=digits,
    suffix=st.sampled_from(list(SUFFIXES)),
)
def test_every_suffix_equals_the_naive_fraction(sign: str, whole: str, point: bool, fraction: str, suffix: str) -> None:
    fraction = fraction if point else ""
    if not whole + fraction:
        whole = "0"
    text = sign + whole + ("." if point else "") + fraction + suffix
    assert milli(text) == naive(sign, whole, fraction, SUFFIXES[suffix])


@given(whole=st.integers(0, 10**20), exponent=st.integers(-60, 60), letter=st.sampled_from("eE"))
def test_every_exponent_equals_the_naive_fraction(whole: int, exponent: int, letter: str) -> None:
    want = min(math.ceil(Fraction(whole) * Fraction(10) ** exponent * 1000), MAX_MILLI)
    assert milli(f"{whole}{letter}{exponent}") == want


@given(st.text(max_size=40))
def test_any_text_is_a_quantity_or_a_bad_quantity(text: str) -> None:
    with contextlib.suppress(BadQuantity):
        assert -MAX_MILLI <= milli(text) <= MAX_MILLI


GOOD = {
    "a thousandth of a milli is rounded up": ("0.1m", 1),
    "a nano is rounded up to a milli": ("1n", 1),
    "zero stays zero with any suffix": ("0Ei", 0),
    "an empty fraction is allowed, as upstream does": ("1.G", 10**12),
    "an empty whole part is allowed": (".5", 500),
    "E alone is exa": ("1E", 10**21),
    "E with digits is an exponent": ("1E3", 10**6),
    "e with a plus": ("1e+3", 10**6),
    "a signed quantity keeps its sign": ("-1", -1000),
    "1e99 saturates": ("1e99", MAX_MILLI),
    "an absurd exponent saturates without being computed": ("1e999999999999", MAX_MILLI),
    "an absurd negative exponent is the least positive": ("1e-999999999999", 1),
    "zero with an absurd exponent is zero": ("0e999999999999", 0),
    "7Ei saturates": ("7Ei", MAX_MILLI),
    "no digits are zero, as upstream has it": ("Ki", 0),
    "space around it is allowed, as upstream does": (" 1\n", 1000),
    "trailing zeros change nothing": ("1.500000000Gi", 1610612736000),
}


@pytest.mark.parametrize("case", GOOD)
def test_good(case: str) -> None:
    text, want = GOOD[case]
    assert milli(text) == want


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 0",
        " ",
        "1ki",
        "1K",
        "1kk",
        "1e",
        "1e3k",
        "0x1",
        "1,5",
        "NaN",
        "inf",
        "1__0",
        "१",
        "1" * 129,
    ],
)
def test_bad(text: str) -> None:
    with pytest.raises(BadQuantity, match="expected a quantity such as 250m"):
        milli(text)


def test_units_round_up_and_saturate() -> None:
    assert units(1) == 1
    assert units(1000) == 1
    assert units(1001) == 2
    assert units(MAX_MILLI) == MAX_QUANTITY
    assert units(MAX_MILLI * 5) == MAX_QUANTITY
