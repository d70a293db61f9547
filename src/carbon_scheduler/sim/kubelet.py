"""A stand-in for the kubelets of a cluster that has none: bound pods become Running, deleted ones go.

    python -m carbon_scheduler.sim.kubelet --kubeconfig FILE --delay 1s

Nothing runs: it writes what kubelets would report. For the demo on a real API server. It lists twice a second rather than
watches: at the demo's size that is cheaper than being never deaf.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from carbon_scheduler.errors import ApiStatusError, CarbonSchedulerError, ClusterError
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import STRATEGIC_MERGE, ApiClient, segment

POLL_S: Final = 0.5
PAGE: Final = 500


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    deletion_timestamp: str | None = None


class _Container(msgspec.Struct):
    name: str = ""
    image: str | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str | None = None
    containers: list[_Container] | None = None


class _Status(msgspec.Struct):
    phase: str | None = None


class PodSeen(msgspec.Struct):
    """The fields of a pod that a kubelet acts on."""

    metadata: _Meta
    spec: _Spec
    status: _Status | None = None


class _ListMeta(msgspec.Struct):
    continue_: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[PodSeen] | None = None


class Start(msgspec.Struct, frozen=True):
    """Report the pod as Running."""

    pod: PodSeen


class Finish(msgspec.Struct, frozen=True):
    """The pod has stopped: remove its object."""

    pod: PodSeen


class Kubelets:
    """What all kubelets together would do next. Pure: the caller says what there is and what time it is."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._since: dict[tuple[str, bool], float] = {}

    def due(self, pods: list[PodSeen], now_s: float) -> list[Start | Finish]:
        """What is due among all `pods` at `now_s` (monotonic). Asked again, it answers the same until the pods have changed."""
        since: dict[tuple[str, bool], float] = {}
        actions: list[Start | Finish] = []
        for pod in pods:
            if not pod.spec.node_name:
                continue
            leaving = pod.metadata.deletion_timestamp is not None
            if not leaving and (pod.status and pod.status.phase) not in ("Pending", None):
                continue
            key = pod.metadata.uid, leaving
            since[key] = self._since.get(key, now_s)
            if now_s - since[key] >= self._delay_s:
                actions.append(Finish(pod) if leaving else Start(pod))
        self._since = since
        return actions


async def serve(client: ApiClient, delay_s: float, poll_s: float = POLL_S) -> None:
    """For ever. What one pod's write is answered with concerns that pod alone; without an answer it tries again."""
    kubelets, said = Kubelets(delay_s), ""
    while True:
        try:
            for action in kubelets.due(await _pods(client), client.clock.monotonic()):
                await _do(client, action)
            said = ""
        except ClusterError as error:
            if str(error) != said:
                said = str(error)
                print(f"Error: {said}", file=sys.stderr, flush=True)
        await client.clock.sleep(poll_s)


async def _pods(client: ApiClient) -> list[PodSeen]:
    found: list[PodSeen] = []
    params = {"limit": str(PAGE), "fieldSelector": "spec.nodeName!="}
    while True:
        page = msgspec.json.decode(await client.request("GET", "/api/v1/pods", params), type=_List)
        found += page.items or []
        if not page.metadata.continue_:
            return found
        params["continue"] = page.metadata.continue_


async def _do(client: ApiClient, action: Start | Finish) -> None:
    meta = action.pod.metadata
    path = f"/api/v1/namespaces/{segment(meta.namespace)}/pods/{segment(meta.name)}"
    try:
        if isinstance(action, Start):
            body = msgspec.json.encode(running(action.pod, datetime.now(tz=UTC)))
            await client.request("PATCH", f"{path}/status", body=body, content_type=STRATEGIC_MERGE)
        else:
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta.uid}}
            await client.request("DELETE", path, body=msgspec.json.encode(options))
    except ApiStatusError as error:
        if error.code not in (404, 409):  # it went, or is another pod of that name: the next list says so
            print(f"Error: pod {meta.namespace}/{meta.name}: {error}", file=sys.stderr, flush=True)


def running(pod: PodSeen, at: datetime) -> dict[str, object]:
    """The patch that reports a pod as Running, all containers ready. Its uid guards a recreated name."""
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"uid": pod.metadata.uid},
        "status": {
            "phase": "Running",
            "startTime": stamp,
            "conditions": [
                {"type": "PodScheduled", "status": "True"},  # without a time: the Binding's stays
                *(
                    {"type": kind, "status": "True", "lastTransitionTime": stamp}
                    for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
                ),
            ],
            "containerStatuses": [
                {
                    "name": container.name,
                    "image": container.image or "",
                    "imageID": "",
                    "containerID": "",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": stamp}},
                }
                for container in pod.spec.containers or []
            ],
        },
    }


def seconds(text: str) -> float:
    """`1s`, `250ms`, `0.5s`. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s)", text)
    if match is None:
        raise ValueError(f"got {text!r}, expected a duration such as 1s or 250ms")
    return float(match[1]) * (0.001 if match[2] == "ms" else 1.0)


async def _main(kubeconfig: Path, delay_s: float) -> None:
    client = ApiClient(access(kubeconfig, os.environ))
    try:
        await serve(client, delay_s)
    finally:
        await client.close()


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True)
@click.option("--delay", default="1s", show_default=True, help="From bound to Running, and from deleted to gone.")
def main(kubeconfig: Path, delay: str) -> None:
    """Report bound pods as Running and remove deleted ones, until it is ended."""
    try:
        delay_s = seconds(delay)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--delay") from error
    try:
        asyncio.run(_main(kubeconfig, delay_s))
    except CarbonSchedulerError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
