"""Which watches are followed, and which of them hold decisions up when they fail."""

from __future__ import annotations

import pytest

from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.kube.kinds import Need
from carbon_scheduler.live.follow import MOST_STREAMS, Following

ALWAYS = ["Pod", "Node", "Namespace"]


def following(*needs: Need) -> Following:
    """Not begun: nothing is asked of any server."""
    client = ApiClient(Access("http://127.0.0.1:1"))
    return Following(client, Converter(), needs, lambda _: None, lambda: (0.0, 0.0), page_size=500)


def kinds(*needs: Need) -> list[str]:
    return [reflector.resource.kind for reflector in following(*needs).reflectors]


def test_what_is_followed() -> None:
    assert kinds() == ALWAYS
    assert kinds("preemption") == [*ALWAYS, "PodDisruptionBudget"]
    assert kinds("spreading") == [*ALWAYS, "Service", "ReplicationController", "ReplicaSet", "StatefulSet"]
    assert len(kinds("spreading", "volumes", "preemption")) == MOST_STREAMS


HOLDS = {
    "Pod": True, "Node": True, "Namespace": True, "PersistentVolume": True, "CSIStorageCapacity": True,
    "PodDisruptionBudget": True, "Service": False, "StatefulSet": False,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "want"), HOLDS.items())
def test_a_watch_that_fails_holds_decisions_up_unless_it_only_tells_how_to_spread(kind: str, want: bool) -> None:
    found = following("spreading", "volumes", "preemption")
    assert not found.deaf
    (failing,) = [reflector for reflector in found.reflectors if reflector.resource.kind == kind]
    failing.problem = "cut"
    assert found.deaf is want
    failing.problem = ""
    assert not found.deaf
