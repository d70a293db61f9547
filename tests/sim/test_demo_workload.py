"""The demo's cluster keeps the promises that its text makes."""

from __future__ import annotations

from collections import Counter

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.providers.tables import grid_zones
from carbon_scheduler.sim.demo_workload import DEFAULT_ZONE, SCHEDULER, nodes, pods


def test_twenty_four_nodes_in_eight_grid_zones() -> None:
    found = Counter()
    for made in nodes():
        provider_id = made["spec"].get("providerID", "")
        zone = grid_zones().of_node(made["metadata"]["labels"], provider_id, GridZone(DEFAULT_ZONE))
        found[zone.grid_zone] += 1
    assert found == dict.fromkeys(["SE-SE3", "FR", "GB", "US-CAL-CISO", "US-NY-NYIS", "DE", "IE", "PL"], 3)


def test_one_is_cordoned_one_tainted_one_too_small_three_are_unlabelled() -> None:
    made = nodes()
    assert [n["metadata"]["name"] for n in made if n["spec"].get("unschedulable")] == ["stockholm-2"]
    assert [n["metadata"]["name"] for n in made if n["spec"].get("taints")] == ["stockholm-3"]
    assert [n["metadata"]["name"] for n in made if n["status"]["allocatable"]["cpu"] != "4"] == ["paris-3"]
    unlabelled = [n["metadata"]["name"] for n in made if "carbon-zone" not in n["metadata"]["labels"]]
    assert unlabelled == ["newyork-3", "frankfurt-3", "dublin-3"]


def test_sixty_pods_with_names_of_their_own() -> None:
    made = pods()
    assert len({pod["metadata"]["name"] for pod in made}) == len(made) == 60
    schedulers = Counter(pod["spec"]["schedulerName"] for pod in made)
    assert schedulers == {SCHEDULER: 58, "default-scheduler": 2}
    assert sum(bool(pod["spec"].get("schedulingGates")) for pod in made) == 1


def test_each_call_makes_objects_of_its_own() -> None:
    nodes()[0]["metadata"]["labels"]["carbon-zone"] = "XX"
    pods()[0]["spec"]["containers"].clear()
    assert nodes()[0]["metadata"]["labels"]["carbon-zone"] == "SE-SE3"
    assert pods()[0]["spec"]["containers"]
