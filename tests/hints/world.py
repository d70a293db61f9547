"""A cluster of API objects in memory that changes by a row's steps and tells the core what the API server would."""

from __future__ import annotations

import copy
import json
from itertools import count
from typing import TYPE_CHECKING, Any

from carbon_scheduler.core.events import (
    Event,
    NamespaceChanged,
    NamespaceGone,
    NodeChanged,
    NodeGone,
    ObjectChanged,
    ObjectGone,
    PodChanged,
    PodGone,
)
from carbon_scheduler.core.model import NodeName, PodUid
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.kinds import BY_NAME
from hints.row import WAITS, Step, other

if TYPE_CHECKING:
    from carbon_scheduler.core.objects import ObjectKind

JSON = dict[str, Any]
_TOLERATED = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("not-ready", "unreachable")
]
CLUSTER_WIDE = ("Node", "Namespace", "PersistentVolume", "StorageClass", "CSINode", "CSIDriver", "VolumeAttachment")


class World:
    """Every object by kind, namespace and name."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], JSON] = {}
        self._convert = Converter()
        self._versions = count(1)
        self._objects["Namespace", "", "default"] = other("Namespace", "default")

    def create(self, one: JSON, now: tuple[float, float]) -> Event:
        """With what the API server adds."""
        one = copy.deepcopy(one)
        kind, meta = one["kind"], one["metadata"]
        namespace = "" if kind in CLUSTER_WIDE else meta.setdefault("namespace", "default")
        meta.setdefault("uid", f"uid-{namespace}-{meta['name']}")
        if kind == "Pod":
            one["spec"]["tolerations"] = [*one["spec"].get("tolerations", ()), *_TOLERATED]
        return self._now_is((kind, namespace, meta["name"]), one, now)

    def take(self, step: Step, now: tuple[float, float]) -> Event:
        if step.verb == "create":
            return self.create(step.body, now)
        key = (step.kind, "" if step.kind in CLUSTER_WIDE else step.namespace, step.name)
        if step.verb == "delete":
            return self._gone(key, now)
        if step.part == "graceful-delete":
            marked = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
            return self._now_is(key, _merged(self._objects[key], marked), now)
        return self._now_is(key, _merged(self._objects[key], step.body), now)

    def uid(self, name: str = WAITS) -> PodUid:
        return PodUid(self._objects["Pod", "default", name]["metadata"]["uid"])

    def _now_is(self, key: tuple[str, str, str], one: JSON, now: tuple[float, float]) -> Event:
        one["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[key] = one
        body = json.dumps(one).encode()
        match key[0]:
            case "Pod":
                return PodChanged(*now, self._convert.pod(wire.PODS.one(body)))
            case "Node":
                return NodeChanged(*now, self._convert.node(wire.NODES.one(body)))
            case "Namespace":
                return NamespaceChanged(*now, self._convert.namespace(wire.NAMESPACES.one(body)))
            case kind:
                return ObjectChanged(*now, BY_NAME[kind].one(body))  # type: ignore[index]

    def _gone(self, key: tuple[str, str, str], now: tuple[float, float]) -> Event:
        one = self._objects.pop(key)
        kind, namespace, name = key
        match kind:
            case "Pod":
                return PodGone(*now, PodUid(one["metadata"]["uid"]))
            case "Node":
                return NodeGone(*now, NodeName(name))
            case "Namespace":
                return NamespaceGone(*now, name)
        known: ObjectKind = BY_NAME[kind].name  # type: ignore[index]
        return ObjectGone(*now, known, f"{namespace}/{name}" if namespace else name)


def _merged(one: JSON, patch: JSON) -> JSON:
    """RFC 7386: null removes, objects are merged, everything else is replaced."""
    made = dict(one)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            made[key] = _merged(made.get(key) or {}, value)
        else:
            made[key] = value
    return made
