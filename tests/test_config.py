"""The configuration: what the core is told of it."""

from __future__ import annotations

import pytest

from carbon_scheduler.config import Config, ElectricityMapsConfig
from carbon_scheduler.providers.electricity_maps_body import SIGNALS, FactorType


@pytest.mark.parametrize("factor_type", SIGNALS)
def test_what_the_source_delivers_is_what_decides(factor_type: FactorType) -> None:
    """Were they different kinds, every live value would count as none, and nobody would be told."""
    config = Config(electricity_maps=ElectricityMapsConfig(emission_factor_type=factor_type))
    assert config.settings(None).signal == SIGNALS[factor_type]
