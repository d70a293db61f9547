"""The stand-in for kubelets: what is due when, and that a real API server takes it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.sim.kubelet import Finish, Kubelets, PodSeen, Start, running, seconds, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.sim.control_plane import ControlPlane


def make_pod(uid: str = "u-1", node: str | None = "a", phase: str | None = "Pending", leaving: bool = False) -> PodSeen:
    made = {
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "uid": uid,
            **({"deletionTimestamp": "2026-11-25T18:00:00Z"} if leaving else {}),
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "pause"}]},
        "status": {"phase": phase},
    }
    return msgspec.convert(made, PodSeen)


def test_a_bound_pod_runs_after_the_delay() -> None:
    kubelets, pod = Kubelets(delay_s=1.0), make_pod()
    assert kubelets.due([pod], 10.0) == []
    assert kubelets.due([pod], 10.9) == []
    assert kubelets.due([pod], 11.0) == [Start(pod)]
    assert kubelets.due([pod], 11.5) == [Start(pod)]  # the write may have failed
    assert kubelets.due([make_pod(phase="Running")], 12.0) == []


def test_a_deleted_pod_goes_after_the_delay() -> None:
    kubelets, pod = Kubelets(delay_s=1.0), make_pod(phase="Running", leaving=True)
    assert kubelets.due([make_pod(phase="Running")], 5.0) == []
    assert kubelets.due([pod], 10.0) == []
    assert kubelets.due([pod], 11.0) == [Finish(pod)]


def test_a_pod_that_is_deleted_while_it_starts_does_not_start() -> None:
    kubelets, pod = Kubelets(delay_s=1.0), make_pod(leaving=True)
    kubelets.due([make_pod()], 10.0)
    assert kubelets.due([pod], 10.9) == []
    assert kubelets.due([pod], 11.0) == []
    assert kubelets.due([pod], 11.9) == [Finish(pod)]


@pytest.mark.parametrize("pod", [make_pod(node=None), make_pod(phase="Succeeded"), make_pod(phase="Failed")])
def test_others_are_left_alone(pod: PodSeen) -> None:
    kubelets = Kubelets(delay_s=0.0)
    assert kubelets.due([pod], 10.0) == []


def test_a_recreated_name_starts_anew() -> None:
    kubelets = Kubelets(delay_s=1.0)
    kubelets.due([make_pod("u-1")], 10.0)
    assert kubelets.due([make_pod("u-2")], 11.0) == []
    assert running(make_pod("u-2"), datetime(2026, 11, 25, tzinfo=UTC))["metadata"] == {"uid": "u-2"}


@pytest.mark.parametrize(("text", "want"), [("1s", 1.0), ("250ms", 0.25), ("0.5s", 0.5), ("0s", 0.0)])
def test_durations(text: str, want: float) -> None:
    assert seconds(text) == want


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1m", "1e9s", "٣s", "9999999s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        seconds(text)


@pytest.mark.control_plane
async def test_on_a_real_api_server(control_plane: ControlPlane) -> None:
    """A pod is bound, becomes Running with its conditions kept, is deleted by its grace, and goes."""
    space = "/api/v1/namespaces/kubelet-test"
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "kubelet-test"}})
    pod = {
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "pause"}], "nodeName": "kubelet-a"},
    }
    control_plane.request("POST", f"{space}/pods", pod)
    client = ApiClient(access(control_plane.kubeconfig, {}))
    kubelet = asyncio.create_task(serve(client, delay_s=0.0, poll_s=0.05))

    async def until(true: Callable[[list[Any]], bool]) -> list[Any]:
        async with asyncio.timeout(30):
            while True:
                listed = (await asyncio.to_thread(control_plane.request, "GET", f"{space}/pods"))["items"]
                if true(listed):
                    return listed
                await asyncio.sleep(0.05)

    try:
        (made,) = await until(lambda pods: [pod["status"]["phase"] for pod in pods] == ["Running"])
        true = {c["type"] for c in made["status"]["conditions"] if c["status"] == "True"}
        assert true >= {"PodScheduled", "Initialized", "Ready", "ContainersReady"}
        assert made["status"]["containerStatuses"][0]["ready"] is True
        await asyncio.to_thread(control_plane.request, "DELETE", f"{space}/pods/web")
        await until(lambda pods: not pods)
    finally:
        kubelet.cancel()
        with suppress(asyncio.CancelledError):
            await kubelet
        await client.close()
