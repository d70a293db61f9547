"""Which of the pods that wait are worth another attempt, now that something has changed.

Each plugin that kept nodes from a pod says what may help it (upstream's queueing hints). Asked are only plugins that want to
hear of such a change, and only once for all pods alike: a thousand waiting pods must not make every event of the cluster dear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from carbon_scheduler.core.cluster import Cluster
    from carbon_scheduler.core.evictions import Evictions
    from carbon_scheduler.core.framework import Framework
    from carbon_scheduler.core.model import Pod, PodUid
    from carbon_scheduler.core.objects import ObjectKind
    from carbon_scheduler.core.plugin import Change, ChangeKind, NodePart, Plugin
    from carbon_scheduler.core.queue import Queue


class Waking:
    """`frameworks` by the scheduler name that they serve."""

    def __init__(
        self, frameworks: Mapping[str, Framework], cluster: Cluster, queue: Queue, evictions: Evictions
    ) -> None:
        self._frameworks = frameworks
        self._cluster = cluster
        self._queue = queue
        self._evictions = evictions
        self._hearing: dict[tuple[ChangeKind | ObjectKind, frozenset[NodePart] | None], frozenset[str]] = {}

    def wake(self, at: float, change: Change, at_most: int | None = None) -> None:
        """Moves the parked pods that a change may help: all, or those of a priority of `at_most`."""
        if not self._queue.any_parked:
            return
        hearing = self._who_hears(change)

        def heard_by(rejecting: tuple[str, ...]) -> bool:  # by none: there was no node
            return not hearing.isdisjoint(rejecting) if rejecting else change.kind == "node"

        def woken_by(uid: PodUid, rejecting: tuple[str, ...]) -> bool:
            pod = self._cluster.pods[uid]
            framework = self._frameworks.get(pod.scheduler_name)
            if framework is None or pod.refusal or (at_most is not None and pod.spec.priority > at_most):
                return False  # of another scheduler: it is just being taken from the queue
            woken = not rejecting or framework.wakes(pod, rejecting, change)
            if woken and uid in self._evictions:
                self._evictions.disturb(uid)
                return False
            return woken

        self._queue.wake(at, woken_by, heard_by)

    def _who_hears(self, change: Change) -> frozenset[str]:
        """The plugins, of whatever profile, that want to be asked about such changes."""
        what = (change.topic, change.node_parts)
        if (known := self._hearing.get(what)) is None:
            plugins = (plugin for framework in self._frameworks.values() for plugin in framework.plugins)
            known = self._hearing[what] = frozenset(plugin.name for plugin in plugins if _hears(plugin, *what))
        return known

    def helped_itself(self, change: Change, rejecting: tuple[str, ...]) -> bool:
        """Whether a waiting pod's own change is worth another attempt."""
        pod = change.pod
        assert pod is not None
        framework = self._frameworks.get(pod.scheduler_name)
        woken = framework is not None and (not rejecting or framework.wakes(pod, rejecting, change))
        if woken and pod.uid in self._evictions:
            self._evictions.disturb(pod.uid)
            return False
        return woken


def _hears(plugin: Plugin, topic: ChangeKind | ObjectKind, parts: frozenset[NodePart] | None) -> bool:
    """Whether a plugin wants to be asked about changes of a topic; of nodes, of these parts."""
    if plugin.hears is not None and topic not in plugin.hears:
        return False
    if parts is None or plugin.hears_of_nodes is None:
        return parts is None or bool(parts)
    return not parts.isdisjoint(plugin.hears_of_nodes) or ("taints" in parts and plugin.wakes_on_taints)


def alike(pod: Pod) -> Hashable:
    """What of a waiting pod the hints look at: its spec, which it keeps alive; for an ephemeral volume also its name."""
    named = any(volume.kind == "ephemeral" for volume in pod.spec.volumes)
    return (id(pod.spec), pod.scheduler_name, bool(pod.refusal), pod.name if named else "")
