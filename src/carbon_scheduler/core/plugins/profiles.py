"""What a profile makes of the default plugins: which filter, in which order, and which score, with which weight.

Sources: kube-scheduler v1.36.3 apis/config/v1/default_plugins.go (getDefaultPlugins, mergePluginSet) and
framework/runtime/framework.go (expandMultiPointPlugins, getValidScoreWeights).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.model import Struct
from carbon_scheduler.core.settings import PluginSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carbon_scheduler.core.settings import Profile

MULTI_POINT: Final = "multiPoint"
POINTS: Final = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "permit", "preBind",
    "bind", "postBind", "placementGenerate", "placementScore",
)  # fmt: skip
"""Extension points of a profile, without `multiPoint`, which stands for all that a plugin has."""

_FILTER: Final = ("preFilter", "filter")
_SCORE: Final = ("preScore", "score")
IMPLEMENTS: Final[dict[str, tuple[str, ...]]] = {
    "SchedulingGates": ("preEnqueue",),
    "PrioritySort": ("queueSort",),
    "NodeUnschedulable": ("filter",),
    "NodeName": ("filter",),
    "TaintToleration": ("filter", *_SCORE),
    "NodeAffinity": (*_FILTER, *_SCORE),
    "NodePorts": _FILTER,
    "NodeResourcesFit": (*_FILTER, *_SCORE),
    "VolumeRestrictions": _FILTER,
    "NodeVolumeLimits": _FILTER,
    "VolumeBinding": (*_FILTER, *_SCORE, "reserve", "preBind"),
    "VolumeZone": _FILTER,
    "PodTopologySpread": (*_FILTER, *_SCORE),
    "InterPodAffinity": (*_FILTER, *_SCORE),
    "DynamicResources": ("preEnqueue", *_FILTER, "postFilter", "score", "reserve", "preBind"),
    "DefaultPreemption": ("preEnqueue", "postFilter"),
    "NodeResourcesBalancedAllocation": _SCORE,
    "ImageLocality": ("score",),
    "DefaultBinder": ("bind",),
    "NodeDeclaredFeatures": _FILTER,
}
"""The plugins of the default profile, in its order, and the extension points that each has."""

DEFAULT_WEIGHTS: Final = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "NodeResourcesFit": 1,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "DynamicResources": 2,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}
_DEFAULT: Final = tuple((name, DEFAULT_WEIGHTS.get(name, 0)) for name in IMPLEMENTS)
MAX_WEIGHT: Final = 2**31 - 1
"""Of the file's int32. Nine plugins of it times 100 are far from the int64 of a total."""


class Problem(Struct, frozen=True):
    """What cannot be served of a profile, and where it says so."""

    path: str
    got: str
    expected: str
    next_step: str


class Enabled(Struct, frozen=True):
    """The plugins of a profile. `filters` in their order; `scores` with their weight; `prepares`: those of PreScore."""

    filters: tuple[str, ...]
    scores: dict[str, int]
    prepares: tuple[str, ...]
    preempts: bool


def merged(default: Sequence[tuple[str, int]], custom: PluginSet) -> list[tuple[str, int]]:
    """Upstream's mergePluginSet: the default without what is disabled, a plugin that is named anew in its old place, then the
    others."""
    anew = dict(custom.enabled)
    found: list[tuple[str, int]] = []
    replaced: set[int] = set()
    if "*" not in custom.disabled:
        for name, weight in default:
            if name in custom.disabled:
                continue
            if name in anew:
                replaced.add(max(i for i, (other, _) in enumerate(custom.enabled) if other == name))
                found.append((name, anew[name]))
            else:
                found.append((name, weight))
    found += [plugin for i, plugin in enumerate(custom.enabled) if i not in replaced]
    return found


def expanded(point: str, own: PluginSet, multi_point: Sequence[tuple[str, int]]) -> list[str]:
    """The plugins of one extension point in their order: those that override `multiPoint`, the rest of that, then the others
    that are named for the point alone."""
    named = [name for name, _ in own.enabled]
    if "*" in own.disabled:
        return named
    candidates = [name for name, _ in multi_point if point in IMPLEMENTS[name] and name not in own.disabled]
    overriding = [name for name in named if name in candidates]
    rest = [name for name in candidates if name not in named]
    return [*overriding, *rest, *(name for name in named if name not in overriding)]


def enabled(profile: Profile) -> Enabled:
    """What a profile without `problems` enables."""
    multi_point, points = _points(profile.plugins)
    weights: dict[str, int] = {}
    for name, weight in (*profile.plugins.get("score", PluginSet()).enabled, *multi_point):
        weights.setdefault(name, weight or 1)
    return Enabled(
        tuple(points["filter"]),
        {name: weights[name] for name in points["score"]},
        tuple(points["preScore"]),
        "DefaultPreemption" in points["postFilter"],
    )


def problems(profile: Profile) -> list[Problem]:
    """Every place at which a profile asks for what kube-scheduler refuses too, or for what this program has not."""
    return [*_words(profile.plugins), *_whole({point: _known(one) for point, one in profile.plugins.items()})]


def _known(one: PluginSet) -> PluginSet:
    return PluginSet(
        tuple({name: (name, weight) for name, weight in one.enabled if name in IMPLEMENTS}.values()), one.disabled
    )


_OFF_BY_DEFAULT: Final = frozenset({"GangScheduling", "TopologyPlacementGenerator", "PodGroupPodsCount"})


def _words(plugins: Mapping[str, PluginSet]) -> Iterator[Problem]:
    """What is wrong with single entries."""
    for point, one in plugins.items():
        if point != MULTI_POINT and point not in POINTS:
            yield Problem(
                f"plugins.{point}", "an extension point", f"one of {', '.join((MULTI_POINT, *POINTS))}", "rename it"
            )
            continue
        seen: set[str] = set()
        for i, (name, weight) in enumerate(one.enabled):
            where = f"plugins.{point}.enabled[{i}]"
            if name not in IMPLEMENTS:
                plugins_known = "a plugin of kube-scheduler's default profile"
                yield Problem(f"{where}.name", repr(name), plugins_known, "take it out: no others can be loaded")
            elif point != MULTI_POINT and point not in IMPLEMENTS[name]:
                has = f"one of {name}'s own points, {', '.join(IMPLEMENTS[name])}"
                yield Problem(where, f"{name} in {point}", has, "move it or take it out")
            elif name in seen:
                yield Problem(where, f"{name} twice", "each plugin once", "take one out")
            if not 0 <= weight <= MAX_WEIGHT:
                yield Problem(f"{where}.weight", str(weight), f"0 to {MAX_WEIGHT}", "choose another weight")
            seen.add(name)
        for i, name in enumerate(one.disabled):
            if name != "*" and name not in IMPLEMENTS and name not in _OFF_BY_DEFAULT:
                where = f"plugins.{point}.disabled[{i}].name"
                yield Problem(where, repr(name), 'a plugin of the default profile, or "*"', "correct its name")


def _points(plugins: Mapping[str, PluginSet]) -> tuple[list[tuple[str, int]], dict[str, list[str]]]:
    """What `multiPoint` comes to, and the plugins of each extension point in their order."""
    multi_point = merged(_DEFAULT, plugins.get(MULTI_POINT, PluginSet()))
    return multi_point, {point: expanded(point, plugins.get(point, PluginSet()), multi_point) for point in POINTS}


def _whole(plugins: Mapping[str, PluginSet]) -> Iterator[Problem]:
    """What is wrong with the profile that comes of them."""
    _, at = _points(plugins)
    for point, name in (("queueSort", "PrioritySort"), ("bind", "DefaultBinder")):
        if at[point] != [name]:
            yield Problem(f"plugins.{point}", ", ".join(at[point]) or "no plugin", f"{name} alone", "leave it enabled")
    if "SchedulingGates" not in at["preEnqueue"]:
        kept = "leave it enabled: the API server refuses to bind gated pods"
        yield Problem("plugins.preEnqueue", "SchedulingGates disabled", "it enabled", kept)
    for name, points in IMPLEMENTS.items():
        if name == "DynamicResources":  # not supported in any form: a pod with claims is refused
            continue
        on = [point for point in points if name in at[point]]
        for together in (_FILTER, ("filter", "reserve", "preBind")):
            mine = [point for point in together if point in points]
            if 0 < sum(point in on for point in mine) < len(mine):
                there = ", ".join(point for point in mine if point in on)
                both = f"all of {', '.join(mine)}, or none"
                yield Problem("plugins", f"{name} in {there} alone", both, "enable or disable it in all of these")
        # Without PostFilter nothing is evicted, and there is nothing for DefaultPreemption's PreEnqueue to wait for.
        for point, needs in (("score", "preScore"), ("postFilter", "preEnqueue")):
            if point in on and needs in points and needs not in on:
                both = f"{needs} with it"
                yield Problem(
                    "plugins", f"{name} in {point} without {needs}", both, f"disable it in {point}, or enable both"
                )
    first = [name for name in at["preFilter"] if name in at["filter"]]
    if first != [name for name in at["filter"] if name in first]:
        yield Problem("plugins.preFilter", "another order than in filter", "the same order", "order both alike")
