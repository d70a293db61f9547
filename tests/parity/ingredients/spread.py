"""Spread constraints, hard and soft, of every form; the labels, Services and owners that they and their defaults look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parity.draft import JSON, filled, labels_of

if TYPE_CHECKING:
    from parity.draft import Draft

ZONE: Final = "topology.kubernetes.io/zone"
HOSTNAME: Final = "kubernetes.io/hostname"
KEYS: Final = (ZONE, HOSTNAME, "rack", "zone")
APPS: Final = ("a", "b")
TRACKS: Final = ("stable", "canary", "")


def add(draft: Draft) -> None:
    for node in draft.nodes:
        _place(draft, labels_of(node))
    for pod in draft.all_pods:
        _label(draft, pod)
    if draft.chance("spread constraints", 0.75):
        draft.pod["spec"]["topologySpreadConstraints"] = _distinct(
            draft.some("constraints", 4, lambda: _constraint(draft), least=1)
        )
        _stay_clear(draft)
    if draft.chance("Services", 0.5):
        services = draft.some("Services", 3, lambda: _service(draft), least=1)
        for i, service in enumerate(services):
            service["metadata"]["name"] = f"s{i}"
        draft.extra.setdefault("services", []).extend(services)
    if draft.chance("an owner", 0.4):
        _owner(draft)


def _place(draft: Draft, labels: JSON) -> None:
    if draft.rng.random() < 0.85:
        labels[ZONE] = draft.one_of("failure domain", ("z1", "z2", "z3", ""), (4, 4, 2, 1))
    if draft.rng.random() < 0.8:
        labels["rack"] = draft.one_of("rack", ("r1", "r2", "r3", "r4", "r5"))
    form = draft.one_of("host name", ("usual", "none", "shared"), (16, 1, 1))
    if form == "none":
        labels.pop(HOSTNAME, None)
    elif form == "shared":
        labels[HOSTNAME] = "twin"


def _label(draft: Draft, pod: JSON) -> None:
    labels: JSON = pod["metadata"].setdefault("labels", {})
    if (app := draft.one_of("app", (*APPS, None), (5, 2, 1))) is not None:
        labels["app"] = app
    if (track := draft.one_of("track", (*TRACKS, None), (3, 2, 1, 2))) is not None:
        labels["track"] = track
    if draft.chance("a pod of another namespace", 0.12):
        pod["metadata"]["namespace"] = "other"


def _constraint(draft: Draft) -> JSON:
    hard = draft.chance("a hard constraint", 0.55)
    selector = _selector(draft)
    made = filled(
        topologyKey=draft.one_of("topology key", KEYS, (6, 5, 3, 1)),
        whenUnsatisfiable="DoNotSchedule" if hard else "ScheduleAnyway",
        maxSkew=draft.one_of("maxSkew", (1, 2, 3, 7), (8, 4, 2, 1)),
        minDomains=draft.one_of("minDomains", (None, 1, 2, 3, 6), (8, 1, 1, 1, 1)) if hard else None,
        nodeAffinityPolicy=draft.one_of("nodeAffinityPolicy", (None, "Honor", "Ignore"), (3, 1, 2)),
        nodeTaintsPolicy=draft.one_of("nodeTaintsPolicy", (None, "Honor", "Ignore"), (3, 3, 1)),
    )
    if selector is None:
        return made
    made["labelSelector"] = selector
    if draft.chance("matchLabelKeys", 0.2):
        made["matchLabelKeys"] = draft.one_of("match keys", (["track"], ["missing"], ["track", "missing"]))
        own = draft.pod["metadata"]["labels"]
        if draft.chance("the API server has merged them", 0.5) and "track" in own and "track" in made["matchLabelKeys"]:
            selector.setdefault("matchExpressions", []).append(
                {"key": "track", "operator": "In", "values": [own["track"]]}
            )
    return made


def _stay_clear(draft: Draft) -> None:
    """Of where we differ on purpose: what a hard constraint makes of pods that are nominated."""
    hard = [c for c in draft.pod["spec"]["topologySpreadConstraints"] if c["whenUnsatisfiable"] == "DoNotSchedule"]
    nominated = [pod for pod in draft.pods if "nominatedNodeName" in pod["status"]]
    for pod in nominated if hard else ():
        pod["metadata"].pop("deletionTimestamp", None)
    for constraint in hard if nominated else ():
        if constraint.get("labelSelector") == {}:
            constraint["labelSelector"] = {"matchLabels": {"app": "a"}}


def _distinct(constraints: list[JSON]) -> list[JSON]:
    """A pod has at most one constraint of a key and an action."""
    return list({(c["topologyKey"], c["whenUnsatisfiable"]): c for c in constraints}.values())


def _selector(draft: Draft) -> JSON | None:
    form = draft.one_of("spread selector", ("labels", "expressions", "both", "empty", "none"), (6, 4, 2, 1, 1))
    if form == "none":
        return None
    found: JSON = {}
    if form in ("labels", "both"):
        found["matchLabels"] = {"app": draft.one_of("selected app", APPS, (4, 1))}
    if form in ("expressions", "both"):
        found["matchExpressions"] = draft.some("selector expressions", 2, lambda: _expression(draft), least=1)
    return found


def _expression(draft: Draft) -> JSON:
    key = draft.one_of("selector key", ("app", "track", "missing"), (4, 4, 1))
    operator = draft.one_of("selector operator", ("In", "NotIn", "Exists", "DoesNotExist"), (4, 3, 2, 1))
    if operator in ("Exists", "DoesNotExist"):
        return {"key": key, "operator": operator}
    values = draft.some(
        "selector values",
        2,
        lambda: draft.one_of("selector value", (*APPS, *TRACKS, "-bad-"), (9, 9, 9, 9, 9, 1)),
        least=1,
    )
    return {"key": key, "operator": operator, "values": values}


def _service(draft: Draft) -> JSON:
    selector = draft.one_of(
        "Service selects",
        ("nothing", "all", "an app", "a track", "both", "what no pod has"),
        (1, 1, 5, 2, 2, 1),
    )
    labels: JSON = {
        "nothing": None,
        "all": {},
        "an app": {"app": "a"},
        "a track": {"track": "stable"},
        "both": {"app": "a", "track": "stable"},
        "what no pod has": {"app": "none"},
    }[selector]
    namespace = draft.one_of("namespace of a Service", ("default", "other"), (5, 1))
    spec = {} if labels is None else {"selector": labels}
    return {"metadata": {"name": "", "namespace": namespace}, "spec": spec}


def _owner(draft: Draft) -> None:
    kind = draft.one_of("kind of owner", ("ReplicationController", "ReplicaSet", "StatefulSet", "Job"), (3, 3, 3, 1))
    version = "v1" if kind == "ReplicationController" else "apps/v1"
    if draft.chance("an owner of another group", 0.1):
        version = "example.com/v1"
    reference = {"apiVersion": version, "kind": kind, "name": "owner", "uid": "owner", "controller": True}
    form = draft.one_of("the owner is", ("controller", "one of two", "no controller"), (8, 1, 1))
    if form == "no controller":
        reference.pop("controller")
    first = [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n"}] if form == "one of two" else []
    draft.pod["metadata"]["ownerReferences"] = [*first, reference]
    if kind == "Job" or draft.chance("the owner is gone", 0.1):
        return
    namespace = draft.pod["metadata"]["namespace"] if draft.chance("in the pod's namespace", 0.95) else "elsewhere"
    if kind == "ReplicationController":
        spec = filled(selector=draft.one_of("RC selects", (None, {"app": "a"}, {"app": "b"}, {"track": "stable"})))
    else:
        spec = {"selector": _selector(draft)} if draft.chance("the owner selects", 0.9) else {}
    owner = {"metadata": {"name": "owner", "namespace": namespace}, "spec": spec}
    draft.extra.setdefault(f"{kind.lower()}s", []).append(owner)
