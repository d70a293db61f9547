"""The API's objects as they come over the wire: only the fields needed, unknown ones ignored, null tolerated everywhere.

Decoding is one pass into structs (7 us for a pod of 5 KB with msgspec, 76 us and more with a client library's models). An
object that does not fit its struct is decoded alone into a skeleton, with its identity and what was wrong; the others of
the same list or stream are not touched by it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from carbon_scheduler.kube import scan
from carbon_scheduler.kube.wire_parts import (
    NodeSelector,
    NodeSelectorTerm,
    Owner,
    PodTerms,
    Present,
    Quantities,
    SpreadConstraint,
    Volume,
    Wire,
    Words,
)


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
    owner_references: list[Owner | None] | None = None


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


class RestartRule(Wire):
    action: str | None = None


class Container(Wire):
    name: str | None = None
    image: str | None = None
    resources: Resources | None = None
    ports: list[Port | None] | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[RestartRule | None] | None = None


class Toleration(Wire):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


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
    pod_affinity: PodTerms | None = None
    pod_anti_affinity: PodTerms | None = None


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
    preemption_policy: str | None = None
    host_network: bool | None = None
    host_users: bool | None = None
    scheduling_gates: list[Gate | None] | None = None
    topology_spread_constraints: list[SpreadConstraint | None] | None = None
    volumes: list[Volume | None] | None = None
    resource_claims: list[Present | None] | None = None


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
    start_time: str | None = None
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


class Image(Wire):
    names: list[str | None] | None = None
    size_bytes: int | None = None


class NodeStatus(Wire):
    allocatable: Quantities | None = None
    images: list[Image | None] | None = None
    declared_features: list[str | None] | None = None


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
_list_meta: msgspec.json.Decoder[ListMeta | None] = msgspec.json.Decoder(ListMeta | None)
_text: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)


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
        if typed.type is None or typed.object is None or typed.type == "ERROR":
            return self._odd_event(line)
        return Event(typed.type, typed.object)

    def one(self, body: bytes) -> ObjectT:
        """A single object, or its skeleton. Raises ValueError when it has no readable name."""
        made = self._alone(body)
        if made is None:
            raise ValueError("the object has no readable name")
        return made

    def _page_one_by_one(self, body: bytes) -> Page[ObjectT]:
        parts = scan.members(body)
        meta = _list_meta.decode(parts.get(b"metadata", b"null")) or ListMeta()
        raw = parts.get(b"items", b"null")
        made = [self._alone(part) for part in scan.elements(raw)] if raw != b"null" else []
        items = [item for item in made if item is not None]
        return Page(meta.resource_version or "", meta.continue_ or "", items, len(made) - len(items))

    def _odd_event(self, line: bytes) -> Event[ObjectT]:
        try:
            parts = scan.members(line)
            kind = _text.decode(parts[b"type"]) or ""
            raw = parts[b"object"]
        except (*_UNREADABLE, KeyError) as error:
            raise BrokenStream(f"a line of the watch is not an event: {_short(error)}") from error
        if kind == "ERROR":
            return Event(kind, None, read_status(raw))
        return Event(kind, self._alone(raw))

    def _alone(self, raw: bytes) -> ObjectT | None:
        try:
            return self._one.decode(raw)
        except _UNREADABLE as error:
            return self._skeleton(raw, _short(error))

    def _skeleton(self, raw: bytes, problem: str) -> ObjectT | None:
        """What must be known even when the rest is broken: which object it is; of a pod also whose, where, and whether
        it ended."""
        parts = _members(raw)
        meta = _members(parts.get(b"metadata", b""))
        name = _read(meta, b"name")
        if not name:
            return None
        identity = Meta(name, _read(meta, b"namespace"), _read(meta, b"uid"), _read(meta, b"resourceVersion"))
        made = self._kind(metadata=identity, problem=problem)
        if isinstance(made, Pod):
            spec = _members(parts.get(b"spec", b""))
            made.spec = PodSpec(_read(spec, b"schedulerName"), _read(spec, b"nodeName"))
            made.status = PodStatus(_read(_members(parts.get(b"status", b"")), b"phase"))
        return made


def _members(raw: bytes) -> dict[bytes, bytes]:
    try:
        return scan.members(raw)
    except ValueError:
        return {}


def _read(parts: dict[bytes, bytes], name: bytes) -> str | None:
    try:
        return _text.decode(parts.get(name, b"null"))
    except _UNREADABLE:
        return None


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
