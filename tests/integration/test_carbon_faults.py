"""Whatever the source of carbon data does, pods go on being bound, and the log says once what is wrong and when it is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from api_objects import make_node, make_pod
from carbon_scheduler.sim import loopback
from carbon_scheduler.sim.electricity_maps import FakeElectricityMaps
from carbon_scheduler.sim.electricity_maps_answers import Mode
from pod_outcomes import bound, decision_of, node_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from real_cluster import Cluster
    from scheduler_process import SchedulerProcess

JSON = dict[str, Any]
LIVE = ("measured", "estimated", "stale")
"""From the source; stale when an hour begins between the answer and the decision."""
UNAUTHORIZED = "Error: API request failed with status 401: Request unauthorized"


def _pod_on(node: str, name: str) -> JSON:
    return make_pod(name, nodeSelector={"kubernetes.io/hostname": node})


async def _qualities(cluster: Cluster, *names: str) -> dict[str, tuple[str, str, float]]:
    """Node -> grid zone, quality ("live" for all of LIVE) and intensity of the decisions about these pods."""
    found = {}
    for pod in await bound(cluster, *names):
        said = decision_of(pod)
        quality = "live" if said["quality"] in LIVE else said["quality"]
        found[node_of(pod)] = (said["grid_zone"], quality, said["intensity_g_per_kwh"])
    return found


# One zone's data are wrong, the others' are not.

ZONE_FAULTS: dict[str, tuple[Mode, str]] = {
    "FR": (Mode("null"), "is null"),
    "GB": (Mode("zero"), "is 0, which only direct emissions can be"),
    "DE": (Mode("nan"), "is NaN"),
    "PL": (Mode("negative"), "is -5, expected 0 to 1500"),
    "SE-SE3": (Mode("text"), "'84'"),
    "ES": (Mode("wrong-zone"), "US-NY-NYIS"),
    "IT-NO": (Mode("no-data"), "404"),
    "AT": (Mode("plan"), "401: Request unauthorized"),
    "BE": (Mode("truncated"), "JSON"),
}
"""Grid zone -> what its answers are, and a word of what the log must say of it."""
SOUND = "US-CAL-CISO"


@pytest.mark.slow
async def test_bad_data_of_some_zones(
    embedded: Cluster,
    grid: FakeElectricityMaps,
    start_scheduler: Callable[..., SchedulerProcess],
    tmp_path: Path,
) -> None:
    grid.modes |= {zone: mode for zone, (mode, _) in ZONE_FAULTS.items()} | {SOUND: Mode("value", 200)}
    zones = [*ZONE_FAULTS, SOUND]
    await embedded.create(make_node(zone.lower(), carbon_zone=zone) for zone in zones)
    await embedded.create(_pod_on(zone.lower(), f"before-{zone.lower()}") for zone in zones)
    key = tmp_path / "key"
    key.write_text("first-key\n")
    settings = {"ELECTRICITY_MAPS_API_KEY_FILE": str(key), "ELECTRICITY_MAPS_URL": grid.url}
    scheduler = start_scheduler(embedded.plane.kubeconfig, settings=settings)
    await scheduler.said("Connected to Kubernetes API")
    began_s = time.monotonic()
    got = await _qualities(embedded, *(f"before-{zone.lower()}" for zone in zones))
    assert time.monotonic() - began_s < 4.0, "every zone has answered: nothing had to be waited for"
    assert got.pop(SOUND.lower()) == (SOUND, "live", 200)
    assert {node: quality for node, (_, quality, _) in got.items()} == {zone.lower(): "static" for zone in ZONE_FAULTS}
    problems = [line for line in scheduler.text.splitlines() if line.startswith(("Error:", "Warning:"))]
    for zone, (_, word) in ZONE_FAULTS.items():
        (line,) = [line for line in problems if f" {zone}:" in line or f" {zone};" in line]
        assert word in line, line
        assert "scheduling goes on" in line
    assert len(problems) == len(ZONE_FAULTS)
    assert scheduler.text.count("(static)") == len(ZONE_FAULTS)

    # All is well again. A zone without data is asked again after minutes, one outside the plan after hours, but both at once
    # when the key has changed: what was refused before is then worth nothing.
    grid.modes = {zone: Mode("value", 100) for zone in zones}
    key.write_text("second-key\n")
    for zone in ZONE_FAULTS:
        await scheduler.said(f"Carbon data of {zone} from electricity-maps are available again", 30)
    await embedded.create(_pod_on(zone.lower(), f"after-{zone.lower()}") for zone in zones)
    got = await _qualities(embedded, *(f"after-{zone.lower()}" for zone in zones))
    assert got == {zone.lower(): (zone, "live", 100) for zone in zones}
    assert scheduler.text.count("available again") == len(ZONE_FAULTS)
    assert "first-key" not in scheduler.text
    assert "second-key" not in scheduler.text


# The source as a whole.


async def _two_nodes(cluster: Cluster) -> None:
    await cluster.create([make_node("fr", carbon_zone="FR"), make_node("de", carbon_zone="DE")])
    await cluster.create([_pod_on("fr", "before-fr"), _pod_on("de", "before-de")])


async def _static_at_first(cluster: Cluster, scheduler: SchedulerProcess) -> float:
    """Both pods are bound with static values; the seconds from the connection to the last of them."""
    await scheduler.said("Connected to Kubernetes API")
    began_s = time.monotonic()
    got = await _qualities(cluster, "before-fr", "before-de")
    took_s = time.monotonic() - began_s
    assert {node: quality for node, (_, quality, _) in got.items()} == {"fr": "static", "de": "static"}
    await scheduler.said("(static)")
    return took_s


async def _live_again(cluster: Cluster, scheduler: SchedulerProcess) -> None:
    """Said once; and the next pods have live values."""
    await scheduler.said("Carbon data from electricity-maps are available again", 30)
    await cluster.create([_pod_on("fr", "after-fr"), _pod_on("de", "after-de")])
    got = await _qualities(cluster, "after-fr", "after-de")
    assert got == {"fr": ("FR", "live", 50), "de": ("DE", "live", 400)}
    assert scheduler.text.count("are available again") == 1
    assert scheduler.text.count("scheduling goes on with older or average values") == 1


FAULTS: dict[str, tuple[Mode, str, float]] = {
    "HTML and status 500": (Mode("html-500"), "status 500: Internal Server Error", 4.0),
    "dropped connections": (Mode("drop"), "the connection was closed before an answer", 4.0),
    "an endless answer": (Mode("huge"), "the answer is larger than 1048576 bytes", 4.0),
    "429": (Mode("429", 1), "status 429: Too Many Requests", 4.0),  # and says how long to wait
    "401 for too many requests": (Mode("throttle-401"), "too many requests for this key", 4.0),
    "answers after 30 seconds": (Mode("slow", 30), "no complete answer within 6 s", 7.0),
}
"""What the source does, words of the log's line, and how long the first pods may have had to wait."""


@pytest.mark.parametrize("sentence", FAULTS)
async def test_the_source_fails(
    embedded: Cluster,
    grid: FakeElectricityMaps,
    start_scheduler: Callable[..., SchedulerProcess],
    record_property: Callable[[str, object], None],
    sentence: str,
) -> None:
    mode, words, limit_s = FAULTS[sentence]
    grid.modes["*"] = mode
    await _two_nodes(embedded)
    scheduler = start_scheduler(
        embedded.plane.kubeconfig,
        grid_url=grid.url,
        settings={"CARBON_SCHEDULER_ELECTRICITY_MAPS_TIMEOUT_S": "6"},
    )
    took_s = await _static_at_first(embedded, scheduler)
    record_property("first_pods_s", took_s)
    print(f"{sentence}: the first pods were bound {took_s:.1f} s after the connection")
    assert took_s < limit_s
    await scheduler.said(words)
    if sentence == "401 for too many requests":
        return  # it is asked again after a minute: see the tests of the poller, whose clock is moved by hand
    grid.modes = {"FR": Mode("value", 50), "DE": Mode("value", 400)}
    await _live_again(embedded, scheduler)


async def test_the_source_is_down(embedded: Cluster, start_scheduler: Callable[..., SchedulerProcess]) -> None:
    port = loopback.free_port()
    await _two_nodes(embedded)
    scheduler = start_scheduler(embedded.plane.kubeconfig, grid_url=f"http://127.0.0.1:{port}")
    assert await _static_at_first(embedded, scheduler) < 4.0
    await scheduler.said(f"127.0.0.1:{port}/v4/carbon-intensity/history: cannot connect")
    grid = FakeElectricityMaps()
    grid.modes = {"FR": Mode("value", 50), "DE": Mode("value", 400)}
    await grid.start(port)
    try:
        await _live_again(embedded, scheduler)
    finally:
        await grid.stop()


@pytest.mark.slow
async def test_no_key_then_a_wrong_one_then_the_right_one(
    embedded: Cluster, start_scheduler: Callable[..., SchedulerProcess], tmp_path: Path
) -> None:
    """The key's file is looked at every ten seconds: it may be the file of a Secret that is corrected."""
    grid = FakeElectricityMaps(keys={"the-right-key"})
    grid.modes = {"FR": Mode("value", 50), "DE": Mode("value", 400)}
    await grid.start()
    key = tmp_path / "key"
    key.write_text("")
    try:
        await _two_nodes(embedded)
        settings = {"ELECTRICITY_MAPS_API_KEY_FILE": str(key), "ELECTRICITY_MAPS_URL": grid.url}
        scheduler = start_scheduler(embedded.plane.kubeconfig, settings=settings)
        assert await _static_at_first(embedded, scheduler) < 4.0
        await scheduler.said("No Electricity Maps key")
        await scheduler.said("kubectl create secret generic carbon-aware-scheduler -n kube-system")
        assert grid.count() == 0

        key.write_text("the-wrong-key\n")
        await scheduler.said("There is a key for electricity-maps now", 30)
        await scheduler.said(UNAUTHORIZED, 30)
        await scheduler.said(f"the key from the file {key} is not accepted")
        await embedded.create([_pod_on("fr", "meanwhile-fr")])
        assert (await _qualities(embedded, "meanwhile-fr"))["fr"][1] == "static"
        asked = grid.count()
        assert asked <= 4, "a refused key is not tried again and again"

        key.write_text("the-right-key\n")
        await _live_again(embedded, scheduler)
        text = scheduler.text
        assert (text.count("No Electricity Maps key"), text.count(UNAUTHORIZED)) == (1, 1)
        assert "the-wrong-key" not in text
        assert "the-right-key" not in text
    finally:
        await grid.stop()
