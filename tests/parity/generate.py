"""Random small clusters with one pending pod each. A case depends on its seed and number alone.

Each plugin has an ingredient of its own in `ingredients/`; one that needs a plugin which the profile does not have is left out.
Everything generated is something an API server may hold: it passes validation and has the defaults.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from parity.draft import JSON, Choices, Draft
from parity.ingredients import INGREDIENTS

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_NODES: Final = 12
MAX_PODS: Final = 30


def generate(seed: int | str, number: int, plugins: Collection[str], choices: Choices | None = None) -> JSON:
    """Case `number` of a seed, for a profile with these plugins."""
    draft = Draft(random.Random(f"{seed}/{number}"), choices or Choices(), f"{seed}/{number}")
    _cluster(draft)
    for place, ingredient in enumerate(INGREDIENTS):
        draft.rng = random.Random(f"{seed}/{number}/{place}")  # so that a new ingredient leaves the others as they were
        if ingredient.plugin in plugins and draft.rng.random() < ingredient.probability:
            ingredient.add(draft)
    return draft.case()


def _cluster(draft: Draft) -> None:
    rng = draft.rng
    few = draft.chance("a cluster of one to three nodes", 0.3)
    count = 0 if rng.random() < 0.01 else rng.randint(1, 3 if few else MAX_NODES)
    for i in range(count):
        name = f"node-{i}"
        draft.nodes.append(
            {
                "metadata": {"name": name, "uid": f"{draft.name}/{name}", "labels": {"kubernetes.io/hostname": name}},
                "spec": {},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
            }
        )
    for i in range(rng.choice((0, rng.randint(0, 6), rng.randint(0, MAX_PODS)))):
        draft.pods.append(_pod(draft, f"pod-{i}"))
        _place(draft, draft.pods[-1])
    draft.pod = _pod(draft, "pending")
    if draft.nodes and rng.random() < 0.05:
        draft.pod["status"]["nominatedNodeName"] = rng.choice(draft.nodes)["metadata"]["name"]
    if draft.nodes and draft.chance("the pending pod names a node", 0.03):
        name = draft.one_of("it names", ("a node", "no node"), (4, 1))
        draft.pod["spec"]["nodeName"] = rng.choice(draft.nodes)["metadata"]["name"] if name == "a node" else "gone"


def _pod(draft: Draft, name: str) -> JSON:
    priority = draft.one_of("priority", (None, 0, 10, -5))
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"{draft.name}/{name}"},
        "spec": {
            "schedulerName": "default-scheduler",
            "containers": [{"name": "c0", "image": "app"}],
            **({} if priority is None else {"priority": priority}),
        },
        "status": {"phase": "Pending"},
    }


def _place(draft: Draft, pod: JSON) -> None:
    """Where an existing pod is, and in which phase of its life."""
    rng = draft.rng
    where = draft.one_of(
        "an existing pod is", ("on a node", "nominated", "pending", "on a node that is gone"), (20, 3, 1, 1)
    )
    names = [node["metadata"]["name"] for node in draft.nodes] or ["gone"]
    if where == "on a node":
        pod["spec"]["nodeName"] = rng.choice(names)
        pod["status"]["phase"] = draft.one_of(
            "phase", ("Running", "Pending", "Succeeded", "Failed", "Unknown"), (9, 3, 1, 1, 1)
        )
    elif where == "on a node that is gone":
        pod["spec"]["nodeName"] = "gone"
    elif where == "nominated":
        pod["status"]["nominatedNodeName"] = rng.choice(names)
        kind = draft.one_of("a nominated pod is", ("plain", "gated", "of another scheduler"), (8, 1, 1))
        if kind == "gated":
            pod["spec"]["schedulingGates"] = [{"name": "example.com/wait"}]
        elif kind == "of another scheduler":
            pod["spec"]["schedulerName"] = "other"
    if draft.chance("an existing pod is terminating", 0.07):
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
