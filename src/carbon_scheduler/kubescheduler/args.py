"""The arguments of plugins, `pluginConfig[].args`: what a profile becomes by each.

Source: kube-scheduler v0.36.3 config/v1/types_pluginargs.go; defaults and checks of kubernetes v1.36.3
pkg/scheduler/apis/config/v1/defaults.go and validation/validation_pluginargs.go.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from carbon_scheduler.core import model, selectors
from carbon_scheduler.core.settings import DEFAULT_RESOURCES, AddedAffinity, FitArgs, Policy, Profile, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbon_scheduler.kubescheduler.reader import Reader

CARBON: Final = "Carbon"
"""Not a plugin of kube-scheduler, which does not look at the arguments of plugins that are not enabled."""
_MAX: Final = 2**31 - 1


def _fit(args: Reader, profile: Profile) -> Profile:
    ignored, groups = args.texts("ignoredResources"), args.texts("ignoredResourceGroups")
    for i, group in enumerate(groups):
        if "/" in group:
            args.say(f"ignoredResourceGroups[{i}]", group, "a name without '/'", "give what stands before the '/'")
    scoring = args.inner("scoringStrategy")
    kind: Strategy = scoring.word("type", "LeastAllocated", get_args(Strategy))
    resources = _resources(scoring, 100)
    ratio = scoring.inner("requestedToCapacityRatio")
    shape = tuple(_point(point) for point in ratio.items("shape"))
    ratio.end()
    scoring.end()
    if kind == "RequestedToCapacityRatio":
        if not shape:
            ratio.say("shape", None, "at least one point", "add a utilization and a score")
        for i, (before, after) in enumerate(pairwise(shape), start=1):
            if before[0] >= after[0]:
                ratio.say(f"shape[{i}].utilization", after[0], f"more than {before[0]}", "sort the points")
    elif scoring.has("requestedToCapacityRatio"):
        scoring.say("requestedToCapacityRatio", {}, f"nothing with type {kind}", "remove it, or change the type")
    return msgspec.structs.replace(profile, fit=FitArgs(kind, resources, shape, ignored, groups))


def _point(point: Reader) -> tuple[int, int]:
    found = (point.integer("utilization", 0, 0, 100), point.integer("score", 0, 0, 10))
    point.end()
    return found


def _resources(parent: Reader, most: int) -> tuple[tuple[str, int], ...]:
    """(name, weight); a missing weight, or 0, is 1."""
    found = []
    for one in parent.items("resources"):
        name, weight = one.text("name", needed="name a resource, e.g. cpu"), one.integer("weight", 1, 0, most)
        one.end()
        found.append((name, weight or 1))
    return tuple(found) or DEFAULT_RESOURCES


def _balanced(args: Reader, profile: Profile) -> Profile:
    names = [name for name, _ in _resources(args, 1)]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        args.say("resources", name, "each resource once", "take one out")
    return msgspec.structs.replace(profile, balanced_resources=tuple(names))


def _node_affinity(args: Reader, profile: Profile) -> Profile:
    affinity = args.inner("addedAffinity")
    selector = affinity.inner("requiredDuringSchedulingIgnoredDuringExecution")
    terms = tuple(_term(term) for term in selector.items("nodeSelectorTerms"))
    selector.end()
    required = terms if affinity.has("requiredDuringSchedulingIgnoredDuringExecution") else None
    preferred = []
    for one in affinity.items("preferredDuringSchedulingIgnoredDuringExecution"):
        preferred.append(model.PreferredTerm(one.integer("weight", 0, -_MAX - 1, _MAX), _term(one.inner("preference"))))
        one.end()
    affinity.end()
    return msgspec.structs.replace(profile, added_affinity=AddedAffinity(required, tuple(preferred)))


def _term(term: Reader) -> model.NodeSelectorTerm:
    expressions = tuple(_requirement(one) for one in term.items("matchExpressions"))
    fields = tuple(_requirement(one, of_fields=True) for one in term.items("matchFields"))
    term.end()
    return model.NodeSelectorTerm(expressions, fields)


def _requirement(one: Reader, *, of_fields: bool = False) -> model.Requirement:
    key = one.text("key", needed="name the label, e.g. topology.kubernetes.io/zone")
    operators = ("In", "NotIn") if of_fields else ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
    found = model.Requirement(key, one.word("operator", "", operators) or "", one.texts("values"))
    one.end()
    if not found.operator and not one.has("operator"):
        one.say("operator", None, f"one of {', '.join(operators)}", "add it")
    elif of_fields and (key != "metadata.name" or len(found.values) != 1):
        one.say("", f"{key} with {len(found.values)} values", "metadata.name with one value", "correct it")
    elif not of_fields and found.operator and (wrong := selectors.problem(found)):
        one.say("values", ", ".join(found.values), wrong, "correct it")
    return found


def _inter_pod_affinity(args: Reader, profile: Profile) -> Profile:
    return msgspec.structs.replace(
        profile,
        hard_pod_affinity_weight=args.integer("hardPodAffinityWeight", 1, 0, 100),
        ignore_preferred_terms_of_existing_pods=args.boolean("ignorePreferredTermsOfExistingPods", False),
    )


def _spread(args: Reader, profile: Profile) -> Profile:
    found: list[model.SpreadConstraint] = []
    for one in args.items("defaultConstraints"):
        domains = one.integer("minDomains", 1, 1, _MAX)
        constraint = model.SpreadConstraint(
            topology_key=one.text("topologyKey", needed="name a label of nodes"),
            max_skew=one.integer("maxSkew", 0, 1, _MAX),
            hard=one.word("whenUnsatisfiable", "", ("DoNotSchedule", "ScheduleAnyway")) == "DoNotSchedule",
            min_domains=domains if one.has("minDomains") else None,
            honor_affinity=one.word("nodeAffinityPolicy", "Honor", ("Honor", "Ignore")) == "Honor",
            honor_taints=one.word("nodeTaintsPolicy", "Ignore", ("Honor", "Ignore")) == "Honor",
        )
        one.unused("labelSelector", [], "remove it: the selector is taken from each pod")
        one.unused("matchLabelKeys", [], "remove it: the selector is taken from each pod")
        for needed in ("maxSkew", "whenUnsatisfiable"):
            if not one.has(needed):
                one.say(needed, None, "a value", "add it")
        one.end()
        if any((c.topology_key, c.hard) == (constraint.topology_key, constraint.hard) for c in found):
            one.say("", constraint.topology_key, "each topologyKey and whenUnsatisfiable once", "take one out")
        found.append(constraint)
    kind = args.word("defaultingType", "System", ("System", "List"))
    if kind == "System" and found:
        args.say("defaultConstraints", [*found], "none with defaultingType System", "set defaultingType: List")
    return msgspec.structs.replace(profile, default_constraints=tuple(found) if kind == "List" else None)


def _preemption(args: Reader, profile: Profile) -> Profile:
    percentage = args.integer("minCandidateNodesPercentage", 10, 0, 100)
    absolute = args.integer("minCandidateNodesAbsolute", 100, 0, _MAX)
    if not percentage and not absolute:
        args.say(
            "minCandidateNodesAbsolute", 0, "more than 0, as minCandidateNodesPercentage is 0", "raise one of them"
        )
    return msgspec.structs.replace(
        profile, min_candidate_nodes_percentage=percentage, min_candidate_nodes_absolute=absolute
    )


def _volume_binding(args: Reader, profile: Profile) -> Profile:
    timeout_s = args.integer("bindTimeoutSeconds", 600, 0, _MAX)
    args.unused("shape", [], "remove it: volumes are not scored, as in kube-scheduler by default")
    return msgspec.structs.replace(profile, bind_timeout_s=float(timeout_s))


def _dynamic_resources(args: Reader, profile: Profile) -> Profile:
    for name, usual in (("filterTimeout", "10s"), ("bindingTimeout", "10m0s")):
        args.unused(name, [usual], "remove it: pods with resource claims are refused")
    return profile


def _carbon(args: Reader, profile: Profile) -> Profile:
    """Ours. YAML 1.1 reads a bare `off` as false."""
    policies: tuple[Policy | bool, ...] = (*get_args(Policy), False)
    found = args.word("policy", None, policies)
    return msgspec.structs.replace(
        profile, policy=found if isinstance(found, str) else None if found is None else "off"
    )


ARGS: Final[Mapping[str, Callable[[Reader, Profile], Profile]]] = {
    "DefaultPreemption": _preemption,
    "DynamicResources": _dynamic_resources,
    "InterPodAffinity": _inter_pod_affinity,
    "NodeAffinity": _node_affinity,
    "NodeResourcesBalancedAllocation": _balanced,
    "NodeResourcesFit": _fit,
    "PodTopologySpread": _spread,
    "VolumeBinding": _volume_binding,
    CARBON: _carbon,
}
