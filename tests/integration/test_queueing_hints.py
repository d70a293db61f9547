"""The table of changes (`hints`) on a real control plane: kube-scheduler and ours side by side, each with a pod of its own
that waits. Whether an event wakes it is read from the metrics of both."""

from __future__ import annotations

import asyncio
import copy
import re
import ssl
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import pytest

from carbon_scheduler.kube.kinds import KINDS
from hints import ROWS, Row, Step
from hints.row import OURS, WAITS
from hints.world import CLUSTER_WIDE
from scheduler_process import SchedulerProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from carbon_scheduler.sim.control_plane import ControlPlane

JSON = dict[str, Any]
pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

THEIRS: Final = "default-scheduler"
PATHS: Final[dict[str, str]] = {kind.name: kind.path for kind in KINDS} | {
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/pods",
    "Namespace": "/api/v1/namespaces",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
}
LASTING: Final = ("Namespace", "PriorityClass")
"""These stay for all rows: there is no controller that would take a namespace away."""
FLAGS: Final = {
    "kube-scheduler": ["--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics", "--kube-api-qps=500"],
    "kube-apiserver": [
        "--disable-admission-plugins=StorageObjectInUseProtection",  # its finalizers wait for a controller
        "--feature-gates=UserNamespacesHostNetworkSupport=true",  # the feature that pods need which need any
    ],
}
HIGH: Final = {
    "kind": "PriorityClass",
    "metadata": {"name": "hints-high"},
    "value": 1000,
    "preemptionPolicy": "Never",
}
QUIET_S: Final = (0.1, 0.5, 1.5, 3.0)
"""How long nothing happens before a step, in the first try and in later ones. What one row leaves behind may reach a scheduler
late, in the next one, and wake a pod there: the later the busier the machine. What is wrong stays wrong."""
LATE_S, SOON_S = 0.2, 5.0
"""How long nothing may happen after a step; within what a pod must be woken."""
_NAMES = "queue_incoming_pods_total|event_handling_duration_seconds_count|schedule_attempts_total"
_SAMPLE: Final = re.compile(rf"^scheduler_({_NAMES}){{(.*)}} (\S+)$", re.MULTILINE)
"""A parser of the whole text takes longer than everything else that a row does."""
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_OF_ITSELF: Final = ("BackoffComplete", "PopFromBackoffQ", "UnschedulablePodAdd")


@pytest.fixture(scope="module")
def plane(module_control_plane: Callable[..., ControlPlane]) -> ControlPlane:
    plane = module_control_plane(scheduler=True, extra_args=FLAGS)
    plane.request("POST", PATHS["PriorityClass"], HIGH)
    return plane


@pytest.fixture(scope="module")
def ours(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchedulerProcess]:
    process = SchedulerProcess(plane.kubeconfig, folder=tmp_path_factory.mktemp("ours"))
    process.start()
    yield process
    process.stop()


@dataclass(frozen=True)
class Seen:
    """Counts of both schedulers: `woken` and `handled` of kube-scheduler by event, attempts in all of each."""

    woken: dict[str, float]
    handled: dict[str, float]
    their_tries: float
    our_tries: float

    def woken_since(self, before: Seen, event: str = "") -> bool:
        """Whether kube-scheduler put a pod back into its queue, because of that event if one is given."""
        names = [event] if event else self.woken
        return any(self.woken.get(name, 0) > before.woken.get(name, 0) for name in names)


class Stage:
    """The objects of one row and what happens to them. Each pod that would be ours has a twin for kube-scheduler."""

    def __init__(self, plane: ControlPlane, ours: SchedulerProcess) -> None:
        self._plane = plane
        self._ours = ours
        self._made: list[tuple[str, str, str]] = []
        self._twins: set[str] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=self._plane.ca_file)
        self._api = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                self._plane.server_url,
                headers={"Authorization": f"Bearer {self._plane.admin_token}"},
                connector=aiohttp.TCPConnector(ssl=tls),
            )
        )
        self._metrics = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                f"https://127.0.0.1:{self._plane.ports['kube-scheduler']}",
                connector=aiohttp.TCPConnector(ssl=False),  # its own certificate; no secret is sent
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Everything goes, the waiting pods first: they must not be woken by the rest."""
        for kind, namespace, name in reversed(self._made):
            await self._call("DELETE", f"{_path(kind, namespace)}/{name}?gracePeriodSeconds=0", unless=404)
        await self._stack.aclose()

    async def create(self, one: JSON) -> None:
        for twin in self._with_twin(one):
            kind, meta = twin["kind"], twin["metadata"]
            namespace = "" if kind in CLUSTER_WIDE else meta.get("namespace", "default")
            meta.pop("uid", None)
            await self._call("POST", _path(kind, namespace), twin, unless=409 if kind in LASTING else 0)
            if kind not in LASTING:
                self._made.append((kind, namespace, meta["name"]))
            if "status" in twin and kind != "Node":  # what is sent with POST is kept of nodes alone
                await self._call("PATCH", f"{_path(kind, namespace)}/{meta['name']}/status", {"status": twin["status"]})

    async def take(self, step: Step) -> None:
        if step.verb == "create":
            await self.create(step.body)
            return
        both = step.kind == "Pod" and step.name in self._twins
        for name in [_twin(step.name, scheduler) for scheduler in (THEIRS, OURS)] if both else [step.name]:
            path = f"{_path(step.kind, '' if step.kind in CLUSTER_WIDE else step.namespace)}/{name}"
            if step.verb == "delete":
                await self._call("DELETE", f"{path}?gracePeriodSeconds=0")
            elif step.part == "graceful-delete":
                await self._call("DELETE", f"{path}?gracePeriodSeconds=3600")
            else:
                await self._call("PATCH", f"{path}/{step.part}".rstrip("/"), step.body)

    async def undo_namespaces(self, row: Row) -> None:
        for step in row.then:
            if step.kind == "Namespace":
                none = dict.fromkeys(step.body["metadata"]["labels"])
                await self._call("PATCH", f"{PATHS['Namespace']}/{step.name}", {"metadata": {"labels": none}})

    async def both_wait(self, reason: str) -> bool:
        """Whether both pods have the condition that they are not scheduled, for that reason."""
        for scheduler in (THEIRS, OURS):
            pod = await self._call("GET", f"{_path('Pod', 'default')}/{_twin(WAITS, scheduler)}")
            conditions = pod["status"].get("conditions", [])
            if not any((c["type"], c.get("reason")) == ("PodScheduled", reason) for c in conditions):
                return False
        return True

    async def look(self) -> Seen:
        async with self._metrics.get("/metrics") as response:
            assert response.status == 200, await response.text()
            text = await response.text()
        woken: dict[str, float] = {}
        handled: dict[str, float] = {}
        tries = 0.0
        for name, labels, value in _SAMPLE.findall(text):
            of = dict(_LABEL.findall(labels))
            match name:
                case "schedule_attempts_total":
                    tries += float(value)
                case "event_handling_duration_seconds_count":
                    handled[of["event"]] = float(value)
                case "queue_incoming_pods_total" if of["queue"] != "unschedulable" and of["event"] not in _OF_ITSELF:
                    woken[of["event"]] = woken.get(of["event"], 0.0) + float(value)
        mine = await self._ours.metrics()
        attempts = "carbon_scheduler_schedule_attempts_total{"
        return Seen(woken, handled, tries, sum(value for key, value in mine.items() if key.startswith(attempts)))

    async def quiet(self, for_s: float) -> Seen:
        """Once both schedulers have taken in all that was made, and try nothing any more."""
        last = await self.look()
        for _ in range(200):
            await asyncio.sleep(for_s)
            now = await self.look()
            if replace(now, handled={}) == replace(last, handled={}):
                return now
            last = now
        raise AssertionError("the schedulers go on trying before anything has happened")

    def _with_twin(self, one: JSON) -> Iterator[JSON]:
        if one["kind"] != "Pod" or one["spec"].get("schedulerName") != OURS:
            yield copy.deepcopy(one)
            return
        self._twins.add(one["metadata"]["name"])
        for scheduler in (THEIRS, OURS):
            twin = copy.deepcopy(one)
            twin["metadata"]["name"] = _twin(one["metadata"]["name"], scheduler)
            twin["spec"]["schedulerName"] = scheduler
            yield twin

    async def _call(self, method: str, path: str, body: JSON | None = None, *, unless: int = 0) -> JSON:
        """Patches are merge patches. Any failure status but `unless` is an AssertionError."""
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else None
        async with self._api.request(method, path, json=body, headers=headers) as response:
            answer: JSON = await response.json()
            ok = response.status < 400 or response.status == unless
            assert ok, f"{method} {path}: {response.status}: {answer.get('message', answer)}"
            return answer


def _path(kind: str, namespace: str) -> str:
    base, _, plural = PATHS[kind].rpartition("/")
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else f"{base}/{plural}"


def _twin(name: str, scheduler: str) -> str:
    return f"{name}-ours" if scheduler == OURS else f"{name}-theirs"


async def _until(check: Callable[[], Awaitable[bool]], limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while not await check():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


async def _woken(row: Row, stage: Stage, quiet_s: float) -> tuple[bool, bool]:
    """Whether kube-scheduler's pod was woken by the event, and whether ours was tried again."""
    for one in (*row.there, row.waits):
        await stage.create(one)
    reason = "SchedulingGated" if "SchedulingGates" in row.by else "Unschedulable"
    assert await _until(lambda: stage.both_wait(reason), 15.0), "no verdict on both pods"
    before = seen = await stage.quiet(quiet_s)
    for step in row.then:
        await stage.take(step)

    async def both_tried() -> bool:
        nonlocal seen
        seen = await stage.look()
        return seen.woken_since(before, row.event) and seen.our_tries > before.our_tries

    async def handled() -> bool:
        return (await stage.look()).handled.get(row.event, 0) > before.handled.get(row.event, 0)

    if row.woken:
        await _until(both_tried, SOON_S)
        return seen.woken_since(before, row.event), seen.our_tries > before.our_tries
    if row.event:
        await _until(handled, 1.0)
    await asyncio.sleep(LATE_S)
    seen = await stage.look()
    return seen.woken_since(before), seen.our_tries > before.our_tries


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_both_schedulers_wake_the_pod_or_neither(row: Row, plane: ControlPlane, ours: SchedulerProcess) -> None:
    if row.unseen:
        pytest.skip(row.unseen)
    await ours.ready()
    want, got = (row.woken, row.woken), None
    for quiet_s in QUIET_S:
        async with Stage(plane, ours) as stage:
            try:
                got = await _woken(row, stage, quiet_s)
            finally:
                await stage.undo_namespaces(row)
        if got == want:
            break
    assert got == want, "kube-scheduler's pod and ours"
