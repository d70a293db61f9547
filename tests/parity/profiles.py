"""Random profiles in kube-scheduler's own form: plugins enabled, disabled and ordered in every way, and all their arguments.

Both sides read the same file. Each case is then of the pods of one profile.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.plugins.profiles import DEFAULT_WEIGHTS, IMPLEMENTS
from carbon_scheduler.kubescheduler import API_VERSION, KIND, read
from parity.draft import JSON, Choices, Draft, filled

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

ALWAYS: Final = ("SchedulingGates", "PrioritySort", "DefaultBinder")
ZONES: Final = ("a", "b", "c", "")
RESOURCES: Final = ("cpu", "memory", "ephemeral-storage", "example.com/gpu", "hugepages-2Mi", "pods", "odd")


class Profiles:
    """The profiles of a seed, for those of the default plugins that are named."""

    def __init__(self, seed: int | str, names: Collection[str], count: int, choices: Choices | None = None) -> None:
        self.choices = choices or Choices()
        self.tree: JSON = {"apiVersion": API_VERSION, "kind": KIND, "profiles": []}
        for number in range(count):
            draft = Draft(random.Random(f"profile {seed}/{number}"), self.choices, f"p{number}")
            self.tree["profiles"].append(_profile(draft, names))
        self.made = read(self.tree, "the generator").profiles

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(self.tree), encoding="utf-8")
        return path

    def give(self, case: JSON, number: int) -> JSON:
        """The case with the pending pod under one of the profiles, and the others of default-scheduler under some."""
        names = [one.scheduler_name for one in self.made]
        rng = random.Random(f"names of {case['id']}")
        for pod in case["pods"]:
            if pod["spec"].get("schedulerName", "default-scheduler") == "default-scheduler":
                pod["spec"]["schedulerName"] = rng.choice(names)
        case["pod"]["spec"]["schedulerName"] = names[number % len(names)]
        return case

    def of(self, case: JSON) -> JSON:
        """The file with the profiles that the pods of a case are of."""
        names = {pod["spec"].get("schedulerName") for pod in (*case.get("pods", ()), case["pod"])}
        return {**self.tree, "profiles": [one for one in self.tree["profiles"] if one["schedulerName"] in names]}


def _profile(draft: Draft, names: Collection[str]) -> JSON:
    args = {name: _ARGS[name](draft) for name in _ARGS if name in names and draft.rng.random() < 0.6}
    return {
        "schedulerName": draft.name,
        "plugins": _plugins(draft, [name for name in IMPLEMENTS if name in names]),
        "pluginConfig": [{"name": name, "args": one} for name, one in args.items()],
    }


def _plugins(draft: Draft, names: list[str]) -> JSON:
    """All others are disabled. What upstream or we refuse does not come up: half a filter, a score without its PreScore."""
    rng = draft.rng
    if draft.chance("plugins from nothing", 0.2):
        on = [name for name in names if rng.random() < 0.8]
        rng.shuffle(on)
        multi_point: JSON = {"disabled": [_named("*")], "enabled": [_named(name) for name in (*ALWAYS, *on)]}
    else:
        off = [name for name in names if rng.random() < draft.one_of("share of plugins off", (0.0, 0.1, 0.3))]
        on = [name for name in names if name not in off]
        others = [name for name in IMPLEMENTS if name not in names and name not in ALWAYS]
        multi_point = {"disabled": [_named(name) for name in (*others, *off)]}
        again = draft.chance("a plugin enabled once more", 0.2)
        multi_point["enabled"] = [_weighed(draft, name) for name in rng.sample(on, min(again, len(on)))]
    found: JSON = {"multiPoint": multi_point}
    scoring = [name for name in on if "score" in IMPLEMENTS[name]]
    form = draft.one_of("scores", ("as they are", "weighed", "some off", "all off", "others"), (3, 3, 2, 1, 2))
    some = [name for name in scoring if rng.random() < 0.5]
    if form == "weighed":
        found["score"] = {"enabled": [_weighed(draft, name) for name in some]}
    elif form == "some off":
        found["score"] = {"disabled": [_named(name) for name in some]}
        if draft.chance("PreScore off too", 0.5):
            found["preScore"] = found["score"]
    elif form == "all off":
        found["score"] = found["preScore"] = {"disabled": [_named("*")]}
    elif form == "others":
        found["score"] = {"disabled": [_named("*")], "enabled": [_weighed(draft, name) for name in some]}
    parts = [name for name in on if "filter" in IMPLEMENTS[name] and name != "VolumeBinding"]
    form = draft.one_of("filters", ("as they are", "some off", "first others"), (3, 2, 2))
    some = [name for name in parts if rng.random() < 0.4]
    pre = [name for name in some if "preFilter" in IMPLEMENTS[name]]
    if form == "some off":
        found["filter"] = {"disabled": [_named(name) for name in some]}
        found["preFilter"] = {"disabled": [_named(name) for name in pre]}
    elif form == "first others":
        order = rng.sample(some, len(some))
        found["filter"] = {"enabled": [_named(name) for name in order]}
        found["preFilter"] = {"enabled": [_named(name) for name in order if name in pre]}
    return found


def _named(name: str) -> JSON:
    return {"name": name}


def _weighed(draft: Draft, name: str) -> JSON:
    weight = draft.one_of("weight of a score", (None, 0, 1, 2, 5, 100)) if name in DEFAULT_WEIGHTS else None
    return {"name": name, "weight": weight} if weight is not None else _named(name)


def _fit(draft: Draft) -> JSON:
    form = draft.one_of(
        "strategy", ("none", "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"), (1, 2, 2, 3)
    )
    strategy: JSON | None = None
    if form != "none":
        strategy = {"type": form, **filled(resources=_resources(draft, 100))}
        if form == "RequestedToCapacityRatio":
            at = sorted(draft.rng.sample(range(101), draft.one_of("points of a shape", (1, 2, 3, 5))))
            points = [{"utilization": x, "score": draft.one_of("score of a point", (0, 1, 3, 7, 10))} for x in at]
            strategy["requestedToCapacityRatio"] = {"shape": points}
    return filled(
        scoringStrategy=strategy,
        ignoredResources=["example.com/gpu"] if draft.chance("an ignored resource", 0.5) else None,
        ignoredResourceGroups=[draft.one_of("ignored group", ("example.com", "kubernetes.io"))]
        if draft.chance("an ignored group", 0.2)
        else None,
    )


def _resources(draft: Draft, most: int) -> list[JSON]:
    names = draft.rng.sample(RESOURCES, draft.one_of("resources of a score", (0, 1, 2, 3, 5)))
    if most == 1:
        return [{"name": name} for name in names]
    return [{"name": name, **filled(weight=draft.one_of("weight of a resource", (None, 1, 3, 100)))} for name in names]


def _affinity(draft: Draft) -> JSON:
    def term() -> JSON:
        if draft.chance("added by field", 0.2):
            operator = draft.one_of("added field operator", ("In", "NotIn"))
            return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": ["node-0"]}]}
        operator = draft.one_of("added operator", ("In", "NotIn", "Exists", "DoesNotExist", "Gt"))
        if operator == "Gt":
            return {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["1"]}]}
        values = {"values": [draft.one_of("added value", ZONES)]} if operator in ("In", "NotIn") else {}
        return {"matchExpressions": [{"key": "zone", "operator": operator, **values}]}

    required = draft.some("added required terms", 2, term)
    weighed = [{"weight": weight, "preference": term()} for weight in draft.some("added preferred terms", 2, lambda: draft.one_of("added weight", (1, 10, 100)))]  # fmt: skip
    empty = not required and draft.chance("required terms without one", 0.3)
    return {
        "addedAffinity": filled(
            requiredDuringSchedulingIgnoredDuringExecution={"nodeSelectorTerms": required}
            if required or empty
            else None,
            preferredDuringSchedulingIgnoredDuringExecution=weighed,
        )
    }


def _spread(draft: Draft) -> JSON:
    if draft.chance("system constraints", 0.3):
        return filled(defaultingType=draft.one_of("said to be", ("System", "")))
    keys = ("topology.kubernetes.io/zone", "kubernetes.io/hostname", "rack")
    made: dict[tuple[str, str], JSON] = {}
    for _ in range(draft.one_of("default constraints", (0, 1, 2, 3))):
        key = draft.one_of("key of a default constraint", keys)
        when = draft.one_of("a default constraint is", ("DoNotSchedule", "ScheduleAnyway"))
        made[key, when] = {
            "topologyKey": key,
            "whenUnsatisfiable": when,
            "maxSkew": draft.one_of("skew of a default constraint", (1, 2, 5)),
            **filled(
                nodeAffinityPolicy=draft.one_of("default affinity policy", (None, "Ignore", "Honor")),
                nodeTaintsPolicy=draft.one_of("default taints policy", (None, "Ignore", "Honor")),
            ),
        }
        if when == "DoNotSchedule" and draft.chance("default minDomains", 0.3):
            made[key, when]["minDomains"] = draft.one_of("default domains", (1, 2, 4))
    return {"defaultingType": "List", "defaultConstraints": [*made.values()]}


def _inter_pod_affinity(draft: Draft) -> JSON:
    return {
        "hardPodAffinityWeight": draft.one_of("hard weight", (0, 1, 50, 100)),
        "ignorePreferredTermsOfExistingPods": draft.chance("preferred terms of others are ignored", 0.5),
    }


_ARGS: Final = {
    "InterPodAffinity": _inter_pod_affinity,
    "NodeAffinity": _affinity,
    "NodeResourcesBalancedAllocation": lambda draft: filled(resources=_resources(draft, 1)),
    "NodeResourcesFit": _fit,
    "PodTopologySpread": _spread,
}
