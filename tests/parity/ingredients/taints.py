"""Taints of every effect, tolerations of every operator, cordoned nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parity.draft import JSON, filled

if TYPE_CHECKING:
    from parity.draft import Draft

KEYS: Final = ("example.com/a", "b", "node.kubernetes.io/not-ready")
VALUES: Final = ("", "x", "y", "10", "9")
EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
CORDON: Final = "node.kubernetes.io/unschedulable"


def add(draft: Draft) -> None:
    seldom = draft.chance("few nodes are tainted", 0.6)
    for node in draft.nodes:
        if draft.rng.random() < (0.3 if seldom else 0.8):
            node["spec"]["taints"] = _distinct([_taint(draft) for _ in range(draft.rng.randint(1, 4))])
    for pod in draft.all_pods:
        if pod is draft.pod or draft.rng.random() < 0.1:
            pod["spec"].setdefault("tolerations", []).extend(draft.some("tolerations", 4, lambda: _toleration(draft)))


def cordon(draft: Draft) -> None:
    for node in draft.nodes:
        if draft.chance("cordoned", 0.25):
            node["spec"]["unschedulable"] = True
            if draft.chance("cordoned with the taint", 0.3):
                node["spec"].setdefault("taints", []).append({"key": CORDON, "effect": "NoSchedule"})
    if draft.chance("tolerates a cordon", 0.3):
        form = draft.one_of("how a cordon is tolerated", ("exists", "equal", "other effect", "all"))
        draft.pod["spec"].setdefault("tolerations", []).append(
            {
                "exists": {"key": CORDON, "operator": "Exists"},
                "equal": {"key": CORDON, "operator": "Equal", "effect": "NoSchedule"},
                "other effect": {"key": CORDON, "operator": "Exists", "effect": "NoExecute"},
                "all": {"operator": "Exists"},
            }[form]
        )


def _taint(draft: Draft) -> JSON:
    return filled(
        key=draft.one_of("taint key", KEYS),
        value=draft.one_of("taint value", VALUES),
        effect=draft.one_of("taint effect", EFFECTS, (2, 6, 1)),
    )


def _distinct(taints: list[JSON]) -> list[JSON]:
    """A node has at most one taint of a key and effect."""
    return list({(taint["key"], taint["effect"]): taint for taint in taints}.values())


def _toleration(draft: Draft) -> JSON:
    operator = draft.one_of("toleration operator", ("", "Equal", "Exists", "Gt", "Lt"), (2, 3, 4, 1, 1))
    key = draft.one_of("toleration key", ("", *KEYS), (1, 3, 3, 3))
    effect = draft.one_of("toleration effect", ("", *EFFECTS))
    if operator == "Exists" or not key:  # an empty key goes with Exists alone, which has no value
        return filled(key=key, operator="Exists", effect=effect)
    made = filled(key=key, operator=operator, value=draft.one_of("toleration value", VALUES), effect=effect)
    if effect == "NoExecute" and draft.chance("tolerates for a time", 0.3):
        made["tolerationSeconds"] = 30
    return made
