"""Upstream's plugins, in the order of the default profile of kube-scheduler v1.36.3, and what profiles make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.plugins.image_locality import ImageLocality
from carbon_scheduler.core.plugins.inter_pod_affinity import InterPodAffinity
from carbon_scheduler.core.plugins.node_affinity import NodeAffinity
from carbon_scheduler.core.plugins.node_declared_features import NodeDeclaredFeatures
from carbon_scheduler.core.plugins.node_name import NodeName
from carbon_scheduler.core.plugins.node_ports import NodePorts
from carbon_scheduler.core.plugins.node_volume_limits import NodeVolumeLimits
from carbon_scheduler.core.plugins.part import Part
from carbon_scheduler.core.plugins.pod_topology_spread import PodTopologySpread
from carbon_scheduler.core.plugins.profiles import IMPLEMENTS, enabled
from carbon_scheduler.core.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from carbon_scheduler.core.plugins.taints import NodeUnschedulable, TaintToleration
from carbon_scheduler.core.plugins.volume_binding import VolumeBinding
from carbon_scheduler.core.plugins.volume_restrictions import VolumeRestrictions
from carbon_scheduler.core.plugins.volume_zone import VolumeZone
from carbon_scheduler.core.settings import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.core.plugin import Plugin

_MAKERS: Final[dict[str, Callable[[Profile], Plugin]]] = {
    "NodeUnschedulable": lambda _: NodeUnschedulable(),
    "NodeName": lambda _: NodeName(),
    "TaintToleration": lambda _: TaintToleration(),
    "NodeAffinity": lambda p: NodeAffinity(p.added_affinity),
    "NodePorts": lambda _: NodePorts(),
    "NodeResourcesFit": lambda p: NodeResourcesFit(p.fit),
    "VolumeRestrictions": lambda _: VolumeRestrictions(),
    "NodeVolumeLimits": lambda _: NodeVolumeLimits(),
    "VolumeBinding": lambda _: VolumeBinding(),
    "VolumeZone": lambda _: VolumeZone(),
    "PodTopologySpread": lambda p: PodTopologySpread(p.default_constraints),
    "InterPodAffinity": lambda p: InterPodAffinity(
        p.hard_pod_affinity_weight,
        ignore_preferred_terms_of_existing_pods=p.ignore_preferred_terms_of_existing_pods,
    ),
    "NodeResourcesBalancedAllocation": lambda p: NodeResourcesBalancedAllocation(p.balanced_resources),
    "ImageLocality": lambda _: ImageLocality(),
    "NodeDeclaredFeatures": lambda _: NodeDeclaredFeatures(),
}
"""Each plugin that filters or scores, as a profile's arguments make it. Their order is `profiles.IMPLEMENTS`'."""


def make_profile(profile: Profile) -> tuple[Plugin, ...]:
    """The enabled plugins in the order in which they filter, then those that only score. `profile` has no `problems`."""
    on = enabled(profile)
    made: list[Plugin] = []
    for name in dict.fromkeys((*on.filters, *on.prepares, *on.scores)):
        if name not in _MAKERS:
            continue
        points = IMPLEMENTS[name]
        filters, scores = name in on.filters, name in on.scores
        if "filter" not in points and not scores:
            continue
        plugin = _MAKERS[name](profile)
        if ("filter" in points and not filters) or ("score" in points and not scores):
            plugin = Part(plugin, filters=filters, prepares=name in on.prepares, scores=scores)
        plugin.weight = on.scores.get(name, 0)
        made.append(plugin)
    return tuple(made)


def default_profile() -> tuple[Plugin, ...]:
    """What kube-scheduler enables without a configuration (apis/config/v1/default_plugins.go)."""
    return make_profile(Profile())
