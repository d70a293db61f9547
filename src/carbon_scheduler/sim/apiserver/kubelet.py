"""Stand-ins for what acts on objects in a cluster: the kubelets, and the part of the controllers that ends namespaces.

A pod bound to any node becomes Running after a delay; with restartPolicy Never or OnFailure and the annotation
`sim.carbon-scheduler.io/run-for` (`30s`, `1m30s`, `250ms`) it becomes Succeeded so long after; a terminating pod goes
away after the delay.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from carbon_scheduler.sim.apiserver import pods
from carbon_scheduler.sim.apiserver.documents import Document, objects, text
from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.kinds import NAMESPACES, PODS
from carbon_scheduler.sim.apiserver.registry import DeleteOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.sim.apiserver.registry import Registry
    from carbon_scheduler.sim.apiserver.store import Collection, Stored

RUN_FOR: Final = "sim.carbon-scheduler.io/run-for"
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(written: str) -> float | None:
    """`1m30s` as seconds; None when it is no duration."""
    parts = _PART.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


class KubeletStandIn:
    """Follows pods and namespaces of a registry and plays their part. `stop` ends it; it writes like any other client."""

    def __init__(self, registry: Registry, delay_s: float) -> None:
        self._registry = registry
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._addresses = 0
        self._ends: list[Callable[[], None]] = []
        for kind, react in ((PODS, self._pod), (NAMESPACES, self._namespace)):
            self._follow(registry.store.collection(kind.storage), react)

    def stop(self) -> None:
        """Forget all timers and listen no more."""
        for end in self._ends:
            end()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _follow(self, collection: Collection, react: Callable[[Stored], None]) -> None:
        position = collection.end
        for stored in list(collection.listing()):
            react(stored)

        def catch_up() -> None:
            nonlocal position
            changes = collection.changes(position, 1 << 30)
            if changes is None:
                position = collection.end
                changed = list(collection.listing())
            else:
                position += len(changes)
                changed = [change.stored for change in changes if change.type != "DELETED"]
            for stored in changed:
                if collection.objects.get(stored.key) is stored:
                    react(stored)

        pending = False

        def soon() -> None:
            """React in a later turn of the loop, so that a writer never sees its own write changed under it."""
            nonlocal pending
            if not pending:
                pending = True
                self._loop.call_soon(run)

        def run() -> None:
            nonlocal pending
            pending = False
            catch_up()

        self._ends.append(collection.listen(soon))

    def _later(self, uid: str, what: str, after_s: float, act: Callable[[], None]) -> None:
        """Do something once per pod, however often the pod changes meanwhile."""
        if (uid, what) in self._timers:
            return

        def fire() -> None:
            self._timers.pop((uid, what), None)
            try:
                act()
            except Failure:
                # The pod went away or changed between: what it is now has been, or will be, reacted to.
                return

        self._timers[uid, what] = self._loop.call_later(after_s, fire)

    def _pod(self, stored: Stored) -> None:
        pod = stored.document
        uid, phase = text(pod, "metadata", "uid"), text(pod, "status", "phase")
        if not text(pod, "spec", "nodeName"):
            return
        if text(pod, "metadata", "deletionTimestamp"):
            self._later(uid, "end", self._delay_s, lambda: self._remove(stored.key, uid))
        elif phase == "Pending":
            self._later(uid, "run", self._delay_s, lambda: self._run(stored.key, uid))
        elif phase == "Running" and text(pod, "spec", "restartPolicy") != "Always":
            run_for_s = duration_s(text(pod, "metadata", "annotations", RUN_FOR))
            if run_for_s is not None:
                self._later(uid, "finish", run_for_s, lambda: self._finish(stored.key, uid))

    def _namespace(self, stored: Stored) -> None:
        if text(stored.document, "metadata", "deletionTimestamp"):
            name = stored.key[1]
            self._later(name, "namespace", self._delay_s, lambda: self._registry.finish_namespace(name))

    def _remove(self, key: tuple[str, str], uid: str) -> None:
        self._registry.delete(PODS, *key, DeleteOptions(grace_period_s=0, uid=uid))

    def _current(self, key: tuple[str, str], uid: str) -> Document | None:
        pod = self._registry.get(PODS, *key).document
        return pod if text(pod, "metadata", "uid") == uid else None

    def _run(self, key: tuple[str, str], uid: str) -> None:
        pod = self._current(key, uid)
        if pod is None or text(pod, "metadata", "deletionTimestamp"):
            return
        self._addresses += 1
        address = f"10.{64 + self._addresses // 65536 % 64}.{self._addresses // 256 % 256}.{self._addresses % 256}"
        now = self._registry.timestamp()
        status: Document = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now}
        status["conditions"] = _conditions(pod, "True", now)
        status["containerStatuses"] = _containers(pod, {"running": {"startedAt": now}}, ready=True)
        self._write(key, status)

    def _finish(self, key: tuple[str, str], uid: str) -> None:
        pod = self._current(key, uid)
        if pod is None or text(pod, "status", "phase") != "Running":
            return
        now = self._registry.timestamp()
        started = text(pod, "status", "startTime")
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": now}}
        status: Document = {"phase": "Succeeded", "conditions": _conditions(pod, "False", now, reason="PodCompleted")}
        status["containerStatuses"] = _containers(pod, ended, ready=False)
        self._write(key, status)

    def _write(self, key: tuple[str, str], status: Document) -> None:
        self._registry.patch(PODS, *key, "application/merge-patch+json", {"status": status}, subresource="status")


def _conditions(pod: Document, ready: str, now: str, reason: str = "") -> list[Document]:
    conditions = list(objects(pod, "status", "conditions"))
    for type_ in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"):
        value = ready if type_ in ("Ready", "ContainersReady") else "True"
        entry: Document = {"type": type_, "status": value}
        if reason and value != "True":
            entry["reason"] = reason
        conditions = pods.with_condition({"conditions": conditions}, entry, now)
    return conditions


def _containers(pod: Document, state: Document, *, ready: bool) -> list[Document]:
    return [
        {
            "name": text(container, "name"),
            "image": text(container, "image"),
            "imageID": "",
            "containerID": f"sim://{text(pod, 'metadata', 'uid')}/{text(container, 'name')}",
            "state": state,
            "lastState": {},
            "ready": ready,
            "started": ready,
            "restartCount": 0,
        }
        for container in objects(pod, "spec", "containers")
    ]
