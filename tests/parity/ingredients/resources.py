"""Requests of containers, init containers, sidecars, overhead and whole pods; resizes; what nodes offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parity.draft import JSON, filled

if TYPE_CHECKING:
    from parity.draft import Draft

AMOUNTS: Final = {
    "cpu": ("0", "1m", "100m", "250m", "500m", "1", "1500m", "3", "5"),
    "memory": ("0", "1", "1500m", "64Mi", "200Mi", "1Gi", "1G", "3Gi", "7Gi", "9Gi"),
    "ephemeral-storage": ("0", "1Gi", "5Gi"),
    "example.com/gpu": ("0", "1", "2"),
    "hugepages-2Mi": ("2Mi", "64Mi"),
    "requests.example.com/odd": ("1",),
}
OFFERS: Final = {
    "cpu": ("0", "100m", "1", "2", "3900m", "4", "64"),
    "memory": ("0", "512Mi", "2Gi", "7777777777", "8Gi", "256Gi"),
    "ephemeral-storage": ("0", "4Gi", "100Gi"),
    "example.com/gpu": ("0", "1", "8"),
    "hugepages-2Mi": ("0", "64Mi"),
}
POD_LEVEL: Final = ("cpu", "memory", "hugepages-2Mi")


def add(draft: Draft) -> None:
    for node in draft.nodes:
        _offer(draft, node["status"]["allocatable"])
    for pod in draft.all_pods:
        _ask(draft, pod)
    for pod in draft.pods:
        if pod["spec"].get("nodeName") and draft.chance("a resize is going on", 0.15):
            _resize(draft, pod)


def _offer(draft: Draft, offered: JSON) -> None:
    if draft.chance("an odd node", 0.25):
        for name, amounts in OFFERS.items():
            if draft.chance(f"the node offers {name}", 0.85):
                offered[name] = draft.one_of(f"offered {name}", amounts)
            else:
                offered.pop(name, None)
    else:
        offered["cpu"] = draft.one_of("usual cpu", ("2", "4", "8"))
        offered["memory"] = draft.one_of("usual memory", ("4Gi", "8Gi", "16Gi"))
        offered["ephemeral-storage"] = "100Gi"
        if draft.chance("usual node with a gpu", 0.5):
            offered["example.com/gpu"] = "2"
    if draft.chance("a place limit", 0.2):
        offered["pods"] = draft.one_of("places", ("0", "1", "2", "3", "5"))


def _ask(draft: Draft, pod: JSON) -> None:
    spec = pod["spec"]
    pending = pod is draft.pod
    spec["containers"][0]["resources"] = _requests(draft)
    for i in range(draft.one_of("further containers", (0, 1, 2), (6, 2, 1))):
        spec["containers"].append({"name": f"c-more-{i}", "image": "app", "resources": _requests(draft)})
    if draft.chance("init containers", 0.35 if pending else 0.2):
        spec.setdefault("initContainers", []).extend(draft.some("init containers", 3, lambda: _init(draft), least=1))
        for i, container in enumerate(spec["initContainers"]):
            container["name"] = f"i{i}"
    if draft.chance("overhead", 0.1):
        spec["overhead"] = {"cpu": "250m", "memory": "120Mi"}
    if draft.chance("pod-level requests", 0.15):
        spec["resources"] = {"requests": _amounts(draft, POD_LEVEL)}


def _init(draft: Draft) -> JSON:
    sidecar = draft.chance("an init container is a sidecar", 0.5)
    return {"image": "app", "resources": _requests(draft), **({"restartPolicy": "Always"} if sidecar else {})}


def _requests(draft: Draft) -> JSON:
    form = draft.one_of("a container asks for", ("nothing", "cpu and memory", "anything"), (2, 5, 3))
    if form == "nothing":
        return {}
    names = ("cpu", "memory") if form == "cpu and memory" else tuple(AMOUNTS)
    return filled(requests=_amounts(draft, names))


def _amounts(draft: Draft, names: tuple[str, ...]) -> JSON:
    found: JSON = {}
    for name in names:
        if draft.rng.random() < (0.8 if name in ("cpu", "memory") else 0.25):
            amounts = AMOUNTS[name]
            small = [6] * (len(amounts) - 2) + [1] * 2 if len(amounts) > 3 else None
            found[name] = draft.one_of(f"amount of {name}", amounts, small)
    return found


def _resize(draft: Draft, pod: JSON) -> None:
    """What the kubelet reports while a pod is resized in place."""
    spec, status = pod["spec"], pod["status"]
    for kind, containers in (
        ("containerStatuses", spec["containers"]),
        ("initContainerStatuses", spec.get("initContainers", [])),
    ):
        for container in containers:
            form = draft.one_of("status of a container", ("none", "resources", "allocated", "both"))
            if form == "none":
                continue
            found: JSON = {"name": container["name"]}
            if form in ("resources", "both"):
                found["resources"] = _requests(draft)
            if form in ("allocated", "both"):
                found["allocatedResources"] = _amounts(draft, ("cpu", "memory"))
            status.setdefault(kind, []).append(found)
    if draft.chance("a status of the whole pod", 0.3):
        status["resources"] = {"requests": _amounts(draft, POD_LEVEL)}
        if draft.chance("with what is allocated to it", 0.5):
            status["allocatedResources"] = _amounts(draft, POD_LEVEL)
    reason = draft.one_of("resize", ("going on", "Deferred", "Infeasible"))
    if reason != "going on":
        status["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": reason}]
