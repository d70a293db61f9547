"""The core's settings: a frozen part of the configuration, all of it data."""

from __future__ import annotations

from typing import Literal

from carbon_scheduler.core.model import GridZone, Struct

Policy = Literal["carbon-first", "weighted", "off"]
"""How carbon and upstream's score share a decision (design section 3.3)."""

Signal = Literal["average-lifecycle", "average-direct", "marginal"]
"""What kind of intensity a value is. Values of different signals are never ranked together."""


class Placement(Struct, frozen=True):
    """How carbon and upstream's score share a decision (design section 3.3)."""

    policy: Policy = "carbon-first"
    tolerance_frac: float = 0.05
    """Feasible nodes within this fraction of the cheapest count as equally clean."""
    tolerance_g_per_kwh: float = 5.0
    """... and at least this much, times the node's energy."""
    carbon_weight: int = 10
    """Weight of the carbon score under `weighted`; upstream's weights add up to 9 without volumes."""


class Settings(Struct, frozen=True):
    """Everything the core is told at the start. Times in seconds."""

    scheduler_names: tuple[str, ...] = ("carbon-aware-scheduler",)
    placement: Placement = Placement()
    default_grid_zone: GridZone | None = None
    """For nodes without a label or a known cloud region; None: such nodes have no carbon value."""
    signal: Signal = "average-lifecycle"
    """The kind of intensity that decides; a value of another kind counts as none."""
    initial_backoff_s: float = 1.0
    max_backoff_s: float = 10.0
    """podInitialBackoffSeconds and podMaxBackoffSeconds of kube-scheduler."""
    flush_unschedulable_s: float = 300.0
    """--pod-max-in-unschedulable-pods-duration of kube-scheduler: tried again after this even when nothing happened."""
    first_data_wait_s: float = 5.0
    """How long decisions wait for the first answer of a grid zone's source (design 3.6)."""
