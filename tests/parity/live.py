"""The core's answer to a case, by way of events: as in a running scheduler, nothing is ever built anew."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import msgspec

from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.cases import Judge, read_case
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from carbon_scheduler.core.plugin import Plugin

JSON = dict[str, Any]


def plugins_named(names: Collection[str]) -> tuple[Plugin, ...]:
    """Of the default profile, in its order."""
    return tuple(plugin for plugin in default_profile() if plugin.name in names)


def plain(case: JSON, names: Collection[str]) -> JSON:
    """The answer of `carbon-scheduler evaluate` to a case, from an empty cluster."""
    judge = Judge(grid_zones(), None, plugins_named(names))
    return _shown(judge.ask(judge.load(read_case(json.dumps(case).encode()))))


def _shown(answer: object) -> JSON:
    found: JSON = json.loads(msgspec.json.encode(answer))
    return found


class Live:
    """One cluster for all cases. Each case arrives as shuffled events, among others that are undone: nodes and pods of another
    case, older states of its own objects, and questions in between. Afterwards everything goes away in another order."""

    def __init__(self, names: Collection[str]) -> None:
        self._judge = Judge(grid_zones(), None, plugins_named(names))

    def ask(self, case: JSON, noise: JSON, rng: random.Random) -> JSON:
        pod = self._judge.convert.pod(wire.PODS.one(json.dumps(case["pod"]).encode()))
        arriving = self._story(case, noise, rng)
        for event in arriving:
            event()
            if rng.random() < 0.05:
                self._judge.ask(pod)
        if rng.random() < 0.05:
            self._judge.cluster.debug_check()
        answer = _shown(self._judge.ask(pod))
        leaving = [*self._leaving(case["nodes"], case["pods"])]
        rng.shuffle(leaving)
        for event in leaving:
            event()
        assert not self._judge.cluster.pods
        assert not len(self._judge.cluster.snap)
        return answer

    def _story(self, case: JSON, noise: JSON, rng: random.Random) -> Iterator[Callable[[], object]]:
        """Events in an order that keeps that of each object."""
        own = [[*self._before(thing, rng), thing] for thing in (*case["nodes"], *case["pods"])]
        names = {node["metadata"]["name"] for node in case["nodes"]}
        tracks: list[list[Callable[[], object]]] = [[self._arrives(state) for state in track] for track in own]
        tracks += [
            [self._arrives(node), *self._leaving([node], [])]
            for node in noise["nodes"]
            if node["metadata"]["name"] not in names
        ]
        tracks += [[self._arrives(pod), *self._leaving([], [pod])] for pod in noise["pods"]]
        order = [i for i, track in enumerate(tracks) for _ in track]
        rng.shuffle(order)
        steps = [iter(track) for track in tracks]
        return (next(steps[i]) for i in order)

    def _before(self, thing: JSON, rng: random.Random) -> Iterator[JSON]:
        """Now and then an older state of an object."""
        if rng.random() > 0.2:
            return
        old: JSON = json.loads(json.dumps(thing))
        if "containers" not in thing["spec"]:
            old["spec"] = {"taints": [{"key": "old", "effect": "NoSchedule"}], "unschedulable": True}
            old["metadata"]["labels"] = {"zone": "old", "size": "5"}
            old["status"]["allocatable"] = {"cpu": "3", "pods": "2", "example.com/old": "1"}
        else:
            old["spec"]["nodeName"] = None
            old["metadata"].pop("deletionTimestamp", None)
            old["status"] = {"phase": "Pending"}
        yield old

    def _arrives(self, thing: JSON) -> Callable[[], object]:
        raw = json.dumps(thing).encode()
        cluster, convert = self._judge.cluster, self._judge.convert
        if "containers" in thing["spec"]:
            return lambda: cluster.put_pod(convert.pod(wire.PODS.one(raw)))
        return lambda: cluster.put_node(convert.node(wire.NODES.one(raw)))

    def _leaving(self, nodes: list[JSON], pods: list[JSON]) -> Iterator[Callable[[], object]]:
        cluster = self._judge.cluster
        for node in nodes:
            yield lambda name=node["metadata"]["name"]: cluster.drop_node(name)
        for pod in pods:
            yield lambda uid=pod["metadata"]["uid"]: cluster.drop_pod(uid)
