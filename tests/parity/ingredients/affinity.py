"""Node selectors and node affinity: every operator over labels and fields, terms that cannot be parsed, pinned pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parity.draft import JSON, filled, labels_of

if TYPE_CHECKING:
    from parity.draft import Draft

KEYS: Final = ("zone", "example.com/disk", "size", "missing")
VALUES: Final = ("a", "b", "c", "")
NUMBERS: Final = ("1", "2", "10", "-3", "+4", "007", "x", "1.5", "", "9223372036854775807", "9223372036854775808")
"""Those that label values may be: `+4` is none, and stands only in selectors."""


def add(draft: Draft) -> None:
    for node in draft.nodes:
        labels = labels_of(node)
        for key in KEYS[:2]:
            if draft.rng.random() < 0.8:
                labels[key] = draft.one_of("label value", VALUES)
        if draft.rng.random() < 0.8:
            labels["size"] = draft.one_of("label number", [n for n in NUMBERS if n[:1] not in "+-" or n == ""])
    spec = draft.pod["spec"]
    if draft.chance("node selector", 0.12):
        spec["nodeSelector"] = dict(
            draft.some(
                "selected labels",
                2,
                lambda: (draft.one_of("selected key", KEYS), draft.one_of("selected value", VALUES)),
                least=1,
            )
        )
    required = (
        draft.some("required terms", 3, lambda: _term(draft), least=1) if draft.chance("required terms", 0.5) else []
    )
    preferred = (
        draft.some("preferred terms", 4, lambda: _preferred(draft), least=1)
        if draft.chance("preferred terms", 0.7)
        else []
    )
    affinity = filled(
        requiredDuringSchedulingIgnoredDuringExecution={"nodeSelectorTerms": required} if required else None,
        preferredDuringSchedulingIgnoredDuringExecution=preferred,
    )
    if affinity:
        spec.setdefault("affinity", {})["nodeAffinity"] = affinity


def _preferred(draft: Draft) -> JSON:
    return {"weight": draft.one_of("weight", (1, 2, 33, 100)), "preference": _term(draft)}


def _term(draft: Draft) -> JSON:
    fields = draft.one_of("fields in a term", (0, 1, 2), (6, 2, 1))
    return filled(
        matchExpressions=draft.some("expressions", 2, lambda: _expression(draft)),
        matchFields=[_field(draft) for _ in range(fields)],
    )


def _expression(draft: Draft) -> JSON:
    key = draft.one_of("expression key", KEYS, (3, 3, 3, 1))
    operator = draft.one_of("operator", ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    if operator in ("In", "NotIn"):
        values = draft.some(
            "values",
            3,
            lambda: draft.one_of("asked value", (*VALUES, "2", "-bad-", "x" * 64), (30, 30, 30, 30, 30, 1, 1)),
            least=1,
        )
        return {"key": key, "operator": operator, "values": values}
    if operator in ("Gt", "Lt"):
        numeric = "size" if draft.chance("Gt and Lt of a label with numbers", 0.8) else key
        return {
            "key": numeric,
            "operator": operator,
            "values": [draft.one_of("bound", NUMBERS, (9, 9, 9, 9, 2, 3, 1, 1, 1, 1, 1))],
        }
    return {"key": key, "operator": operator}


def _field(draft: Draft) -> JSON:
    names = [node["metadata"]["name"] for node in draft.nodes]
    which = draft.one_of("field names", ("a node", "no node"), (5, 1))
    name = draft.rng.choice(names) if names and which == "a node" else "gone"
    operator = draft.one_of("field operator", ("In", "NotIn"))
    return {"key": "metadata.name", "operator": operator, "values": [name]}
