"""Upstream's plugins, in the order of the default profile of kube-scheduler v1.36.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon_scheduler.core.plugins.node_affinity import NodeAffinity
from carbon_scheduler.core.plugins.node_name import NodeName
from carbon_scheduler.core.plugins.node_ports import NodePorts
from carbon_scheduler.core.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from carbon_scheduler.core.plugins.taints import NodeUnschedulable, TaintToleration

if TYPE_CHECKING:
    from carbon_scheduler.core.plugin import Plugin


def default_profile() -> tuple[Plugin, ...]:
    """The enabled plugins, in the order in which they filter (apis/config/v1/default_plugins.go)."""
    return (
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        NodeResourcesBalancedAllocation(),
    )
