"""What became of pods, read from the API: where they are and why, or why they wait. Waits are polls with a deadline."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from real_cluster import eventually

if TYPE_CHECKING:
    from real_cluster import Cluster

JSON = dict[str, Any]
PREFIX = "carbon-scheduler.io/"


def node_of(pod: JSON) -> str:
    return str(pod["spec"].get("nodeName", ""))


def decision_of(pod: JSON) -> JSON:
    """What the Binding wrote on the pod."""
    made: JSON = json.loads(pod["metadata"]["annotations"][PREFIX + "decision"])
    return made


def waits_for(pod: JSON) -> JSON | None:
    """Its PodScheduled=False condition, if it has one."""
    conditions = pod.get("status", {}).get("conditions", [])
    return next((c for c in conditions if (c["type"], c["status"]) == ("PodScheduled", "False")), None)


async def bound(cluster: Cluster, *names: str, within_s: float = 20.0) -> list[JSON]:
    """The pods once all have a node."""
    found: list[JSON] = []

    async def all_bound() -> bool:
        found[:] = [await cluster.get("Pod", name) for name in names]
        return all(node_of(pod) for pod in found)

    await eventually(all_bound, f"{', '.join(names)} bound", within_s=within_s, every_s=0.02)
    return found


async def nodes_of(cluster: Cluster, *names: str, within_s: float = 20.0) -> list[str]:
    return [node_of(pod) for pod in await bound(cluster, *names, within_s=within_s)]


async def pending(cluster: Cluster, name: str, message: str = "", within_s: float = 20.0) -> JSON:
    """The PodScheduled=False condition once the pod has one (with words in its message)."""
    found: list[JSON] = []

    async def there() -> bool:
        pod = await cluster.get("Pod", name)
        condition = waits_for(pod)
        found[:] = [condition] if condition else []
        assert not node_of(pod), f"{name} is bound to {node_of(pod)}, expected that it waits"
        return bool(condition) and message in (condition or {}).get("message", "")

    await eventually(there, f"{name} waits and says {message!r}", within_s=within_s, every_s=0.02)
    return found[0]


async def events_of(cluster: Cluster, name: str, reason: str, namespace: str = "default") -> list[JSON]:
    """Events of events.k8s.io about a pod."""
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events?fieldSelector=reason={reason}"
    return [event for event in (await cluster.call("GET", path))["items"] if event["regarding"]["name"] == name]


async def an_event(cluster: Cluster, name: str, reason: str) -> JSON:
    """The one event of that reason, once it is written."""
    found: list[JSON] = []

    async def written() -> bool:
        found[:] = await events_of(cluster, name, reason)
        return bool(found)

    await eventually(written, f"an event {reason} about {name}")
    assert len(found) == 1, found
    return found[0]


async def seconds_until_bound(cluster: Cluster, name: str, since_s: float) -> float:
    """From `since_s` (monotonic) until the API shows the pod's node, to about 20 ms."""
    await bound(cluster, name)
    return time.monotonic() - since_s
