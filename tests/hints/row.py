"""What a row of the table is made of, and short names for the objects in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import api_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    Case = tuple[bool, str, Sequence["Step"]] | tuple[bool, str, Sequence["Step"], dict[str, Any]]
    """Woken or not, the event's name, the steps; then what differs from the other rows of the group."""

JSON = dict[str, Any]
WAITS = "waits"
OURS = api_objects.SCHEDULER
"""Pods of this scheduler are the ones that wait; every other one is on a node already, or nobody's."""


@dataclass(frozen=True)
class Step:
    """One request to the API. `name` is the object's, `body` the object or a merge patch, `part` a sub-resource."""

    verb: Literal["create", "patch", "delete"]
    kind: str
    name: str
    body: JSON
    namespace: str = "default"
    part: str = ""


@dataclass(frozen=True)
class Row:
    """`by` are the plugins that reject the pod before, `event` how upstream names what happens, "" where it does not look.

    `unseen` says why the row cannot be shown on a real control plane, "" where it can.
    """

    by: frozenset[str]
    there: tuple[JSON, ...]
    waits: JSON
    then: tuple[Step, ...]
    event: str
    woken: bool
    unseen: str = ""


def group(by: str, there: Sequence[JSON], waits: JSON, cases: dict[str, Case]) -> dict[str, Row]:
    """Rows of one cluster and one waiting pod. `by` are names with spaces between; it begins every sentence."""
    rows = {}
    for sentence, (woken, event, then, *rest) in cases.items():
        more: dict[str, Any] = rest[0] if rest else {}
        rows[f"{more.get('by', by)}: {sentence}"] = Row(
            by=frozenset(more.get("by", by).split()),
            there=(*there, *more.get("there", ())),
            waits=more.get("waits", waits),
            then=tuple(then),
            event=event,
            woken=woken,
            unseen=more.get("unseen", ""),
        )
    return rows


def waiting(cpu: str | None = None, memory: str | None = None, **spec: Any) -> JSON:
    """The pod that waits. It asks for nothing unless told to."""
    return pod(WAITS, scheduler=OURS, cpu=cpu, memory=memory, **spec)


def pod(
    name: str,
    node: str | None = None,
    *,
    cpu: str | None = None,
    memory: str | None = None,
    nominated: str = "",
    **more: Any,
) -> JSON:
    """A pod on a node, of another scheduler. `nominated`: a gated one, of which some scheduler said that it will go there."""
    more.setdefault("scheduler", None)
    if nominated:
        more["schedulingGates"] = [{"name": "example.com/held"}]
    made = api_objects.make_pod(name, node=node, cpu=cpu, memory=memory, **more)
    if nominated:
        made["status"] = {"nominatedNodeName": nominated}
    return made


def node(name: str, cpu: str = "4", memory: str = "8Gi", **more: Any) -> JSON:
    return api_objects.make_node(name, cpu=cpu, memory=memory, **more)


def other(
    kind: str, name: str, api: str = "v1", *, namespaced: bool = False, meta: JSON | None = None, **body: Any
) -> JSON:
    """Any other object."""
    where = {"namespace": "default"} if namespaced else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **where, **(meta or {})}, **body}


def comes(one: JSON) -> Step:
    meta = one["metadata"]
    return Step("create", one["kind"], meta["name"], one, meta.get("namespace", "default"))


def changes(kind: str, name: str, body: JSON, part: str = "", namespace: str = "default") -> Step:
    return Step("patch", kind, name, body, namespace, part)


def goes(kind: str, name: str, namespace: str = "default") -> Step:
    return Step("delete", kind, name, {}, namespace)


def labels(kind: str, name: str, part: str = "", **values: str | None) -> Step:
    """New labels, `a_b` for a-b; None takes one away."""
    words = {key.replace("_", "-"): value for key, value in values.items()}
    return changes(kind, name, {"metadata": {"labels": words}}, part)


def itself(body: JSON, part: str = "") -> Step:
    """The waiting pod changes."""
    return changes("Pod", WAITS, body, part)


TAINT = {"key": "example.com/a", "effect": "NoSchedule"}
OTHER_TAINT = {"key": "example.com/b", "effect": "NoSchedule"}


def taints(name: str, *found: JSON) -> Step:
    return changes("Node", name, {"spec": {"taints": list(found)}})


def requirement(key: str, operator: str, *values: str) -> JSON:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
