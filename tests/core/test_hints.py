"""Which change wakes which waiting pod, as upstream's queueing hints say: the table of `hints`, asked of the core."""

from __future__ import annotations

import pytest

from builders import Story
from carbon_scheduler.core.model import PodUid
from hints import ROWS, Row
from hints.row import WAITS
from hints.world import World

PLUGINS = {
    "NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
    "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "NodeDeclaredFeatures",
}  # fmt: skip
"""All that reject; but NodeName, whose pods are never in the queue."""


def parked(story: Story, uid: PodUid) -> bool:
    return story.scheduler._queue.place(uid) in ("unschedulable", None)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_woken_or_not(row: Row) -> None:
    story, world = Story(), World()
    story.apply(*(world.create(one, story.now) for one in (*row.there, row.waits)))
    uid = world.uid(WAITS)
    story.wait(20.0).decide()
    gated = "SchedulingGates" in row.by
    assert parked(story, uid)
    if not gated:
        assert set(story.scheduler._queue._entries[uid].rejecting) == row.by
    story.wait(20.0)
    for step in row.then:
        story.apply(world.take(step, story.now))
    assert parked(story, uid) != row.woken


def test_the_table_has_both_answers_for_every_plugin() -> None:
    for plugin in PLUGINS:
        rows = [
            row for row in ROWS.values() if row.by == {plugin} or (plugin == "PodTopologySpread" and plugin in row.by)
        ]
        assert {row.woken for row in rows} == {True, False}, plugin
    assert len(ROWS) >= 60
