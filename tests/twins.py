"""A case of the generator as a cluster on a real API server, and what two schedulers make of the same pod there.

Every pending pod exists twice, alike but for its name and its scheduler. What can be told apart by nothing else must be told
alike: conditions, events, nominations, victims. `plain` takes out what must differ: names, uids, times.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

from carbon_scheduler.core.objects import Claim
from carbon_scheduler.core.preemption import Enough, Preemption
from carbon_scheduler.kube.cases import Judge, read_case
from carbon_scheduler.kube.kinds import KINDS
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from real_cluster import Cluster

JSON = dict[str, Any]
Whose = Literal["theirs", "ours"]
Fate = Literal["fits", "waits", "stuck", "preempts", "error"]

SCHEDULERS: Final[dict[Whose, str]] = {"theirs": "default-scheduler", "ours": "carbon-aware-scheduler"}
EVENTS: Final = "/apis/events.k8s.io/v1/namespaces/default/events"
SETTLE_S: Final = 0.15
"""Until both schedulers have surely heard what was done. When it is too short, what differs is looked at again."""
SOON_S: Final = 15.0

_LISTS: Final[dict[str, tuple[str, bool]]] = {kind.listed_as: (kind.path, kind.namespaced) for kind in KINDS} | {
    "nodes": ("/api/v1/nodes", False),
    "pods": ("/api/v1/pods", True),
    "namespaces": ("/api/v1/namespaces", False),
}
_NAMES: Final = {kind.listed_as: kind.name for kind in KINDS} | {
    "nodes": "Node",
    "pods": "Pod",
    "namespaces": "Namespace",
}
_ORDER: Final = (
    ("namespaces", "storageclasses", "csidrivers", "csinodes", "services"),
    ("replicationcontrollers", "replicasets", "statefulsets", "csistoragecapacities", "pdbs"),
    ("pods",),
    ("pvcs",),
    ("pvs", "volumeattachments"),
)
"""Who is named by uid comes before who names it."""
_UID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMES: Final = ("lastTransitionTime", "lastProbeTime")


class World:
    """The cluster of one case. Everything else on the API server is cleared away."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.refused: Counter[str] = Counter()
        """Objects that the API server did not take, by their list."""
        self._case: JSON = {}
        self._there: dict[str, list[JSON]] = {}
        self._uids: dict[str, str] = {}
        self._namespaces = {"default"}

    async def build(self, case: JSON) -> None:
        self._case = case
        await self.clear()
        self._there, self._uids = {}, {}
        await asyncio.gather(*(self._namespace(name, {}) for name in sorted(self._namespaces)))
        for node in case.get("nodes", ()):  # the first that has an image says how large it is
            await self._add("nodes", node)
        for step in _ORDER:
            await asyncio.gather(*(self._add(name, one) for name in step for one in case.get(name, ())))
        if any(node["status"].get("images") for node in self._there.get("nodes", ())):
            # kube-scheduler scores a node by the counts of when something last happened to it.
            await asyncio.sleep(SETTLE_S)
            touch = {"metadata": {"annotations": {"example.com/touched": "yes"}}}
            names = [node["metadata"]["name"] for node in self._there["nodes"]]
            await asyncio.gather(*(self._cluster.patch("Node", name, touch) for name in names))
        self._there["namespaces"] = await self._cluster.list("Namespace")
        await asyncio.sleep(SETTLE_S)

    async def rebuild(self) -> None:
        """The same again, whatever has become of it."""
        await self.build(self._case)

    async def clear(self) -> None:
        for name, (path, namespaced) in _LISTS.items():
            if name != "namespaces":
                where = [_at(path, space) for space in sorted(self._namespaces)] if namespaced else [path]
                await asyncio.gather(*(self._cluster.call("DELETE", f"{one}?gracePeriodSeconds=0") for one in where))
        await self._cluster.call("DELETE", EVENTS)

    def question(self, pod: JSON) -> bytes:
        """The same as a case: what is there, as it is stored, and a pod."""
        return json.dumps({"id": self._case["id"], **self._there, "pod": pod}).encode()

    async def stored(self, pod: JSON) -> JSON | None:
        """What the API server would make of a pod; None if it would not take it."""
        try:
            return await self._cluster.call("POST", "/api/v1/namespaces/default/pods?dryRun=All", pod)
        except AssertionError:
            self.refused["pending pods"] += 1
            return None

    async def _add(self, name: str, one: JSON) -> None:
        path, namespaced = _LISTS[name]
        text = json.dumps(one)
        for old, new in self._uids.items():
            text = text.replace(json.dumps(old), json.dumps(new))
        body: JSON = {"apiVersion": _version(path), "kind": _NAMES[name], **json.loads(text)}
        _complete(name, body)
        meta = body["metadata"]
        uid, terminating = meta.pop("uid", None), bool(meta.pop("deletionTimestamp", None))
        status = body.get("status") or {}
        if name == "pods" and not body["spec"].get("nodeName"):
            return  # others that wait would be scheduled meanwhile
        space = meta.get("namespace", "default") if namespaced else ""
        if space and space not in self._namespaces:
            await self._namespace(space, {})
        try:
            if name == "namespaces":
                made = await self._namespace(meta["name"], meta.get("labels") or {})
            else:
                made = await self._cluster.call("POST", _at(path, space), body)
        except AssertionError:
            self.refused[name] += 1
            return
        mine = f"{_at(path, space)}/{meta['name']}"
        if status and name not in ("nodes", "namespaces"):  # what is sent with POST is kept of nodes alone
            made = await self._cluster.call("PATCH", f"{mine}/status", {"status": status})
        if terminating and name == "pods" and status.get("phase") not in ("Succeeded", "Failed"):
            # Of the others only those with finalizers live on; pods have as long as this until somebody ends them.
            made = await self._cluster.call("DELETE", f"{mine}?gracePeriodSeconds=3600")
        if uid:
            self._uids[uid] = made["metadata"]["uid"]
        self._there.setdefault(name, []).append(made)

    async def _namespace(self, name: str, labels: JSON) -> JSON:
        """Namespaces last: nobody is there who would take them away."""
        self._namespaces.add(name)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            await self._cluster.call("POST", "/api/v1/namespaces", body)
        except AssertionError as error:
            if ": 409: " not in str(error):
                raise
        return await self._cluster.patch("Namespace", name, {"metadata": {"labels": {**labels, "$patch": "replace"}}})


class Twins:
    """Pods of both schedulers in one world."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self._cluster = cluster
        self._world = world

    def named(self, pod: JSON, name: str, whose: Whose) -> JSON:
        """A pending pod of a case as it is created."""
        spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
        labels = pod["metadata"].get("labels") or {}
        spec["schedulerName"] = SCHEDULERS[whose]
        metadata = {"name": f"{name}-{whose}", "namespace": "default", "labels": labels}
        made = json.loads(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        _complete("pods", made)
        return made  # type: ignore[no-any-return]

    async def create(self, pod: JSON) -> None:
        await self._cluster.call("POST", "/api/v1/namespaces/default/pods", pod)

    async def remove(self, *names: str) -> None:
        """At once; what is gone already is fine."""
        await asyncio.gather(*(self._remove(name) for name in names))

    async def _remove(self, name: str) -> None:
        try:
            await self._cluster.delete("Pod", name)
        except AssertionError as error:
            if ": 404: " not in str(error):
                raise

    async def when(self, name: str, ready: Callable[[JSON, list[JSON]], object]) -> tuple[JSON, list[JSON]]:
        """The pod and the events about it, as soon as both are as they have to be, or as they are after a while."""
        pod: JSON = {}
        events: list[JSON] = []

        async def there() -> bool:
            nonlocal pod, events
            pod = await self._cluster.get("Pod", name)
            uid = pod["metadata"]["uid"]
            found = await self._cluster.call("GET", EVENTS)
            events = [one for one in found["items"] if one["regarding"].get("uid") == uid or uid in one["note"]]
            return bool(ready(pod, events))

        await _until(there)
        return pod, events

    async def tell_unschedulable(self, name: str) -> JSON:
        """All that can be seen of a pod that was not scheduled."""
        pod, events = await self.when(name, _told)
        condition = scheduled_condition(pod)
        said = [one for one in events if one["note"] == condition.get("message", "")[:1024]] or events
        return plain(
            {
                "node": pod["spec"].get("nodeName"),
                "nominated": pod["status"].get("nominatedNodeName"),
                "conditions": pod["status"].get("conditions"),
                "event": said[-1] if said else None,
            }
        )

    async def tell_scheduled(self, name: str) -> tuple[str, JSON]:
        """The node, and all else that can be seen of a pod that was scheduled."""
        pod, events = await self.when(
            name, lambda pod, events: pod["spec"].get("nodeName") and any(e["reason"] == "Scheduled" for e in events)
        )
        node = pod["spec"].get("nodeName", "")
        event = next((one for one in events if one["reason"] == "Scheduled"), None)
        told = {
            "nominated": pod["status"].get("nominatedNodeName"),
            "conditions": pod["status"].get("conditions"),
            "event": event,
        }
        text = json.dumps(told).replace(f" to {node}", " to NODE")
        return node, plain(json.loads(text))

    async def tell_preempting(self, name: str) -> tuple[str, JSON]:
        """Where room is made, and all else that can be seen of it: on the pod, and on its victims."""
        pod, events = await self.when(
            name,
            lambda pod, events: (
                _told(pod, events)
                and pod["status"].get("nominatedNodeName")
                and any(e["reason"] == "Preempted" for e in events)
            ),
        )
        await asyncio.sleep(SETTLE_S)
        _, events = await self.when(name, lambda *_: True)
        node = pod["status"].get("nominatedNodeName", "")
        victims = {
            one["metadata"]["name"]: next((c for c in _conditions(one) if c["type"] == "DisruptionTarget"), None)
            for one in await self._cluster.list("Pod")
            if any(c["type"] == "DisruptionTarget" for c in _conditions(one))
        }
        told = {
            "conditions": pod["status"].get("conditions"),
            "event": next((one for one in events if one["reason"] == "FailedScheduling"), None),
            "victims": victims,
            "preempted": sorted(
                (e for e in events if e["reason"] == "Preempted"), key=lambda e: e["regarding"]["name"]
            ),
        }
        return node, plain(told)

    async def tell_waiting(self, name: str) -> tuple[str, JSON]:
        """Where a pod is going to be that waits for its volumes, and what is written down for these."""
        pod, _ = await self.when(name, lambda pod, _: pod["status"].get("nominatedNodeName"))
        await asyncio.sleep(SETTLE_S)
        claims, volumes = await asyncio.gather(
            self._cluster.call("GET", "/api/v1/namespaces/default/persistentvolumeclaims"),
            self._cluster.call("GET", "/api/v1/persistentvolumes"),
        )
        node = pod["status"].get("nominatedNodeName", "")
        told = {
            "node": pod["spec"].get("nodeName"),
            "conditions": pod["status"].get("conditions"),
            "claims": {one["metadata"]["name"]: one["metadata"].get("annotations") for one in claims["items"]},
            "volumes": {
                one["metadata"]["name"]: (one["metadata"].get("annotations"), _claim(one)) for one in volumes["items"]
            },
        }
        return node, plain(told)


def fate(question: bytes) -> tuple[Fate, list[str]]:
    """What becomes of a pod, in the core's opinion, and on which nodes it may: the best ones, all of them where it waits for
    volumes."""
    case = read_case(question)
    judge = Judge(grid_zones())
    pod = judge.load(case)
    if pod.refusal:
        return "error", []
    verdict, nominations = judge.judge(pod)
    feasible = [name for name, (code, *_) in verdict.status().items() if code == "Success"]
    if verdict.error or (verdict.failed and len(feasible) > 1):
        return "error", []
    if not feasible:
        outcome = Preemption(judge.cluster, nominations).attempt(pod, verdict, Enough())
        return ("stuck" if outcome.node is None else "preempts"), []
    answer = judge.ask(pod)
    totals: dict[str, int] = getattr(answer, "totals", {})
    best = feasible if len(feasible) == 1 else [name for name in feasible if totals[name] == max(totals.values())]
    bound = {
        one.name
        for one in judge.cluster.snap.objects.all("PersistentVolumeClaim").values()
        if isinstance(one, Claim) and one.volume_name
    }
    waits = any(volume.kind == "claim" and volume.ref not in bound for volume in pod.spec.volumes)
    return ("waits" if waits else "fits"), best


def plain(value: JSON) -> JSON:
    """Without what differs between twins, and from run to run."""
    text = json.dumps(value)
    for whose, scheduler in SCHEDULERS.items():
        text = text.replace(f"-{whose}", "-twin").replace(scheduler, "SCHEDULER")
    found: JSON = json.loads(_UID.sub("UID", text))
    for event in found.get("preempted", ()):
        event.pop("related", None)  # a named deviation: kube-scheduler 1.36 leaves it out, by accident
    for event in [found.get("event"), *found.get("preempted", ())]:
        if event is not None:
            for key in ("metadata", "eventTime", "series", *(k for k in event if k.startswith("deprecated"))):
                event.pop(key, None)
            event["regarding"].pop("resourceVersion", None)  # likewise: ours count repeats by what they say
    for condition in [*(found.get("conditions") or ()), *(found.get("victims") or {}).values()]:
        for key in _TIMES:
            if condition.get(key):
                condition[key] = "TIME"
    return found


def _complete(name: str, one: JSON) -> None:
    """What validation wants and no scheduler looks at; and without what 1.36 has switched off."""
    spec = one.get("spec") or {}
    if name == "pods":
        spec["tolerations"] = [t for t in spec.get("tolerations") or () if t.get("operator") not in ("Gt", "Lt")]
        for container in [*spec["containers"], *(spec.get("initContainers") or ())]:
            container.setdefault("image", "app")
            if container.get("restartPolicyRules"):
                container.setdefault("restartPolicy", "Never")
            _limit(container)
        _limit(spec)
    elif name == "services":
        spec["ports"] = [{"port": 80}]
    elif name == "nodes" and one["status"].get("declaredFeatures"):
        one["status"]["declaredFeatures"].sort()
    elif name in ("replicationcontrollers", "replicasets", "statefulsets"):
        selector = spec.get("selector") or {}
        labels = selector if name == "replicationcontrollers" else selector.get("matchLabels")
        spec["template"] = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "app"}]}}


def _limit(of: JSON) -> None:
    """Resources that are not over-committed need a limit; this one's name is not valid."""
    requests = (of.get("resources") or {}).get("requests") or {}
    requests.pop("requests.example.com/odd", None)
    limits = {key: value for key, value in requests.items() if key not in ("cpu", "memory", "ephemeral-storage")}
    if limits:
        of["resources"]["limits"] = {**(of["resources"].get("limits") or {}), **limits}


def scheduled_condition(pod: JSON) -> JSON:
    return next((c for c in _conditions(pod) if (c["type"], c["status"]) == ("PodScheduled", "False")), {})


def _conditions(pod: JSON) -> list[JSON]:
    return pod["status"].get("conditions") or []


def _told(pod: JSON, events: Iterable[JSON]) -> bool:
    return bool(scheduled_condition(pod)) and any(one["reason"] == "FailedScheduling" for one in events)


def _claim(volume: JSON) -> object:
    return (volume["spec"].get("claimRef") or {}).get("name")


def _version(path: str) -> str:
    return "v1" if path.startswith("/api/") else "/".join(path.split("/")[2:4])


def _at(path: str, namespace: str) -> str:
    base, _, plural = path.rpartition("/")
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else path


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + SOON_S
    while not (await check() or loop.time() > end):  # noqa: ASYNC110  # what is waited for is on a server
        await asyncio.sleep(0.02)
