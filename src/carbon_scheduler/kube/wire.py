"""The API's objects as they come over the wire: only the fields needed, unknown ones ignored, null tolerated everywhere.

Decoding is one pass into structs (7 us for a pod of 5 KB with msgspec, 76 us and more with a client library's models). An
object that does not fit its struct is decoded alone into a skeleton, with its identity and what was wrong; the others of
the same list or stream are not touched by it.
"""

from __future__ import annotations

import contextlib
from typing import Generic, TypeVar

import msgspec


class Wire(msgspec.Struct, rename="camel", gc=False):
    """Base of all. `gc=False`: trees without cycles need no garbage collector, and there are very many of them."""


Quantities = dict[str, str | int | float | None]
Words = dict[str, str | None]


class Meta(Wire):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    labels: Words | None = None
    annotations: Words | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Object(Wire):
    """Any API object. `problem` is not the API's: what was wrong with an object of which only the skeleton could be read."""

    metadata: Meta | None = None
    problem: str | None = msgspec.field(default=None, name="our problem")


class Resources(Wire):
    requests: Quantities | None = None


class Port(Wire):
    host_port: int | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")
    protocol: str | None = None


class Container(Wire):
    name: str | None = None
    resources: Resources | None = None
    ports: list[Port | None] | None = None
    restart_policy: str | None = None


class Toleration(Wire):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class Requirement(Wire):
    key: str | None = None
    operator: str | None = None
    values: list[str | None] | None = None


class NodeSelectorTerm(Wire):
    match_expressions: list[Requirement | None] | None = None
    match_fields: list[Requirement | None] | None = None


class NodeSelector(Wire):
    node_selector_terms: list[NodeSelectorTerm | None] | None = None


class PreferredTerm(Wire):
    weight: int | None = None
    preference: NodeSelectorTerm | None = None


class NodeAffinity(Wire):
    required: NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: list[PreferredTerm | None] | None = msgspec.field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(Wire):
    node_affinity: NodeAffinity | None = None


class Gate(Wire):
    name: str | None = None


class PodSpec(Wire):
    scheduler_name: str | None = None
    node_name: str | None = None
    containers: list[Container | None] | None = None
    init_containers: list[Container | None] | None = None
    overhead: Quantities | None = None
    resources: Resources | None = None
    tolerations: list[Toleration | None] | None = None
    node_selector: Words | None = None
    affinity: Affinity | None = None
    priority: int | None = None
    scheduling_gates: list[Gate | None] | None = None


class ContainerStatus(Wire):
    name: str | None = None
    resources: Resources | None = None
    allocated_resources: Quantities | None = None


class Condition(Wire):
    type: str | None = None
    status: str | None = None
    reason: str | None = None
    message: str | None = None


class PodStatus(Wire):
    phase: str | None = None
    nominated_node_name: str | None = None
    conditions: list[Condition | None] | None = None
    container_statuses: list[ContainerStatus | None] | None = None
    init_container_statuses: list[ContainerStatus | None] | None = None
    resources: Resources | None = None
    allocated_resources: Quantities | None = None


class Pod(Object):
    spec: PodSpec | None = None
    status: PodStatus | None = None


class Taint(Wire):
    key: str | None = None
    value: str | None = None
    effect: str | None = None


class NodeSpec(Wire):
    unschedulable: bool | None = None
    taints: list[Taint | None] | None = None
    provider_id: str | None = msgspec.field(default=None, name="providerID")


class NodeStatus(Wire):
    allocatable: Quantities | None = None


class Node(Object):
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Namespace(Object):
    pass


class Status(Wire):
    """The API server's Status: the body of a failure, and the object of an ERROR event."""

    message: str | None = None
    reason: str | None = None
    code: int | None = None


class ListMeta(Wire):
    resource_version: str | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Raws(Wire):
    metadata: ListMeta | None = None
    items: list[msgspec.Raw] | None = None


class _RawEvent(Wire):
    type: str | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")


class _SkeletonMeta(Wire):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _SkeletonSpec(Wire):
    scheduler_name: str | None = None
    node_name: str | None = None


class _SkeletonStatus(Wire):
    phase: str | None = None


class _RawObject(Wire):
    metadata: msgspec.Raw = msgspec.Raw(b"null")
    spec: msgspec.Raw = msgspec.Raw(b"null")
    status: msgspec.Raw = msgspec.Raw(b"null")


ObjectT = TypeVar("ObjectT", bound=Object)


class Page(Wire, Generic[ObjectT]):
    """One page of a list. `unreadable` counts items of which not even the name could be read."""

    resource_version: str
    continue_: str
    items: list[ObjectT]
    unreadable: int = 0


class Event(Wire, Generic[ObjectT]):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK, or ERROR with `status`. `object` is None only when the
    object has no readable name."""

    type: str
    object: ObjectT | None = None
    status: Status | None = None


class _TypedList(Wire, Generic[ObjectT]):
    metadata: ListMeta | None = None
    items: list[ObjectT | None] | None = None


class _TypedEvent(Wire, Generic[ObjectT]):
    type: str | None = None
    object: ObjectT | None = None


_UNREADABLE = (ValueError, RecursionError)
"""What msgspec raises: DecodeError and ValidationError are ValueErrors, as is bad UTF-8; deep nesting is a RecursionError."""

_status = msgspec.json.Decoder(Status)
_raws = msgspec.json.Decoder(_Raws)
_raw_event = msgspec.json.Decoder(_RawEvent)
_raw_object = msgspec.json.Decoder(_RawObject)
_skeleton_meta = msgspec.json.Decoder(_SkeletonMeta | None)
_skeleton_spec = msgspec.json.Decoder(_SkeletonSpec | None)
_skeleton_status = msgspec.json.Decoder(_SkeletonStatus | None)


class BrokenStream(ValueError):
    """A whole line that is not an event: what it said is lost."""


class Codec(Generic[ObjectT]):
    """Decodes one kind's lists and watch lines."""

    def __init__(self, kind: type[ObjectT]) -> None:
        self._kind = kind
        # Built at run time from the class, which no type checker can follow into the subscript.
        self._list: msgspec.json.Decoder[_TypedList[ObjectT]] = msgspec.json.Decoder(_TypedList[kind])  # type: ignore[valid-type]
        self._event: msgspec.json.Decoder[_TypedEvent[ObjectT]] = msgspec.json.Decoder(_TypedEvent[kind])  # type: ignore[valid-type]
        self._one: msgspec.json.Decoder[ObjectT] = msgspec.json.Decoder(kind)

    def page(self, body: bytes) -> Page[ObjectT]:
        """A list answer. Raises ValueError or RecursionError only when the envelope itself cannot be read."""
        try:
            typed = self._list.decode(body)
        except _UNREADABLE:
            return self._page_one_by_one(body)
        meta = typed.metadata or ListMeta()
        items = [item for item in typed.items or () if item is not None]
        return Page(meta.resource_version or "", meta.continue_ or "", items)

    def event(self, line: bytes) -> Event[ObjectT]:
        """A watch line. Raises BrokenStream when it is not JSON at all."""
        if line.startswith(b'{"type":"ERROR"'):
            return self._odd_event(line)
        try:
            typed = self._event.decode(line)
        except _UNREADABLE:
            return self._odd_event(line)
        if typed.type == "ERROR":
            return self._odd_event(line)
        return Event(typed.type or "", typed.object)

    def one(self, body: bytes) -> ObjectT:
        """A single object, or its skeleton. Raises ValueError when it has no readable name."""
        made = self._alone(body)
        if made is None:
            raise ValueError("the object has no readable name")
        return made

    def _page_one_by_one(self, body: bytes) -> Page[ObjectT]:
        raws = _raws.decode(body)
        meta = raws.metadata or ListMeta()
        made = [self._alone(bytes(raw)) for raw in raws.items or ()]
        items = [item for item in made if item is not None]
        return Page(meta.resource_version or "", meta.continue_ or "", items, len(made) - len(items))

    def _odd_event(self, line: bytes) -> Event[ObjectT]:
        try:
            raw = _raw_event.decode(line)
        except _UNREADABLE as error:
            raise BrokenStream(f"a line of the watch is not an event: {error}") from error
        if raw.type == "ERROR":
            return Event("ERROR", None, read_status(bytes(raw.object)))
        return Event(raw.type or "", self._alone(bytes(raw.object)))

    def _alone(self, body: bytes) -> ObjectT | None:
        try:
            return self._one.decode(body)
        except _UNREADABLE as error:
            return self._skeleton(body, _short(error))

    def _skeleton(self, body: bytes, problem: str) -> ObjectT | None:
        try:
            raw = _raw_object.decode(body)
            meta = _skeleton_meta.decode(raw.metadata)
        except _UNREADABLE:
            return None
        if meta is None or not meta.name:
            return None
        wanted = Meta(name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version)
        made = self._kind(metadata=wanted, problem=problem)
        if isinstance(made, Pod):
            # What scheduling must know even when the rest is broken: whose it is, where it is, whether it ended.
            with contextlib.suppress(*_UNREADABLE):
                if (spec := _skeleton_spec.decode(raw.spec)) is not None:
                    made.spec = PodSpec(scheduler_name=spec.scheduler_name, node_name=spec.node_name)
            with contextlib.suppress(*_UNREADABLE):
                if (status := _skeleton_status.decode(raw.status)) is not None:
                    made.status = PodStatus(phase=status.phase)
        return made


def read_status(body: bytes) -> Status:
    """The Status in a body, empty when there is none: proxies answer with HTML."""
    try:
        return _status.decode(body)
    except _UNREADABLE:
        return Status()


def _short(error: Exception) -> str:
    return str(error)[:300]


PODS = Codec(Pod)
NODES = Codec(Node)
NAMESPACES = Codec(Namespace)
