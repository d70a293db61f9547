"""What a pod takes from a node: the request rules of kube-scheduler 1.36.3, in thousandths until the last step.

Sources: k8s.io/component-helpers v0.36.3 resource/helpers.go (PodRequests), pkg/scheduler/framework/types.go
(CalculateResource), plugins/noderesources/resource_allocation.go (calculatePodResourceRequest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.core.model import MAX_QUANTITY, Requests
from carbon_scheduler.kube.quantity import MAX_MILLI, BadQuantity, milli, units
from carbon_scheduler.units import MIB_B

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carbon_scheduler.kube import wire
    from carbon_scheduler.kube import wire_parts as parts

Amounts = dict[str, int]
"""Resource name -> thousandths of its base unit."""

DEFAULTS: Final[Amounts] = {"cpu": 100, "memory": 200 * MIB_B * 1000}
"""DefaultMilliCPURequest and DefaultMemoryRequest (pkg/scheduler/util/pod_resources.go): 100m, 200 MiB."""
_NONE: Final[Amounts] = {}
MAX_RESOURCES: Final = 1000
"""Names in one resource list; the API server itself has no limit but the object's size."""


class Reader:
    """Reads the resource lists of one object and remembers what could not be read.

    `unreadable_as` is what a quantity counts that is no quantity: MAX_MILLI where a pod already sits on a node (its node is
    full then: never too little), 0 for what a node offers. Negative ones count 0 in both.
    """

    def __init__(self, unreadable_as: int) -> None:
        self._unreadable_as = unreadable_as
        self.problem = ""

    def amounts(self, found: parts.Quantities | None, where: str) -> Amounts:
        if not found:
            return _NONE
        if len(found) > MAX_RESOURCES:
            self._note(f"{where}: got {len(found)} resources, expected at most {MAX_RESOURCES}")
        return {name: self._amount(value, where, name) for name, value in found.items()}

    def _amount(self, value: str | float | None, where: str, name: str) -> int:
        if value is None:
            return 0
        try:
            amount = milli(value if isinstance(value, str) else repr(value))
        except BadQuantity as error:
            self._note(f"{where}.{name[:63]}: {error}")
            return self._unreadable_as
        if amount < 0:
            self._note(f"{where}.{name[:63]}: got {value!r}, expected no negative quantity")
            return 0
        return amount

    def _note(self, problem: str) -> None:
        self.problem = self.problem or problem


def allocatable(found: parts.Quantities | None, reader: Reader) -> dict[str, int]:
    """What a node offers: cpu in millicores, all else in base units."""
    amounts = reader.amounts(found, "status.allocatable")
    return {name: _unit(name, amount) for name, amount in amounts.items() if name in _PLAIN or scalar(name)}


class PodResources:
    """The resource lists of one pod, read once and added up in the three ways that upstream needs."""

    def __init__(self, spec: wire.PodSpec, reader: Reader) -> None:
        self._containers = [
            (c.name or "", reader.amounts(_asked(c.resources), f"containers[{c.name}].resources.requests"))
            for c in spec.containers or ()
            if c is not None
        ]
        self._init = [
            (
                c.name or "",
                c.restart_policy == "Always",
                reader.amounts(_asked(c.resources), f"initContainers[{c.name}].resources.requests"),
            )
            for c in spec.init_containers or ()
            if c is not None
        ]
        pod = reader.amounts(_asked(spec.resources), "spec.resources.requests")
        self._pod = {name: amount for name, amount in pod.items() if _pod_level(name)}
        self._overhead = reader.amounts(spec.overhead, "spec.overhead")

    def pending(self) -> Requests:
        """What a pod not yet on a node asks for: its spec alone.

        The resource scores see its containers' requests and the defaults; pod-level requests do not count there (an
        accident of 1.36.3, kept: plugins/noderesources/fit.go:220).
        """
        asked = self._total(self._containers, self._init, self._pod)
        scoring = self._total(_with(self._containers, DEFAULTS), _with_init(self._init, DEFAULTS), _NONE)
        found = _requests(asked, scoring)
        if any(name.startswith("hugepages-") for name in self._pod):
            return msgspec.structs.replace(found, container_scalars=_scalars(scoring))
        return found

    def assigned(self, status: wire.PodStatus | None, reader: Reader) -> Requests:
        """What a pod takes from the node it is on: during an in-place resize the larger of spec, allocated and actual."""
        containers, init, pod = self._containers, self._init, self._pod
        if status is not None:
            infeasible = _infeasible(status)
            resized = _resized(status, reader)
            if resized:
                containers = [(n, _effective(own, resized.get(n), infeasible)) for n, own in containers]
                init = [
                    (n, sidecar, _effective(own, resized.get(n), infeasible) if sidecar else own)
                    for n, sidecar, own in init
                ]
            if pod and status.resources is not None:
                actual = reader.amounts(status.resources.requests, "status.resources.requests")
                allocated = reader.amounts(status.allocated_resources, "status.allocatedResources")
                whole = _effective(pod, (actual, allocated), infeasible)
                pod = {name: whole.get(name, 0) for name in pod}
        asked = self._total(containers, init, pod)
        # Pods on nodes: with pod-level requests only what is missing at both levels gets a default.
        missing = {name: amount for name, amount in DEFAULTS.items() if not pod or name not in asked}
        if not missing:
            return _requests(asked, asked)
        return _requests(asked, self._total(_with(containers, missing), _with_init(init, missing), pod))

    def _total(
        self,
        containers: Iterable[tuple[str, Amounts]],
        init: Iterable[tuple[str, bool, Amounts]],
        pod: Mapping[str, int],
    ) -> Amounts:
        total: Amounts = {}
        for _, own in containers:
            _add(total, own)
        sidecars: Amounts = {}
        peak: Amounts = {}
        for _, sidecar, own in init:
            if sidecar:
                _add(total, own)
                _add(sidecars, own)
                _raise(peak, sidecars)
            else:
                step = dict(own)
                _add(step, sidecars)
                _raise(peak, step)
        _raise(total, peak)
        total.update(pod)
        _add(total, self._overhead)
        return total


Key = tuple[object, ...]


def key(spec: wire.PodSpec) -> Key:
    """Everything that decides what a pod asks for, as it was written. Cost: 1 us for a usual pod, against 15 to add it up."""
    init = tuple([(c.restart_policy, _items(_asked(c.resources))) for c in spec.init_containers or () if c is not None])
    return (
        tuple([_items(_asked(c.resources)) for c in spec.containers or () if c is not None]),
        init,
        _items(spec.overhead),
        _items(_asked(spec.resources)),
    )


def as_specified(spec: wire.PodSpec, status: wire.PodStatus | None) -> bool:
    """Whether the status says nothing about resources that the spec does not say, letter for letter: no resize is going on."""
    if status is None:
        return True
    if status.resources is not None:
        return False
    statuses = (*(status.container_statuses or ()), *(status.init_container_statuses or ()))
    if not any(part is not None and part.resources is not None for part in statuses):
        return True
    containers = (*(spec.containers or ()), *(spec.init_containers or ()))
    own = {c.name: _asked(c.resources) or {} for c in containers if c is not None}
    for part in statuses:
        if part is not None and part.resources is not None:
            asked = own.get(part.name)
            if (part.resources.requests or {}) != asked or (part.allocated_resources or {}) != asked:
                return False
    return True


def _items(found: parts.Quantities | None) -> tuple[tuple[str, str | int | float | None], ...]:
    return tuple(found.items()) if found else ()


def _asked(found: wire.Resources | None) -> parts.Quantities | None:
    return None if found is None else found.requests


def _resized(status: wire.PodStatus, reader: Reader) -> dict[str, tuple[Amounts, Amounts]]:
    """Container name -> (actual, allocated). Only statuses with `resources` count (reference 1.18)."""
    found: dict[str, tuple[Amounts, Amounts]] = {}
    for part in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        if part is not None and part.resources is not None:
            where = f"status of container {part.name}"
            actual = reader.amounts(part.resources.requests, f"{where}: resources.requests")
            found[part.name or ""] = (actual, reader.amounts(part.allocated_resources, f"{where}: allocatedResources"))
    return found


def _effective(own: Amounts, resized: tuple[Amounts, Amounts] | None, infeasible: bool) -> Amounts:
    if resized is None:
        return own
    largest: Amounts = {} if infeasible else dict(own)
    for other in resized:
        _raise(largest, other)
    return largest


def _infeasible(status: wire.PodStatus) -> bool:
    for condition in status.conditions or ():
        if condition is not None and condition.type == "PodResizePending":
            return condition.reason == "Infeasible"
    return False


def _with(containers: Iterable[tuple[str, Amounts]], defaults: Amounts) -> list[tuple[str, Amounts]]:
    return [(name, {**defaults, **own}) for name, own in containers]


def _with_init(init: Iterable[tuple[str, bool, Amounts]], defaults: Amounts) -> list[tuple[str, bool, Amounts]]:
    return [(name, sidecar, {**defaults, **own}) for name, sidecar, own in init]


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Amounts, other: Mapping[str, int]) -> None:
    for name, amount in other.items():
        if name not in total or amount > total[name]:
            total[name] = amount


_PLAIN: Final = frozenset(("cpu", "memory", "ephemeral-storage", "pods"))


def _requests(asked: Amounts, scoring: Amounts) -> Requests:
    return Requests(
        cpu_m=min(asked.get("cpu", 0), MAX_QUANTITY),
        memory_b=units(asked.get("memory", 0)),
        ephemeral_storage_b=units(asked.get("ephemeral-storage", 0)),
        scalars=_scalars(asked),
        scoring_cpu_m=min(scoring.get("cpu", 0), MAX_QUANTITY),
        scoring_memory_b=units(scoring.get("memory", 0)),
    )


def _scalars(asked: Amounts) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, units(amount)) for name, amount in asked.items() if name not in _PLAIN and scalar(name)))


def everything() -> Requests:
    """What an assigned pod counts whose requests cannot be read: its node is full."""
    return Requests(MAX_QUANTITY, MAX_QUANTITY, MAX_QUANTITY, (), MAX_QUANTITY, MAX_QUANTITY)


def _unit(name: str, amount: int) -> int:
    return min(amount, MAX_QUANTITY) if name == "cpu" else units(amount)


def _pod_level(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def scalar(name: str) -> bool:
    """IsScalarResourceName: extended resources, hugepages-*, names under kubernetes.io/, attachable-volumes-*."""
    if name.startswith(("hugepages-", "attachable-volumes-")) or "kubernetes.io/" in name:
        return True
    return "/" in name and not name.startswith("requests.")


UNREADABLE_ON_NODE: Final = MAX_MILLI
