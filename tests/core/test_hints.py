"""Which change wakes which waiting pod, as upstream's queueing hints say: the table of `hints`, asked of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builders import Story
from carbon_scheduler.core.model import PodUid
from carbon_scheduler.core.plugins import default_profile
from hints import ROWS, Row
from hints.row import WAITS
from hints.world import World

if TYPE_CHECKING:
    from carbon_scheduler.core.plugin import Plugin

PLUGINS = {
    "NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
    "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "NodeDeclaredFeatures",
}  # fmt: skip
"""All that reject; but NodeName, whose pods are never in the queue."""


def parked(story: Story, uid: PodUid) -> bool:
    return story.scheduler.cycle.queue.place(uid) in ("unschedulable", None)


def woken(row: Row) -> bool:
    story, world = Story(), World()
    story.apply(*(world.create(one, story.now) for one in (*row.there, row.waits)))
    uid = world.uid(WAITS)
    story.wait(20.0).decide()
    assert parked(story, uid)
    if "SchedulingGates" not in row.by:
        assert set(story.scheduler.cycle.queue._entries[uid].rejecting) == row.by
    story.wait(20.0)
    for step in row.then:
        story.apply(world.take(step, story.now))
    return not parked(story, uid)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_woken_or_not(row: Row) -> None:
    assert woken(row) == row.woken


def test_the_table_has_both_answers_for_every_plugin() -> None:
    for plugin in PLUGINS:
        rows = [
            row for row in ROWS.values() if row.by == {plugin} or (plugin == "PodTopologySpread" and plugin in row.by)
        ]
        assert {row.woken for row in rows} == {True, False}, plugin
    assert len(ROWS) >= 60


DEAF = [
    (type(plugin), topic)
    for plugin in default_profile()
    if plugin.name in PLUGINS
    for topic in sorted(plugin.hears or ())
]


@pytest.mark.parametrize(("plugin", "topic"), DEAF, ids=[f"{plugin.name} of {topic}" for plugin, topic in DEAF])
def test_the_table_notices_a_plugin_that_does_not_hear(
    plugin: type[Plugin], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in ROWS.values() if row.woken and plugin.name in row.by]
    assert plugin.hears is not None
    monkeypatch.setattr(plugin, "hears", plugin.hears - {topic})
    assert not all(woken(row) for row in rows)


@pytest.mark.parametrize("plugin", [type(p) for p in default_profile() if p.name in PLUGINS], ids=lambda p: p.name)
def test_the_table_notices_a_plugin_that_is_wrong_about_taints(
    plugin: type[Plugin], monkeypatch: pytest.MonkeyPatch
) -> None:
    if plugin.hears is not None and "node" not in plugin.hears:
        pytest.skip("nodes do not concern it")
    rows = [row for row in ROWS.values() if plugin.name in row.by and "Taint" in row.event]
    monkeypatch.setattr(plugin, "wakes_on_taints", not plugin.wakes_on_taints)
    assert any(woken(row) != row.woken for row in rows)
