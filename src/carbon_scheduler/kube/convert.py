"""The API's objects as the core's: defaults applied, quantities in integers, equal shapes one object.

Nothing here raises for what an object holds. A pod of which a part cannot be read becomes a pod with a `refusal`: it is not
scheduled, and says why; on a node it still counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from carbon_scheduler.core import model
from carbon_scheduler.core.model import MAX_QUANTITY, NodeName, PodUid
from carbon_scheduler.kube import pod_parts, resources, wire
from carbon_scheduler.kube.pod_parts import INT32
from carbon_scheduler.kube.refusal import MAX_LABELS, MAX_TERMS, Refusal, within, words
from carbon_scheduler.kube.selectors import node_term
from carbon_scheduler.kube.wire_parts import PodTerms
from carbon_scheduler.units import LABEL_PREFIX

if TYPE_CHECKING:
    from carbon_scheduler.kube import wire_parts as parts

MAX_ANNOTATION_B = 4096
MAX_SUMS = 4096
"""Different ways to ask for resources whose sums are remembered."""
FINISHED = ("Succeeded", "Failed")

T = TypeVar("T")
_Peers = tuple[
    tuple[model.PodTerm, ...],
    tuple[model.PodTerm, ...],
    tuple[model.WeightedPodTerm, ...],
    tuple[model.WeightedPodTerm, ...],
]
_NO_TERMS = PodTerms()


class Interner:
    """Keeps one object of equal ones, for the last `limit` different ones. Cost: a hash and a look-up."""

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._known: dict[object, object] = {}

    def __call__(self, value: T) -> T:
        known = self._known
        if (found := known.get(value)) is not None:
            return found  # type: ignore[return-value]  # equal values of these types are of one type
        if len(known) >= self._limit:
            del known[next(iter(known))]
        known[value] = value
        return value

    def __len__(self) -> int:
        return len(self._known)


class Converter:
    """Turns wire objects into the core's. One per process: it holds the interned shapes."""

    def __init__(self) -> None:
        self._shapes = Interner()
        self._parts = Interner()
        self._sums: dict[resources.Key, tuple[model.Requests, model.Requests]] = {}

    def pod(self, found: wire.Pod) -> model.Pod:
        """The pod. Cost: 10 to 20 us for a usual one."""
        meta = found.metadata or wire.Meta()
        spec = found.spec or wire.PodSpec()
        status = found.status or wire.PodStatus()
        namespace = meta.namespace or "default"
        refusal = Refusal(found.problem)
        requests, charge = self._resources(spec, status, refusal)
        if spec.resource_claims:
            refusal.say(_CLAIMS)
        if found.problem is not None and spec.node_name:
            charge = resources.everything()
        labels = self._labels(meta.labels, refusal)
        image_names, containers = pod_parts.images(spec, refusal)
        peers = self._peers(spec.affinity, namespace, refusal)
        shape = self._shapes(
            model.PodSpec(
                namespace=namespace,
                labels=labels,
                requests=requests,
                tolerations=self._tolerations(spec.tolerations, refusal),
                node_selector=self._parts(tuple(sorted(words(spec.node_selector).items()))),
                required_affinity=self._required(spec.affinity, refusal),
                preferred_affinity=self._preferred(spec.affinity, refusal),
                host_ports=self._parts(_host_ports(spec, refusal)),
                priority=within(spec.priority, *INT32),
                spread=self._spread(spec, meta.labels, refusal),
                required_pod_affinity=peers[0],
                required_pod_anti_affinity=peers[1],
                preferred_pod_affinity=peers[2],
                preferred_pod_anti_affinity=peers[3],
                images=self._parts(image_names),
                containers=containers,
                volumes=self._parts(pod_parts.volumes(spec.volumes, refusal)) if spec.volumes else (),
                needs_features=pod_parts.needs_features(spec),
                owner=self._parts(pod_parts.owner(meta.owner_references)) if meta.owner_references else None,
            )
        )
        kept, size_b = _annotations(meta.annotations)
        return model.Pod(
            uid=PodUid(meta.uid or f"{namespace}/{meta.name}"),
            namespace=namespace,
            name=meta.name or "",
            spec=shape,
            scheduler_name=spec.scheduler_name or "default-scheduler",
            node_name=NodeName(spec.node_name) if spec.node_name else None,
            nominated_node_name=NodeName(status.nominated_node_name) if status.nominated_node_name else None,
            finished=status.phase in FINISHED,
            terminating=meta.deletion_timestamp is not None,
            gated=bool(spec.scheduling_gates),
            created_s=_time_s(meta.creation_timestamp),
            charge=None if charge == requests else charge,
            annotations=kept,
            annotations_b=size_b,
            scheduled_message=_scheduled_message(status),
            refusal=refusal.text,
            resource_version=meta.resource_version or "",
            generation=meta.generation or 0,
            started_s=_time_s(status.start_time) or None,
            may_preempt=spec.preemption_policy != "Never",
            preempted=pod_parts.preempted(status),
        )

    def _resources(
        self, spec: wire.PodSpec, status: wire.PodStatus, refusal: Refusal
    ) -> tuple[model.Requests, model.Requests]:
        """(what it asks for, what it takes on its node). Pods of one template ask alike, so sums are looked up."""
        usual = resources.as_specified(spec, status)
        key = resources.key(spec)
        if usual and (known := self._sums.get(key)) is not None:
            return known
        reader = resources.Reader(unreadable_as=resources.UNREADABLE_ON_NODE)
        read = resources.PodResources(spec, reader)
        requests = self._parts(read.pending())
        refusal.add(reader.problem)
        charge = self._parts(read.assigned(status, reader))
        if usual and not reader.problem:
            if len(self._sums) >= MAX_SUMS:
                del self._sums[next(iter(self._sums))]
            self._sums[key] = (requests, charge)
        return requests, charge

    def node(self, found: wire.Node) -> model.Node:
        """The node. What it offers in a resource that cannot be read is 0; a node that cannot be read at all takes no pods."""
        meta = found.metadata or wire.Meta()
        spec = found.spec or wire.NodeSpec()
        status = found.status or wire.NodeStatus()
        taints = tuple(
            model.Taint(taint.key or "", taint.value or "", taint.effect or "") for taint in spec.taints or () if taint
        )
        return model.Node(
            name=NodeName(meta.name or ""),
            labels=words(meta.labels),
            taints=self._parts(taints),
            unschedulable=bool(spec.unschedulable) or found.problem is not None,
            allocatable=resources.allocatable(status.allocatable, resources.Reader(unreadable_as=0)),
            provider_id=spec.provider_id or "",
            uid=meta.uid or "",
            images=self._images(status),
            features=self._parts(tuple(sorted({name for name in status.declared_features or () if name}))),
        )

    def _images(self, status: wire.NodeStatus) -> tuple[model.Image, ...]:
        """As the node reports them: upstream does not normalise these names. Each is kept once for all nodes that have it."""
        return tuple(
            [
                self._parts(
                    model.Image(tuple([name or "" for name in image.names]), within(image.size_bytes, 0, MAX_QUANTITY))
                )
                for image in (status.images or ())[:MAX_TERMS]
                if image is not None and image.names
            ]
        )

    def namespace(self, found: wire.Namespace) -> model.Namespace:
        meta = found.metadata or wire.Meta()
        return model.Namespace(meta.name or "", words(meta.labels), _annotations(meta.annotations)[0])

    def _peers(self, affinity: wire.Affinity | None, namespace: str, refusal: Refusal) -> _Peers:
        if affinity is None:
            return (), (), (), ()
        near, far = affinity.pod_affinity or _NO_TERMS, affinity.pod_anti_affinity or _NO_TERMS
        return (
            self._parts(pod_parts.pod_terms(near.required, namespace, "required podAffinity", refusal)),
            self._parts(pod_parts.pod_terms(far.required, namespace, "required podAntiAffinity", refusal)),
            self._parts(pod_parts.weighted_terms(near.preferred, namespace, "preferred podAffinity", refusal)),
            self._parts(pod_parts.weighted_terms(far.preferred, namespace, "preferred podAntiAffinity", refusal)),
        )

    def _spread(
        self, spec: wire.PodSpec, labels: parts.Words | None, refusal: Refusal
    ) -> tuple[model.SpreadConstraint, ...]:
        found = spec.topology_spread_constraints
        return self._parts(pod_parts.spread(found, labels or {}, refusal)) if found else ()

    def _labels(self, found: parts.Words | None, refusal: Refusal) -> tuple[tuple[str, str], ...]:
        labels = sorted(words(found).items())
        if len(labels) > MAX_LABELS:
            refusal.add(f"metadata.labels: got {len(labels)}, expected at most {MAX_LABELS}")
            labels = labels[:MAX_LABELS]
        return self._parts(tuple(labels))

    def _tolerations(
        self, found: list[wire.Toleration | None] | None, refusal: Refusal
    ) -> tuple[model.Toleration, ...]:
        return self._parts(
            tuple(
                model.Toleration(t.key or "", t.operator or "Equal", t.value or "", t.effect or "")
                for t in refusal.bounded(found, "spec.tolerations")
            )
        )

    def _required(self, affinity: wire.Affinity | None, refusal: Refusal) -> tuple[model.NodeSelectorTerm, ...] | None:
        if affinity is None or affinity.node_affinity is None or affinity.node_affinity.required is None:
            return None
        terms = refusal.bounded(affinity.node_affinity.required.node_selector_terms, "required node affinity")
        return self._parts(tuple(node_term(term, refusal) for term in terms))

    def _preferred(self, affinity: wire.Affinity | None, refusal: Refusal) -> tuple[model.PreferredTerm, ...]:
        if affinity is None or affinity.node_affinity is None:
            return ()
        terms = refusal.bounded(affinity.node_affinity.preferred, "preferred node affinity")
        return self._parts(
            tuple(model.PreferredTerm(within(t.weight, *INT32), node_term(t.preference, refusal)) for t in terms)
        )


_CLAIMS = (
    "spec.resourceClaims is not empty: dynamic resource allocation (DRA) is not supported yet, and the pod could not start "
    "without its devices; give it schedulerName default-scheduler"
)


def _host_ports(spec: wire.PodSpec, refusal: Refusal) -> tuple[model.HostPort, ...]:
    """Of containers and sidecars (GetHostPorts, pkg/scheduler/util/utils.go v1.36.3), each once."""
    ports: dict[model.HostPort, None] = {}
    sidecars = [c for c in spec.init_containers or () if c is not None and c.restart_policy == "Always"]
    for container in (*sidecars, *(spec.containers or ())):
        for port in refusal.bounded(container.ports, "ports") if container is not None else ():
            if port.host_port and 0 < port.host_port <= 65535:
                ports[model.HostPort(port.host_ip or "0.0.0.0", port.protocol or "TCP", port.host_port)] = None
            elif port.host_port:
                refusal.add(f"hostPort: got {port.host_port}, expected 1 to 65535")
    return tuple(ports)


def _annotations(found: parts.Words | None) -> tuple[tuple[tuple[str, str], ...], int]:
    """(those of ours, the size of all in bytes)."""
    if not found:
        return (), 0
    size_b = sum(_size_b(key) + _size_b(value or "") for key, value in found.items())
    ours = sorted((key, _cut(value or "")) for key, value in found.items() if key.startswith(LABEL_PREFIX))
    return tuple(ours[:MAX_LABELS]), size_b


def _size_b(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _cut(text: str) -> str:
    if len(text) * 4 <= MAX_ANNOTATION_B or _size_b(text) <= MAX_ANNOTATION_B:
        return text
    return text.encode()[:MAX_ANNOTATION_B].decode(errors="ignore")


def _scheduled_message(status: wire.PodStatus) -> str:
    for condition in status.conditions or ():
        if condition is not None and condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason or ''}: {condition.message or ''}"
    return ""


def _time_s(text: str | None) -> float:
    """Unix time of an RFC 3339 text, 0.0 without a readable one."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
