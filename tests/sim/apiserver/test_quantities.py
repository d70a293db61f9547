"""Quantities. (The contract suite compares the canonical forms with upstream's.)"""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.sim.apiserver.quantities import canonical, parse

VALUES = {
    "1": Decimal(1),
    "100m": Decimal("0.1"),
    "1.5Gi": Decimal(1610612736),
    "1e3": Decimal(1000),
    "-1": Decimal(-1),
    "+2k": Decimal(2000),
    "5n": Decimal("5e-9"),
    "1E": Decimal(10) ** 18,
    "1E2": Decimal(100),
    "1.": Decimal(1),
    "1e999999999": Decimal(10) ** 120,
}


def test_parsing() -> None:
    assert {written: parse(written) for written in VALUES} == VALUES


@pytest.mark.parametrize(
    "written", ["", " ", "abc", "1x", "1KI", "--1", "1e", "e1", ".", "1 k", "1" * 200, None, True, [], "١"]
)
def test_what_is_no_quantity(written: object) -> None:
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        parse(written)


@given(
    st.decimals(min_value=-(10**6), max_value=10**6, places=3),
    st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi"]),
)
def test_the_canonical_form_is_stable_and_never_less(number: Decimal, suffix: str) -> None:
    written = f"{number:f}{suffix}"
    once = canonical(written)
    assert canonical(once) == once
    assert 0 <= parse(once) - parse(written) < Decimal("0.001")
