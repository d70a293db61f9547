"""The core's settings: a frozen part of the configuration, all of it data."""

from __future__ import annotations

from typing import Literal

from carbon_scheduler.core.model import GridZone, NodeSelectorTerm, PreferredTerm, SpreadConstraint, Struct

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


class PluginSet(Struct, frozen=True):
    """What a profile says of one extension point: plugins to add or to weigh anew, as (name, weight), and those to take
    away, "*" for all. A weight of 0 is 1, as upstream has it."""

    enabled: tuple[tuple[str, int], ...] = ()
    disabled: tuple[str, ...] = ()


Strategy = Literal["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"]
DEFAULT_RESOURCES = (("cpu", 1), ("memory", 1))


class FitArgs(Struct, frozen=True):
    """NodeResourcesFitArgs. `resources` are (name, weight); `shape` (utilisation 0..100, score 0..10), rising."""

    strategy: Strategy = "LeastAllocated"
    resources: tuple[tuple[str, int], ...] = DEFAULT_RESOURCES
    shape: tuple[tuple[int, int], ...] = ()
    ignored_resources: tuple[str, ...] = ()
    ignored_resource_groups: tuple[str, ...] = ()


class AddedAffinity(Struct, frozen=True):
    """Node affinity that a profile adds to that of each of its pods. `required` None: nothing is."""

    required: tuple[NodeSelectorTerm, ...] | None = None
    preferred: tuple[PreferredTerm, ...] = ()


class Profile(Struct, frozen=True):
    """How the pods of one scheduler name are scheduled: KubeSchedulerProfile of kubescheduler.config.k8s.io/v1."""

    scheduler_name: str = "carbon-aware-scheduler"
    plugins: dict[str, PluginSet] = {}  # noqa: RUF012  # each Struct gets its own
    """Extension point -> what differs from the default there; "multiPoint" is all of them."""
    fit: FitArgs = FitArgs()
    balanced_resources: tuple[str, ...] = ("cpu", "memory")
    added_affinity: AddedAffinity = AddedAffinity()
    hard_pod_affinity_weight: int = 1
    ignore_preferred_terms_of_existing_pods: bool = False
    default_constraints: tuple[SpreadConstraint, ...] | None = None
    """For pods without constraints of their own; their selector is taken from the pod. None: upstream's system defaults."""
    min_candidate_nodes_percentage: int = 10
    min_candidate_nodes_absolute: int = 100
    """Of how many nodes preemption makes out the victims before it chooses."""
    bind_timeout_s: float = 600.0
    """How long the volumes of a pod may take to be bound."""
    policy: Policy | None = None
    """The carbon policy of its pods; None: the one of `Placement`."""


class Settings(Struct, frozen=True):
    """Everything the core is told at the start. Times in seconds."""

    profiles: tuple[Profile, ...] = (Profile(),)
    """At least one; their scheduler names differ."""
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
    preemption: bool = True
    """Whether pods of higher priority may evict others. A profile may switch it off for its own pods."""
    first_data_wait_s: float = 5.0
    """How long decisions wait for the first answer of a grid zone's source (design 3.6)."""
