"""A carbon-aware Kubernetes scheduler: where and when a pod runs follows the carbon intensity of electricity."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from carbon_scheduler.providers.client import CarbonIntensityClient as CarbonIntensityClient


def __getattr__(name: str) -> object:
    """`from carbon_scheduler import CarbonIntensityClient`, imported when asked for: the core and `--help` do without HTTP."""
    if name == "CarbonIntensityClient":
        from carbon_scheduler.providers.client import CarbonIntensityClient

        return CarbonIntensityClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
