"""Which pods a pod without spread constraints of its own is to be spread among: those of its Services and of its owner.

Source: kube-scheduler v1.36.3 framework/plugins/helper/spread.go (DefaultSelector, GetPodServices).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.model import Requirement
from carbon_scheduler.core.objects import Service, Workload
from carbon_scheduler.core.selectors import fault

if TYPE_CHECKING:
    from carbon_scheduler.core.model import PodSpec, Selector
    from carbon_scheduler.core.objects import ObjectKind, Objects

_OWNERS: Final[dict[tuple[str, str], ObjectKind]] = {
    ("v1", "ReplicationController"): "ReplicationController",
    ("apps/v1", "ReplicaSet"): "ReplicaSet",
    ("apps/v1", "StatefulSet"): "StatefulSet",
}


class DefaultSelectors:
    """Services by namespace, found anew when any of them has changed. Cost: O(Services) then, O(those of the pod's namespace)
    for an answer."""

    def __init__(self) -> None:
        self._services: dict[str, list[tuple[tuple[str, str], ...]]] = {}
        self._version = -1

    def versions(self, objects: Objects) -> tuple[int, ...]:
        """Equal while every answer stays what it is."""
        version = objects.version
        return version["Service"], version["ReplicationController"], version["ReplicaSet"], version["StatefulSet"]

    def of(self, spec: PodSpec, objects: Objects) -> Selector:
        """The selector; () when nothing selects the pod, and then it is not to be spread."""
        labels = dict(spec.labels)
        asked: dict[str, str] = {}
        for selector in self._in_namespace(spec.namespace, objects):
            if all(labels.get(key) == value for key, value in selector):
                asked.update(selector)
        further: tuple[Requirement, ...] = ()
        if (owner := self._owner(spec, objects)) is not None:
            if owner.kind == "ReplicationController":
                asked.update((r.key, r.values[0]) for r in owner.selector or ())
            elif not fault(owner.selector):
                further = owner.selector or ()
        return (*(Requirement(key, "In", (value,)) for key, value in sorted(asked.items())), *further)

    def _in_namespace(self, namespace: str, objects: Objects) -> list[tuple[tuple[str, str], ...]]:
        if self._version != objects.version["Service"]:
            self._version = objects.version["Service"]
            self._services = {}
            for found in objects.all("Service").values():
                if isinstance(found, Service) and found.selector:
                    self._services.setdefault(found.namespace, []).append(found.selector)
        return self._services.get(namespace, [])

    def _owner(self, spec: PodSpec, objects: Objects) -> Workload | None:
        if spec.owner is None:
            return None
        kind = _OWNERS.get((spec.owner.api_version, spec.owner.kind))
        if kind is None:
            return None
        found = objects.all(kind).get(f"{spec.namespace}/{spec.owner.name}")
        return found if isinstance(found, Workload) else None
