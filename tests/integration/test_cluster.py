"""The tests' own client against the real API server: what other tests build on must itself be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from api_objects import make_binding, make_node, make_pod

if TYPE_CHECKING:
    from real_cluster import Cluster

pytestmark = pytest.mark.control_plane


async def test_builders_make_objects_that_the_api_server_keeps(cluster: Cluster) -> None:
    taint = {"key": "gpu", "effect": "NoSchedule"}
    await cluster.create([make_node("n1", cpu="8", carbon_zone="FR", taints=[taint], unschedulable=True)])
    node = await cluster.get("Node", "n1")
    assert (node["status"]["allocatable"]["cpu"], node["metadata"]["labels"]["carbon-zone"]) == ("8", "FR")
    # The API server adds its own taint for an unschedulable node only by the plugin that light admission leaves out.
    assert (node["spec"]["taints"], node["spec"]["unschedulable"]) == ([taint], True)

    await cluster.create([make_pod("p1", annotations={"a": "b"}), make_pod("p2", node="n1", cpu=None)])
    await cluster.call("POST", "/api/v1/namespaces/default/pods/p1/binding", make_binding("p1", "n1"))
    bound = await cluster.list("Pod", fieldSelector="spec.nodeName=n1")
    assert sorted(pod["metadata"]["name"] for pod in bound) == ["p1", "p2"]
    assert "cpu" not in bound[1]["spec"]["containers"][0]["resources"]["requests"]


async def test_many_objects_at_once_and_none_afterwards(cluster: Cluster) -> None:
    made = await cluster.create(make_pod(f"p{i}") for i in range(300))
    await cluster.patch("Pod", "p7", {"metadata": {"finalizers": ["example.com/f"]}})
    assert [pod["metadata"]["name"] for pod in made] == [f"p{i}" for i in range(300)]
    await cluster.clear()
    assert await cluster.list("Pod") == []


async def test_a_refusal_is_told_with_the_servers_words(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match=r"422.*spec\.containers: Required value"):
        await cluster.create([make_pod("p", containers=[])])
