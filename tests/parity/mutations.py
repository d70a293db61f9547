"""Small errors planted into the core, one at a time: what the suite must notice.

A mutation replaces a text of a module's source. Functions and methods of the changed source take the place of the old ones, so
that objects and classes that others have imported are changed, too.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_CORE = "carbon_scheduler.core."
_PLUGINS = _CORE + "plugins."

MUTATIONS: dict[str, tuple[str, str, str]] = {
    "an empty effect tolerates nothing": (_PLUGINS + "taints", "if toleration.effect and", "if"),
    "Equal does not compare values": (_PLUGINS + "taints", "return toleration.value == taint.value", "return True"),
    "NoExecute is not regarded": (_PLUGINS + "taints", '("NoSchedule", "NoExecute")', '("NoSchedule",)'),
    "soft taints count the wrong way": (_PLUGINS + "taints", "by_maximum(raw, reverse=True)", "by_maximum(raw, reverse=False)"),
    "NotIn wants the label": (_PLUGINS + "node_affinity", 'found if requirement.operator == "In" else ~found', 'found if requirement.operator == "In" else ~found & (ids >= 0)'),
    "Gt holds for equal numbers": (_CORE + "selectors", "mine > bound", "mine >= bound"),
    "an empty term matches": (_PLUGINS + "node_affinity", "if not (term.expressions or term.fields) or any", "if any"),
    "a number with a leading zero is none": (_CORE + "selectors", "[+-]?[0-9]{1,19}", "[+-]?(0|[1-9][0-9]{0,18})"),
    "weights of preferred terms are 1": (_PLUGINS + "node_affinity", "total += preferred.weight * term_mask", "total += 1 * term_mask"),
    "a pinned pod sees all nodes": (_PLUGINS + "node_affinity", "return frozenset(names) if terms else None", "return None"),
    "0.0.0.0 clashes with itself alone": (_PLUGINS + "node_ports", "wanted in (ip, ANY_IP) or ip == ANY_IP", "wanted == ip"),
    "a place more than there is": (_PLUGINS + "resources", "requests.memory_b or _NOTHING, 1)", "requests.memory_b or _NOTHING, 0)"),
    "the last byte is not given away": (_PLUGINS + "resources", "short = amount > allocatable", "short = amount >= allocatable"),
    "never hopeless": (_PLUGINS + "resources", "codes[short & (amount > allocatable)]", "codes[short & False]"),
    "free shares are rounded up": (_PLUGINS + "resources", "free //= basics.offered", "free = -(-free // basics.offered)"),
    "a node without cpu counts as one with": (_PLUGINS + "resources", "total >>= basics.both if snap.lopsided else 1", "total >>= 1"),
    "the balance of before is left out": (_CORE + "basics", "150 - evenness_of(", "70 + 0 * evenness_of("),
    "shares above one": (_PLUGINS + "resources", "np.minimum(halves, 0.5, out=halves)", "pass"),
    "the score takes the real requests": (_CORE + "basics", "cpu - scoring[0]", "cpu - cpu_m"),
    "a spread counts terminating pods": (_PLUGINS + "spread_rules", "terminating=False", "terminating=True"),
    "a spread does not count the pod itself": (_PLUGINS + "pod_topology_spread", "int(not problem and matches(selector, labels))", "0"),
    "an empty selector counts all pods": (_PLUGINS + "spread_rules", "if self.selector else None", "if self.selector is not None else None"),
    "too few domains are enough": (_PLUGINS + "spread_counts", "if self._domains < min_domains:", "if False:"),
    "a domain of nodes that do not count is one": (_PLUGINS + "spread_counts", "there = places.nodes > 0", "there = places.nodes >= 0"),
    "matchLabelKeys are left out": (_PLUGINS + "pod_topology_spread", "for key in of.match_label_keys if key in labels", "for key in ()"),
    "pods move in no domain": (_PLUGINS + "spread_counts", "self.sums[domain] += by", "pass"),
    "a spread's weights are all alike": (_PLUGINS + "spread_rules", "log(size + 2)", "log(4)"),
    "nodes without a key are scored": (_PLUGINS + "spread_rules", "found[NOWHERE] = 0  # own", "found[NOWHERE] = 100  # own"),
    "a StatefulSet is no owner": (_PLUGINS + "spread_defaults", '("apps/v1", "StatefulSet"): "StatefulSet"', '("apps/v1", "StatefulSets"): "StatefulSet"'),
    "Services of all namespaces select": (_PLUGINS + "spread_defaults", "self._services.get(namespace, [])", "[s for found in self._services.values() for s in found]"),
    "disks that others only read are free": (_CORE + "volume_use", "(exclusive and uses.reading)", "False"),
    "an rbd image is one whatever its monitors": (_CORE + "pod_volumes", 'yield "rbd", monitor, pool', 'yield "rbd", "", pool'),
    "a claim for one pod serves several": (_PLUGINS + "volume_restrictions", 'if "ReadWriteOncePod" in claim.access_modes and', "if False and"),
    "volumes that are there count as new": (_PLUGINS + "node_volume_limits", "new[use.slots_with(volume)] -= 1", "pass"),
    "VolumeAttachments do not count": (_CORE + "volume_use", "driver for volume, driver in attached.items() if volume not in found.volumes", "()"),
    "no driver stands for disks in a pod's spec": (_CORE + "volume_use", "in_tree = migrated(volume.kind) if migrating else None", "in_tree = None"),
    "what is attached is never looked at again": (_CORE + "volume_use", "self._stale[slot] = None", "pass"),
    "the largest volume is taken first": (_PLUGINS + "volume_search", "found.sort(key=_by_size)", "found.sort(key=_by_size, reverse=True)"),
    "one volume serves two claims": (_PLUGINS + "volume_search", "slots = slots[other[slots] != number]", "pass"),
    "beside a reserved volume others do": (_PLUGINS + "volume_search", "open_here &= ~here", "open_here &= ~(here & fits)"),
    "room is that of all volumes together": (_PLUGINS + "volume_search", "capacity.capacity_b if capacity.maximum_volume_b is None else capacity.maximum_volume_b", "capacity.capacity_b"),
    "a claim's chosen node does not bind": (_PLUGINS + "volume_search", "self.codes[others] |= _NO_VOLUME", "others[:] = False"),
    "a volume that a driver took over keeps its labels": (_PLUGINS + "volume_search", "fits = np.where(there, self._mask(translated), fits)", "pass"),
    "a zone's label is not met by its later name": (_PLUGINS + "volume_zone", "if key in _GENERAL:", "if False:"),
    "a node without zones is in no zone": (_PLUGINS + "volume_zone", "np.where(fits | ~labelled", "np.where(fits"),
    "of several zones the first counts": (_PLUGINS + "volume_zone", "for value in text.split(SEVERAL))", "for value in text.split(SEVERAL)[:1])"),
    "the first of a group waits for the second": (_PLUGINS + "affinity_shape", "self._is_first = self._matches_itself and", "self._is_first = False and"),
    "affinity looks at each term by itself": (_PLUGINS + "affinity_shape", "together = common(near)", "together = near[0] if near else common(near)"),
    "the anti-affinity of others is not heeded": (_PLUGINS + "affinity_shape", "codes[sums.of(rows) > 0] = _THEIRS", "pass"),
    "a selector of namespaces never means all by accident": (_PLUGINS + "pod_terms", "if matches(selector, NO_LABELS):", "if selector == ():"),
    "the required affinity of others does not count": (_PLUGINS + "affinity_shape", 'case "required-affinity" if self._hard > 0:', 'case "required-affinity" if False:'),
    "preferences are scored from zero": (_PLUGINS + "inter_pod_affinity", "low, high = int(of.min()), int(of.max())", "low, high = min(int(of.min()), 0), int(of.max())"),
    "a domain that gets its first pod is overlooked": (_PLUGINS + "domains", "self.flips.add(slot)", "pass"),
    "running pods' terms that cannot be read count": (_CORE + "peers", "return not any(fault(", "return True or any(fault("),
    "changes of load are not seen": (_CORE + "snapshot", "self.load_log.add(slot)", "pass"),
    "a node that went away stays": (_CORE + "snapshot", "self.alive[slot] = False", "pass"),
    "a pod that went away stays": (_CORE + "cluster", "self.snap.charge(slot, pod, -1)", "pass"),
    "finished pods count": (_CORE + "cluster", "if pod.finished:", "if False:"),
    "reasons are not sorted by text": (_CORE + "verdict", "sorted(f\"{hits} {text}\"", "list(f\"{hits} {text}\""),
    "sidecars are not added up": ("carbon_scheduler.kube.resources", "_add(sidecars, own)", "_raise(sidecars, own)"),
    "overhead is left out": ("carbon_scheduler.kube.resources", "_add(total, self._overhead)", "pass"),
    "an infeasible resize counts": ("carbon_scheduler.kube.resources", 'return condition.reason == "Infeasible"', "return False"),
    "lower priorities are waited for": (_CORE + "nominations", "spec.priority >= pod.spec.priority", "spec.priority >= -99"),
    "nominated pods do not count": (_CORE + "nominations", "if not self._node or", "if True or"),
    "nominated pods are not added up": (_CORE + "nominations", "view.requested[:, reserved.slots] += reserved.amounts", "pass"),
    "an image counts whole wherever it is": (_PLUGINS + "image_locality", "(count / nodes)", "1.0"),
    "the last size of an image counts": (_CORE + "images", "found.setdefault(name, image.size_b)", "found[name] = image.size_b"),
    "an image that went away keeps its size": (_CORE + "images", "del self._known[name]", "pass"),
    "one feature of those needed is enough": (_PLUGINS + "node_declared_features", "self._needed.issubset(node.features)", "not self._needed.isdisjoint(node.features)"),
}  # fmt: skip

_STRATEGIES = _PLUGINS + "strategies"
OF_PROFILES: dict[str, tuple[str, str, str]] = {
    "weights of resources are 1": (_STRATEGIES, "score * weight, 0", "score, 0"),
    "more than there is counts as more": (_STRATEGIES, "np.minimum(requested, allocatable) * MAX_SCORE", "requested * MAX_SCORE"),
    "a resource without a score weighs": (_STRATEGIES, "there &= score > 0", "pass"),
    "the ratio is cut": (_STRATEGIES, "(2 * total + divisor) // (2 * divisor) if ratio", "total // divisor if ratio"),
    "a shape goes on beyond its end": (_STRATEGIES, "[shape[-1][1] * _SCALE] * 101", "[0] * 101"),
    "scalars that nobody asks for count": (_STRATEGIES, "(not amount and name not in FIXED)", "False"),
    "three shares are balanced as two": (_STRATEGIES, "count > 2, many", "count > 3, many"),
    "an added term is one of the pod's": (_PLUGINS + "node_affinity", "UNRESOLVABLE_BIT | np.uint64(2)", "UNRESOLVABLE_BIT | np.uint64(1)"),
    "added preferences do not count": (_PLUGINS + "node_affinity", "(*added.preferred, *preferred) if", "preferred if"),
    "ignored resources are not": (_PLUGINS + "resources", "return name in self._args.ignored_resources or", "return"),
    "a weight that is not given is the usual one": (_PLUGINS + "profiles", "weight or 1", "weight or DEFAULT_WEIGHTS.get(name, 1)"),
    "a plugin that is named again comes last": (_PLUGINS + "profiles", "[*overriding, *rest,", "[*rest, *overriding,"),
    "a score that is off is on": (_PLUGINS + "part", "whole.scores and scores", "whole.scores"),
}  # fmt: skip
"""Those that only other profiles than the default one can show."""


OF_PREEMPTION: dict[str, tuple[str, str, str]] = {
    "equal priorities are victims": (_CORE + "preemption", "below = table.priority < pod.spec.priority", "below = table.priority <= pod.spec.priority"),
    "the least important are spared first": (_CORE + "victims", "return -pod.spec.priority, started_s(pod), pod.uid", "return pod.spec.priority, -started_s(pod), pod.uid"),
    "who runs longer goes first": (_CORE + "victims", "return -pod.spec.priority, started_s(pod), pod.uid", "return -pod.spec.priority, -started_s(pod), pod.uid"),
    "nobody is spared": (_CORE + "preemption", "out = ~trial.fits_sums(view, slot)", "out = np.ones(len(slot), np.bool_)"),
    "budgets are not heeded": (_CORE + "preemption", "if violating.any():", "if False:"),
    "a budget allows one more": (_CORE + "preemption", "nth >= allowed[budget[covered]]", "nth > allowed[budget[covered]]"),
    "an empty selector covers all": (_CORE + "victims", "if not budget.selector or not spec.labels", "if budget.selector is None or not spec.labels"),
    "a budget covers other namespaces": (_CORE + "victims", "or budget.namespace != spec.namespace", "or False"),
    "pods that a budget has counted count again": (_CORE + "preemption", "and pod.name not in budget.disrupted", "and True"),
    "nominated pods are not victims' rivals": (_CORE + "preemption", "self._view = nominations.view(self._reserved)", "self._view = self._snap.apart()"),
    "the highest priority does not matter": (_CORE + "candidates", '("top", 1), ', ""),
    "the number of victims does not matter": (_CORE + "candidates", '("total", 1), ("pods", 1), ', ""),
    "who started first goes": (_CORE + "candidates", '("since", -1)', '("since", 1)'),
    "a victim on its way is not waited for": (_CORE + "preemption", "return pod.terminating and pod.preempted", "return False"),
    "hopeless nodes are tried": (_CORE + "preemption", "(codes >> np.uint64(63)) == 0", "codes > 0"),
    "a trial is not undone": (_CORE + "preemption", "with_them(snap, slot, away.values(), 1)", "pass"),
}  # fmt: skip


def plant(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the error until the test ends."""
    name, old, new = {**MUTATIONS, **OF_PROFILES, **OF_PREEMPTION}[sentence]
    module = import_module(name)
    source = inspect.getsource(module)
    assert old in source, f"{sentence}: {name} has changed and no longer holds {old!r}"
    changed = dict(vars(module))
    exec(compile(source.replace(old, new), module.__file__ or name, "exec"), changed)
    for key, value in list(changed.items()):
        before = vars(module).get(key)
        if isinstance(value, FunctionType) and value.__module__ == name:
            for user in [m for n, m in sys.modules.items() if n.startswith("carbon_scheduler.") and m is not None]:
                if vars(user).get(key) is before:
                    monkeypatch.setattr(user, key, value)
        elif isinstance(value, type) and value.__module__ == name and isinstance(before, type):
            for attribute, method in vars(value).items():
                if isinstance(method, (FunctionType, property)):
                    _belong(method, before)
                    monkeypatch.setattr(before, attribute, method)
            changed[key] = before  # so that its instances are still what others take them for


def _belong(method: FunctionType | property, owner: type) -> None:
    """Lets `super()` in a method of the changed source mean the class that the method is put into."""
    function = method.fget if isinstance(method, property) else method
    if isinstance(function, FunctionType) and "__class__" in function.__code__.co_freevars:
        assert function.__closure__ is not None
        function.__closure__[function.__code__.co_freevars.index("__class__")].cell_contents = owner
