"""Affinity between pods, of the newcomer and of those that run: every form of a term, and the namespaces that it speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parity.draft import JSON, filled, labels_of

if TYPE_CHECKING:
    from parity.draft import Draft

KEYS: Final = ("topology.kubernetes.io/zone", "kubernetes.io/hostname", "rack", "missing")
APPS: Final = ("a", "b")
TRACKS: Final = ("stable", "canary", "")
SPACES: Final = ("default", "other", "third", "unknown")
TEAMS: Final = ("x", "y")


def add(draft: Draft) -> None:
    _namespaces(draft)
    for node in draft.nodes:
        _place(draft, labels_of(node))
    if draft.nodes and draft.chance("a crowd", 0.5):
        draft.pods += [_one_more(draft, i) for i in range(draft.rng.randint(3, 10))]
    for pod in draft.all_pods:
        _label(draft, pod)
    chance = draft.one_of("how many running pods have terms", (0.0, 0.15, 0.7), (1, 3, 2))
    for pod in draft.pods:
        if draft.rng.random() < chance:
            _give(draft, pod, "of those that run")
    terms = draft.one_of("the newcomer's terms", ("none", "preferred", "any"), (1, 2, 3))
    if terms != "none":
        _give(draft, draft.pod, "of the newcomer", required=terms == "any")
    if draft.chance("the newcomer's own group", 0.15):  # whose first one may start although nobody is there
        own = draft.pod["metadata"]["labels"].get("app", "none")
        term = {
            "topologyKey": draft.one_of("key of the group", KEYS[:3]),
            "labelSelector": {"matchLabels": {"app": own}},
        }
        affinity = draft.pod["spec"].setdefault("affinity", {}).setdefault("podAffinity", {})
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = [term]


def _namespaces(draft: Draft) -> None:
    for name in SPACES[:3]:
        form = draft.one_of("a namespace has", ("a team", "no labels", "no object"), (6, 1, 1))
        if form != "no object":
            labels = {"team": draft.one_of("team", TEAMS)} if form == "a team" else None
            metadata = filled(name=name, labels=labels)
            draft.extra.setdefault("namespaces", []).append({"metadata": metadata, "spec": {}, "status": {}})


def _place(draft: Draft, labels: JSON) -> None:
    if KEYS[0] not in labels and draft.rng.random() < 0.7:
        labels[KEYS[0]] = draft.one_of("zone of a node", ("z1", "z2", "z3", ""), (4, 4, 2, 1))
    if "rack" not in labels and draft.rng.random() < 0.7:
        labels["rack"] = draft.one_of("rack of a node", ("r1", "r2", "r3"))
    if draft.rng.random() < 0.02:
        labels.clear()


def _label(draft: Draft, pod: JSON) -> None:
    meta = pod["metadata"]
    labels: JSON = meta.setdefault("labels", {})
    if "app" not in labels and draft.rng.random() < 0.85:
        labels["app"] = draft.one_of("app of a pod", APPS, (3, 2))
    if "track" not in labels and draft.rng.random() < 0.6:
        labels["track"] = draft.one_of("track of a pod", TRACKS)
    # the namespace is part of what claims and owners are looked up by
    if "volumes" not in pod["spec"] and "ownerReferences" not in meta and meta["namespace"] == "default":
        meta["namespace"] = draft.one_of("namespace of a pod", SPACES, (14, 3, 2, 1))


def _one_more(draft: Draft, number: int) -> JSON:
    """A running pod that takes nothing but its place."""
    name = f"peer-{number}"
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"{draft.name}/{name}"},
        "spec": {"containers": [{"name": "c0"}], "nodeName": draft.rng.choice(draft.nodes)["metadata"]["name"]},
        "status": {"phase": "Running"},
    }


def _give(draft: Draft, pod: JSON, whose: str, *, required: bool = True) -> None:
    found = filled(
        podAffinity=_lists(draft, f"affinity {whose}", 0.4 * required, 0.45),
        podAntiAffinity=_lists(draft, f"anti-affinity {whose}", 0.4 * required, 0.45),
    )
    if found:
        pod["spec"].setdefault("affinity", {}).update(found)


def _lists(draft: Draft, what: str, required: float, preferred: float) -> JSON:
    return filled(
        requiredDuringSchedulingIgnoredDuringExecution=_terms(draft, f"required {what}")
        if draft.chance(f"required {what}", required)
        else None,
        preferredDuringSchedulingIgnoredDuringExecution=[
            {"weight": draft.one_of("weight of a term", (1, 2, 29, 50, 100)), "podAffinityTerm": term}
            for term in _terms(draft, f"preferred {what}")
        ]
        if draft.chance(f"preferred {what}", preferred)
        else None,
    )


def _terms(draft: Draft, what: str) -> list[JSON]:
    terms = draft.some(f"terms, {what}", 3, lambda: _term(draft), least=1)
    if draft.chance("a term twice", 0.1):
        terms.append(terms[0])
    return terms


def _term(draft: Draft) -> JSON:
    """The lists that select namespaces may be given as empty ones, too: one of them is then as good as none."""
    made: JSON = {"topologyKey": draft.one_of("key of a term", KEYS, (8, 6, 3, 1))}
    selector = _selector(draft)
    if selector is not None:
        made["labelSelector"] = selector
    names = draft.one_of("number of namespaces of a term", (None, 0, 1, 2), (10, 1, 3, 2))
    if names is not None:
        made["namespaces"] = [draft.one_of("namespace of a term", SPACES, (4, 4, 2, 1)) for _ in range(names)]
    form = draft.one_of(
        "namespaceSelector",
        ("none", "empty", "team", "teams", "not the team", "no team", "any team", "team and not"),
        (24, 3, 4, 2, 3, 2, 2, 2),
    )
    team = draft.one_of("selected team", TEAMS)
    expressions: list[JSON] | None = {
        "none": None,
        "empty": [],
        "team": [{"key": "team", "operator": "In", "values": [team]}],
        "teams": [{"key": "team", "operator": "In", "values": list(TEAMS)}],
        "not the team": [{"key": "team", "operator": "NotIn", "values": [team]}],
        "no team": [{"key": "team", "operator": "DoesNotExist"}],
        "any team": [{"key": "team", "operator": "Exists"}],
        "team and not": [
            {"key": "team", "operator": "NotIn", "values": [team]},
            {"key": "team", "operator": "DoesNotExist"},
        ],
    }[form]
    if expressions is not None:
        made["namespaceSelector"] = filled(matchExpressions=expressions)
    return made


def _selector(draft: Draft) -> JSON | None:
    form = draft.one_of("selector of a term", ("labels", "expressions", "both", "empty", "none"), (8, 4, 2, 2, 1))
    if form == "none":
        return None
    found: JSON = {}
    if form in ("labels", "both"):
        found["matchLabels"] = {"app": draft.one_of("app of a term", APPS, (3, 2))}
    if form in ("expressions", "both"):
        found["matchExpressions"] = draft.some("expressions of a term", 2, lambda: _expression(draft), least=1)
    return found


def _expression(draft: Draft) -> JSON:
    key = draft.one_of("key of a term's expression", ("app", "track", "missing"), (5, 4, 1))
    operator = draft.one_of("operator of a term", ("In", "NotIn", "Exists", "DoesNotExist"), (4, 3, 2, 1))
    if operator in ("Exists", "DoesNotExist"):
        return {"key": key, "operator": operator}
    values = draft.some(
        "values of a term",
        2,
        lambda: draft.one_of("value of a term", (*APPS, *TRACKS, "-bad-", "y" * 64), (20, 20, 20, 20, 20, 1, 1)),
        least=1,
    )
    return {"key": key, "operator": operator, "values": values}
