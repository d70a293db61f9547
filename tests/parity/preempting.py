"""What preemption would do, asked on both sides: the same candidates, victims, broken budgets, and the same choice up to ties."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carbon_scheduler.core.preemption import Enough, Preemption
from carbon_scheduler.core.victims import VictimTable
from parity.compare import Question
from parity.draft import Choices, Draft
from parity.generate import generate
from parity.live import Live

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterable, Iterator

    from carbon_scheduler.core.model import Pod
    from parity.oracle import Oracle

JSON = dict[str, Any]
STARTED: Final = "2026-01-01T00:{:02}:00Z"
APPS: Final = ("a", "b", "c")


def generate_preempting(seed: int | str, number: int, plugins: Collection[str], choices: Choices | None = None) -> JSON:
    """A random cluster that is fuller than others, with priorities, times and budgets."""
    case = generate(seed, number, plugins)
    draft = Draft(random.Random(f"preemption of {seed}/{number}"), choices or Choices(), case["id"])
    draft.nodes, draft.pods, draft.pod = case.pop("nodes"), case.pop("pods"), case.pop("pod")
    case.pop("id")
    draft.extra = case
    if draft.chance("fewer nodes", 0.7):
        del draft.nodes[draft.one_of("nodes left", (1, 2, 4)) :]
    names = [node["metadata"]["name"] for node in draft.nodes]
    for pod in draft.pods:
        if names and pod["spec"].get("nodeName") not in (None, "gone", *names):
            pod["spec"]["nodeName"] = draft.rng.choice(names)
        pod["spec"]["priority"] = draft.one_of("priority of a pod", (0, 10, -5, 100, 2000), (4, 3, 2, 2, 1))
    if draft.chance("nothing but room matters", 0.6):
        _plain(draft)
    _pending(draft)
    _times(draft)
    _labels(draft)
    if draft.chance("budgets", 0.6):
        draft.extra["pdbs"] = [_budget(draft, i) for i in range(draft.one_of("number of budgets", (1, 2, 3)))]
    _avoid_accidents(draft)
    return draft.case()


def _plain(draft: Draft) -> None:
    """Takes away what no victim would help against."""
    for node in draft.nodes:
        node["spec"] = {}
        node["status"]["allocatable"].setdefault("cpu", "4")
        node["status"]["allocatable"].setdefault("memory", "8Gi")
    for field in ("nodeName", "nodeSelector", "affinity", "volumes"):
        draft.pod["spec"].pop(field, None)
    for pod in draft.pods:
        if draft.nodes and draft.rng.random() < 0.8:
            pod["spec"]["nodeName"] = draft.rng.choice(draft.nodes)["metadata"]["name"]
            pod["status"] = {"phase": "Running"}
    if draft.chance("pods of few sizes", 0.75):
        _few_sizes(draft)


def _few_sizes(draft: Draft) -> None:
    """Nodes that are rather full of pods alike, so that there is something to choose from."""
    full = draft.one_of("pods a node", (2, 4, 6))
    for node in draft.nodes:
        node["status"]["allocatable"] |= {"cpu": "4", "memory": "8Gi", "pods": draft.one_of("places", ("5", "20"))}
        for i in range(draft.rng.randint(full - 1, full)):
            name = f"{node['metadata']['name']}-pod-{i}"
            draft.pods.append(
                {
                    "metadata": {"name": name, "namespace": "default", "uid": f"{draft.name}/{name}"},
                    "spec": {"schedulerName": "default-scheduler", "nodeName": node["metadata"]["name"]},
                    "status": {"phase": "Running"},
                }
            )
    for pod in draft.all_pods:
        size = draft.one_of("size of a pod", ("500m", "1", "2"))
        ports = pod["spec"].get("containers", [{}])[0].get("ports", [])
        pod["spec"]["containers"] = [{"name": "c", "resources": {"requests": {"cpu": size}}, "ports": ports}]
        for field in ("initContainers", "resources", "overhead"):
            pod["spec"].pop(field, None)


def _pending(draft: Draft) -> None:
    spec = draft.pod["spec"]
    spec["priority"] = draft.one_of("priority of the pending pod", (0, 5, 50, 1000, 3000), (1, 1, 3, 6, 3))
    if draft.chance("a pod that asks for much", 0.6):
        requests = spec["containers"][0].setdefault("resources", {}).setdefault("requests", {})
        requests["cpu"] = draft.one_of("much cpu", ("1500m", "2", "3", "4"))
    policy = draft.one_of("preemptionPolicy", (None, "PreemptLowerPriority", "Never"), (6, 2, 1))
    if policy:
        spec["preemptionPolicy"] = policy
    if draft.nodes and draft.chance("it is nominated", 0.25):
        draft.pod["status"]["nominatedNodeName"] = draft.rng.choice(draft.nodes)["metadata"]["name"]


def _times(draft: Draft) -> None:
    """No two pods of a node start at the same time: upstream leaves their order open."""
    minutes: dict[object, list[int]] = {}
    fresh: set[str] = set()
    for pod in draft.pods:
        free = minutes.setdefault(pod["spec"].get("nodeName"), draft.rng.sample(range(60), 60))
        minute = free.pop()
        node = pod["spec"].get("nodeName")
        if node and node not in fresh and draft.chance("a pod that has not started", 0.15):
            fresh.add(node)
        else:
            pod["status"]["startTime"] = STARTED.format(minute)
        if pod["metadata"].get("deletionTimestamp") and draft.chance("a pod that is being preempted", 0.6):
            reason = draft.one_of(
                "reason of the disruption", ("PreemptionByScheduler", "EvictionByEvictionAPI"), (3, 1)
            )
            status = draft.one_of("status of the disruption", ("True", "False"), (4, 1))
            condition = {"type": "DisruptionTarget", "status": status, "reason": reason}
            pod["status"].setdefault("conditions", []).append(condition)


def _labels(draft: Draft) -> None:
    for pod in draft.pods:
        if draft.chance("a labelled pod", 0.8):
            pod["metadata"].setdefault("labels", {})["app"] = draft.one_of("its app", APPS, (4, 2, 1))


def _budget(draft: Draft, number: int) -> JSON:
    """Also one without a selector, and one with an empty one: neither covers any pod."""
    spec: JSON = {}
    form = draft.one_of("selector of a budget", ("labels", "expression", "empty", "none"), (6, 3, 1, 1))
    if form == "labels":
        spec["selector"] = {"matchLabels": {"app": draft.one_of("app of a budget", APPS)}}
    elif form == "expression":
        operator = draft.one_of("operator of a budget", ("In", "NotIn", "Exists", "DoesNotExist"))
        values = {"values": ["a", "c"]} if operator in ("In", "NotIn") else {}
        spec["selector"] = {"matchExpressions": [{"key": "app", "operator": operator, **values}]}
    elif form == "empty":
        spec["selector"] = {}
    status: JSON = {"disruptionsAllowed": draft.one_of("disruptions allowed", (0, 1, 2, 5), (5, 3, 2, 1))}
    if draft.pods and draft.chance("pods that the budget has counted", 0.15):
        status["disruptedPods"] = {draft.rng.choice(draft.pods)["metadata"]["name"]: "2026-01-01T00:00:00Z"}
    namespace = draft.one_of("namespace of a budget", ("default", "other"), (8, 1))
    return {"metadata": {"name": f"budget-{number}", "namespace": namespace}, "spec": spec, "status": status}


def _avoid_accidents(draft: Draft) -> None:
    """Accidents of upstream that are not copied, see core/preemption.py. What is counted once and taken away once a pod there:
    the users of a ReadWriteOncePod claim, and a host port that several pods of a node have got."""
    taken: set[tuple[object, ...]] = set()
    for pod in draft.pods:
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
            ports = container.get("ports", [])
            here = [
                (
                    pod["spec"].get("nodeName"),
                    port.get("hostIP") or "0.0.0.0",
                    port.get("protocol", "TCP"),
                    port.get("hostPort"),
                )
                for port in ports
            ]
            if ports:
                container["ports"] = [port for port, key in zip(ports, here, strict=True) if key not in taken]
            taken.update(here)
    constraints = draft.pod["spec"].get("topologySpreadConstraints", ())
    if constraints:
        for pod in draft.pods:
            pod["metadata"].pop("deletionTimestamp", None)
    for constraint in constraints:
        selector = constraint.get("labelSelector")
        if selector is not None and not any(selector.values()):
            constraint["labelSelector"] = {"matchLabels": {"app": "a"}}
    one_pod = {
        (claim["metadata"]["namespace"], claim["metadata"]["name"])
        for claim in draft.extra.get("pvcs", ())
        if "ReadWriteOncePod" in claim["spec"].get("accessModes", ())
    }
    used: set[str] = set()
    for pod in draft.pods:
        kept = []
        for volume in pod["spec"].get("volumes", ()):
            name = volume.get("persistentVolumeClaim", {}).get("claimName")
            if any(name == claim for _, claim in one_pod):
                if name in used or (pod["metadata"]["namespace"], name) not in one_pod:
                    continue
                used.add(name)
            kept.append(volume)
        if kept or "volumes" in pod["spec"]:
            pod["spec"]["volumes"] = kept


class Preempting(Live):
    """Answers with what preemption would do beside the rest."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self._table = VictimTable(self._judge.cluster)

    def told(self, pod: Pod) -> JSON:
        answer = super().told(pod)
        if "message" in answer and answer["nodes"] and answer["prefilter"] is None:
            answer["preemption"] = self._preemption(pod)
        return answer

    def _preemption(self, pod: Pod) -> JSON:
        cluster = self._judge.cluster
        verdict, nominations = self._judge.judge(pod)
        preemption = Preemption(cluster, nominations, self._table)
        outcome = preemption.attempt(pod, verdict, Enough(100))
        if outcome.sentence:
            return {"candidates": {}, "chosen": [], "message": outcome.sentence}
        found = preemption.scan(pod, verdict, len(cluster.snap))
        candidates = [found.candidate(i) for i in range(len(found))]
        chosen = sorted(candidates[i].node for i in found.tied())
        assert outcome.node in chosen
        return {
            "candidates": {
                one.node: {"pods": [victim.key for victim in one.victims], "violations": one.violations}
                for one in candidates
            },
            "chosen": chosen,
            "message": "",
        }


class PreemptionQuestion(Question):
    """A case of preemption."""

    def differences(self, live: Live) -> list[str]:
        """None when upstream's answer is an error: its trials run into some, and without them the other suite compares."""
        found = super().differences(live)
        return [] if "error" in self.want else found


def questions_preempting(
    seed: int | str, numbers: Iterable[int], names: Collection[str], oracle: Oracle, choices: Choices | None = None
) -> Iterator[PreemptionQuestion]:
    """The cases of a seed with the answers of an oracle that was started with `-preempt`."""
    of_noise = Choices()
    for number in numbers:
        case = generate_preempting(seed, number, names, choices)
        want = oracle.ask(case)
        if want.get("prefilter") or not want.get("nodes"):
            want.pop("preemption", None)  # upstream's attempt then ends in an error, see docs/reference/plugins.md
        yield PreemptionQuestion(case, generate_preempting(f"noise of {seed}", number, names, of_noise), want)


def run_preempting(
    seed: int | str,
    numbers: Iterable[int],
    names: Collection[str],
    oracle: Oracle,
    choices: Choices,
    seen: Counter[str],
) -> Iterator[tuple[JSON, list[str]]]:
    """Yields the cases on which the two sides differ, and how; counts in `seen` what came of the others."""
    live = Preempting(names)
    for one in questions_preempting(seed, numbers, names, oracle, choices):
        _count(one.want, seen)
        if found := one.differences(live):
            yield one.case, found


def save_preempting(case: JSON) -> Path:
    """Writes a case on which the two sides differ where it can be looked at. Not among the golden ones: it is not small."""
    path = Path(tempfile.gettempdir()) / f"preemption-{str(case['id']).replace('/', '-')}.json"
    path.write_text(json.dumps(case, indent=1), encoding="utf-8")
    return path


def _count(want: JSON, seen: Counter[str]) -> None:
    seen["errors"] += "error" in want
    told = want.get("preemption")
    if told is None:
        return
    seen["attempts"] += 1
    if not told["candidates"]:
        seen["without candidates"] += 1
        seen["not eligible"] += told["message"].startswith("not eligible")
        return
    seen["with candidates"] += 1
    found = told["candidates"].values()
    seen["a choice"] += len(found) > 1
    seen["a tie"] += len(told["chosen"]) > 1
    seen["several victims"] += any(len(one["pods"]) > 1 for one in found)
    seen["broken budgets"] += any(one["violations"] for one in found)
