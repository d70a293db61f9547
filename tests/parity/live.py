"""The core's answer to a case, by way of events: as in a running scheduler, nothing is ever built anew."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from carbon_scheduler.core.model import NodeName
from carbon_scheduler.core.plugins import default_profile
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.cases import Judge, read_case
from carbon_scheduler.kube.kinds import KINDS
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from carbon_scheduler.core.model import Pod
    from carbon_scheduler.core.plugin import Plugin
    from carbon_scheduler.core.settings import Profile

    Event = Callable[[], object]

JSON = dict[str, Any]
_KINDS: Final = {kind.listed_as: kind for kind in KINDS}


def plugins_named(names: Collection[str]) -> tuple[Plugin, ...]:
    """Of the default profile, in its order."""
    return tuple(plugin for plugin in default_profile() if plugin.name in names)


def plain(case: JSON, names: Collection[str], profiles: Sequence[Profile] = ()) -> JSON:
    """The answer of `carbon-scheduler evaluate` to a case, from an empty cluster."""
    judge = Judge(grid_zones(), None, plugins_named(names), profiles)
    return _shown(judge.ask(judge.load(read_case(json.dumps(case).encode()))))


def _shown(answer: object) -> JSON:
    found: JSON = json.loads(msgspec.json.encode(answer))
    return found


class Live:
    """One cluster for all cases. Each case arrives as shuffled events, among others that are undone: objects of another case,
    older states of its own, and questions in between. Afterwards everything goes away in another order."""

    def __init__(self, names: Collection[str], profiles: Sequence[Profile] = ()) -> None:
        self._judge = Judge(grid_zones(), None, plugins_named(names), profiles)

    def ask(self, case: JSON, noise: JSON, rng: random.Random) -> JSON:
        cluster = self._judge.cluster
        pod = self._judge.convert.pod(wire.PODS.one(json.dumps(case["pod"]).encode()))
        story = [*self._story(case, noise, rng)]
        for left, event in zip(reversed(range(len(story))), story, strict=True):
            event()
            if left in (1, 3) or rng.random() < 0.05:  # then little has changed when it is asked next
                self._judge.ask(pod)
        if _sizes_differ(case, noise):  # then who reported an image first decides: the nodes once more, in their order
            for node in case["nodes"]:
                self._arrives("nodes", {**node, "status": {**node["status"], "images": None}})()
            for node in case["nodes"]:
                self._arrives("nodes", node)()
        if rng.random() < 0.05:
            cluster.debug_check()
        answer = self.told(pod)
        leaving = [self._leaves(sort, thing) for sort, thing in _things(case)]
        rng.shuffle(leaving)
        for event in leaving:
            event()
        assert not cluster.pods
        assert not len(cluster.snap)
        assert not cluster.namespaces
        assert not cluster.snap.namespaces
        assert not [key for kind in KINDS for key in cluster.snap.objects.all(kind.name)]
        return answer

    def told(self, pod: Pod) -> JSON:
        """The answer as things are. It is worked out for all nodes; what the scheduler decides by are arrays kept up to date,
        and where these say something else, that is part of the answer."""
        answer = _shown(self._judge.ask(pod))
        if "error" not in answer:
            verdict, _ = self._judge.judge(pod)
            slots = self._judge.cluster.snap.slot_of
            fitting = {name for name, node in answer["nodes"].items() if node["code"] == "Success"}
            kept = {name for name, slot in slots.items() if verdict.feasible[slot]}
            if kept != fitting:
                answer["kept feasible"] = sorted(kept)
            if answer["totals"]:
                ranked = verdict.ranked()
                if len({total - int(ranked[slots[NodeName(name)]]) for name, total in answer["totals"].items()}) > 1:
                    answer["kept ranks"] = {name: int(ranked[slots[NodeName(name)]]) for name in fitting}
        return answer

    def _story(self, case: JSON, noise: JSON, rng: random.Random) -> Iterator[Event]:
        """Events in an order that keeps that of each object."""
        tracks = [
            [self._arrives(sort, state) for state in (*_before(sort, thing, rng), thing)]
            for sort, thing in _things(case)
        ]
        own = {(sort, _key(thing)) for sort, thing in _things(case)}
        tracks += [
            [self._arrives(sort, thing), self._leaves(sort, thing)]
            for sort, thing in _things(noise)
            if sort == "pods" or (sort, _key(thing)) not in own  # pods are told apart by their uid
        ]
        order = [i for i, track in enumerate(tracks) for _ in track]
        rng.shuffle(order)
        steps = [iter(track) for track in tracks]
        return (next(steps[i]) for i in order)

    def _arrives(self, sort: str, thing: JSON) -> Event:
        raw = json.dumps(thing).encode()
        cluster, convert = self._judge.cluster, self._judge.convert
        match sort:
            case "nodes":
                return lambda: cluster.put_node(convert.node(wire.NODES.one(raw)))
            case "pods":
                return lambda: cluster.put_pod(convert.pod(wire.PODS.one(raw)))
            case "namespaces":
                return lambda: cluster.put_namespace(convert.namespace(wire.NAMESPACES.one(raw)))
        kind = _KINDS[sort]
        return lambda: cluster.put_object(kind.one(raw))

    def _leaves(self, sort: str, thing: JSON) -> Event:
        cluster, name = self._judge.cluster, thing["metadata"]["name"]
        match sort:
            case "nodes":
                return lambda: cluster.drop_node(name)
            case "pods":
                return lambda: cluster.drop_pod(thing["metadata"]["uid"])
            case "namespaces":
                return lambda: cluster.drop_namespace(name)
        kind = _KINDS[sort].name
        return lambda: cluster.drop_object(kind, _key(thing))


def _things(case: JSON) -> Iterator[tuple[str, JSON]]:
    """(the list it is in, the object) for each object of a case but the pending pod."""
    for sort in ("nodes", "pods", "namespaces", *_KINDS):
        for thing in case.get(sort, ()):
            yield sort, thing


def _sizes_differ(*cases: JSON) -> bool:
    """Whether any name of an image has two sizes."""
    sizes: dict[str, int] = {}
    for node in (node for case in cases for node in case["nodes"]):
        for image in node["status"].get("images") or ():
            if any(sizes.setdefault(name, image["sizeBytes"]) != image["sizeBytes"] for name in image["names"]):
                return True
    return False


def _key(thing: JSON) -> str:
    meta = thing["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


def _before(sort: str, thing: JSON, rng: random.Random) -> Iterator[JSON]:
    """Now and then an older state of an object."""
    if rng.random() > 0.2:
        return
    old: JSON = json.loads(json.dumps(thing))
    match sort:
        case "nodes":
            old["spec"] = {"taints": [{"key": "old", "effect": "NoSchedule"}], "unschedulable": True}
            old["metadata"]["labels"] = {"zone": "old", "size": "5"}
            old["status"]["allocatable"] = {"cpu": "3", "pods": "2", "example.com/old": "1"}
        case "pods":
            old["spec"]["nodeName"] = None
            old["metadata"].pop("deletionTimestamp", None)
            old["metadata"]["labels"] = {"app": "old"}
            old["status"] = {"phase": "Pending"}
        case "namespaces":
            old["metadata"]["labels"] = {"team": "old"}
        case _:  # a fresh object as it was before anything had been done about it
            old["metadata"].pop("annotations", None)
            old["metadata"].pop("deletionTimestamp", None)
            old.pop("status", None)
            for field in ("volumeName", "claimRef", "selector", "drivers", "storageCapacity"):
                old.get("spec", {}).pop(field, None)
            old.pop("capacity", None)
    yield old
