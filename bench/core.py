"""What a decision of the core costs: CPU time per pod, beside a fixed piece of numpy work in the same run.

    python bench/core.py                     # a Markdown table
    python bench/core.py --format json       # every repetition
    python bench/core.py --scenario one-shape-500 --repetitions 9

Absolute times are one machine's at one moment. So each repetition also times the reference kernel, before and after, and the
figure to compare between machines or versions is the ratio: how many kernels one decision costs. The kernel is
`np.where(mask, scores, -1).argmax()` over 5,000 int64: the least that any scheduler must do to take the best of 5,000 nodes.

Measured is the core alone: no API server, no network, no log. "Decide" is filtering, scoring and choosing, in slices of 16
pods as the live scheduler takes them; "events" is taking in the pod, the answer to its Binding, and the watch's echo.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import numpy as np

from carbon_scheduler import __version__
from carbon_scheduler.core.carbon import CarbonValue
from carbon_scheduler.core.decision import Bind, Evict
from carbon_scheduler.core.events import Bound, CarbonChanged, NodeChanged, PodChanged, Synced
from carbon_scheduler.core.model import (
    Node,
    NodeName,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    PodTerm,
    PodUid,
    Requests,
    Requirement,
    SpreadConstraint,
    Taint,
    Toleration,
)
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.core.settings import Settings
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCENARIOS: Final = Path(__file__).with_name("scenarios.toml")
KERNEL_NODES: Final = 5000
KERNEL_TIMES: Final = 2000
SLICE: Final = 16
REPETITIONS: Final = 7
WALL_S: Final = 1_767_225_600.0
_GIB: Final = 2**30
_ZONE: Final = "topology.kubernetes.io/zone"
_HOST: Final = "kubernetes.io/hostname"
_FILLING: Final = PodSpec(requests=Requests(8_000, _GIB, scoring_cpu_m=8_000, scoring_memory_b=_GIB))
_TAINT: Final = Taint("dedicated", "batch", "NoSchedule")
_TOLERATION: Final = Toleration("dedicated", "Equal", "batch", "NoSchedule")
_NOT_POOL_0: Final = NodeSelectorTerm((Requirement("pool", "NotIn", ("pool-0",)),))


@dataclass(frozen=True)
class Scenario:
    name: str
    nodes: int
    pods: int
    shapes: int
    grid_zones: int
    failure_domains: int = 0
    """How many zones there are (topology.kubernetes.io/zone). Unless 0, each shape is one workload with a label of its own."""
    spread: Literal["DoNotSchedule", "ScheduleAnyway", "no"] = "DoNotSchedule"
    """Over the zones."""
    affinity: tuple[Literal["near", "apart"], ...] = ()
    """Required between the pods of a workload: in zones that have one already ("near"), on nodes that have none ("apart")."""
    running: int = 0
    """Pods of the same shapes that are on nodes already, one a node."""
    preempting: bool = False
    """The running pods fill the nodes, four on each, and each pending one, of higher priority, has two of them evicted. The
    first attempt of a cluster, which makes the arrays of victims, is not counted."""
    selective: bool = False
    """A tenth of the nodes is tainted, which a third of the shapes tolerates; half of the shapes select four nodes of five."""


@dataclass(frozen=True)
class Repetition:
    """CPU time in microseconds: per pod, and per kernel."""

    decide_us: float
    events_us: float
    kernel_us: float


@dataclass(frozen=True)
class Result:
    """`kernels` is decide over kernel, one figure a repetition."""

    scenario: Scenario
    repetitions: tuple[Repetition, ...]
    kernels: tuple[float, ...]


def scenarios(file: Path = SCENARIOS) -> list[Scenario]:
    with file.open("rb") as stream:
        found = tomllib.load(stream)
    return [Scenario(name, **{**sizes, "affinity": tuple(sizes.get("affinity", ()))}) for name, sizes in found.items()]


def cluster(scenario: Scenario) -> tuple[Scheduler, list[Pod]]:
    """A scheduler that knows the nodes and their carbon values, and the pods that it has not seen yet."""
    zones = grid_zones()
    keys = sorted(zones)[: scenario.grid_zones]
    scheduler = Scheduler(Settings(), zones)
    for number in range(scenario.nodes):
        scheduler.apply(NodeChanged(0.0, WALL_S, _node(number, scenario, keys[number % len(keys)])))
    for number, key in enumerate(keys):
        value = CarbonValue(key, 50.0 + 20.0 * number, "measured", "bench", WALL_S, WALL_S)
        scheduler.apply(CarbonChanged(0.0, WALL_S, key, value))
    scheduler.apply(Synced(0.0, WALL_S))
    specs = [_shape(number, scenario) for number in range(scenario.shapes)]
    pods = [_pod(f"pod-{number}", specs[number % len(specs)]) for number in range(scenario.pods)]
    for number in range(scenario.running):
        there = NodeName(f"node-{number * 7 % scenario.nodes:05}")
        spec = _FILLING if scenario.preempting else specs[number % len(specs)]
        pod = msgspec.structs.replace(_pod(f"running-{number}", spec), node_name=there)
        scheduler.apply(PodChanged(0.0, WALL_S, pod))
    if scenario.preempting:
        scheduler.apply(PodChanged(0.0, WALL_S, _pod("first", specs[0])))
    scheduler.decide(0.0, 1)  # what the nodes themselves have to say (zones in use) is not a decision's cost
    return scheduler, pods


def _pod(name: str, spec: PodSpec) -> Pod:
    return Pod(PodUid(f"uid-{name}"), "default", name, spec, scheduler_name="carbon-aware-scheduler")


def _node(number: int, scenario: Scenario, grid_zone: str) -> Node:
    name = f"node-{number:05}"
    labels = {"carbon-zone": grid_zone, _HOST: name}
    if scenario.failure_domains:
        labels[_ZONE] = f"zone-{number // scenario.grid_zones % scenario.failure_domains}"
    if scenario.selective:
        labels["pool"] = f"pool-{number % 5}"
    return Node(
        name=NodeName(name),
        labels=labels,
        taints=(_TAINT,) if scenario.selective and number % 10 == 7 else (),
        allocatable={"cpu": 32_000, "memory": 128 * _GIB, "pods": 110},
    )


def _shape(number: int, scenario: Scenario) -> PodSpec:
    own = (Requirement("app", "In", (f"app-{number}",)),)
    cpu_m = number + (10_000 if scenario.preempting else 100)
    spread = SpreadConstraint(_ZONE, max_skew=1, hard=scenario.spread == "DoNotSchedule", selector=own)
    return PodSpec(
        labels=(("app", f"app-{number}"),) if scenario.failure_domains else (),
        requests=Requests(cpu_m, _GIB, scoring_cpu_m=cpu_m, scoring_memory_b=_GIB),
        priority=100 if scenario.preempting else 0,
        tolerations=(_TOLERATION,) if scenario.selective and number % 3 == 0 else (),
        required_affinity=(_NOT_POOL_0,) if scenario.selective and number % 2 else None,
        spread=(spread,) if scenario.failure_domains and scenario.spread != "no" else (),
        required_pod_affinity=(PodTerm(_ZONE, own, ("default",)),) if "near" in scenario.affinity else (),
        required_pod_anti_affinity=(PodTerm(_HOST, own, ("default",)),) if "apart" in scenario.affinity else (),
    )


def repetition(scenario: Scenario) -> Repetition:
    """One fresh cluster, all pods decided. Raises RuntimeError when a pod was not bound, or has nobody evicted where it should:
    then the figures mean nothing."""
    scheduler, pods = cluster(scenario)
    gc.collect()
    before_us = kernel_us()
    at = 1.0

    def take_in() -> None:
        for pod in pods:
            scheduler.apply(PodChanged(at, WALL_S + at, pod))

    binds: list[Bind] = []
    preemptors: set[PodUid] = set()

    def decide() -> None:
        while effects := scheduler.decide(at, SLICE):
            binds.extend(effect for effect in effects if isinstance(effect, Bind))
            preemptors.update(effect.preemptor_uid for effect in effects if isinstance(effect, Evict))

    def take_back() -> None:
        by_uid = {pod.uid: pod for pod in pods}
        for bind in binds:
            scheduler.apply(Bound(at, WALL_S + at, bind.uid, bind.node, bind.decision.seq))
            pod = msgspec.structs.replace(by_uid[bind.uid], node_name=bind.node)
            scheduler.apply(PodChanged(at, WALL_S + at, pod))

    events_us, decide_us, answers_us = (_cpu_us(work) / scenario.pods for work in (take_in, decide, take_back))
    if scenario.preempting and len(preemptors) != scenario.pods:
        raise RuntimeError(f"{scenario.name}: {len(preemptors)} of {scenario.pods} pods had others evicted")
    if not scenario.preempting and len(binds) != scenario.pods:
        raise RuntimeError(
            f"{scenario.name}: {len(binds)} of {scenario.pods} pods were bound; make the scenario's nodes larger"
        )
    return Repetition(decide_us, events_us + answers_us, (before_us + kernel_us()) / 2)


def kernel_us() -> float:
    """CPU time of one reference kernel."""
    scores = np.arange(KERNEL_NODES, dtype=np.int64) % 101
    mask = np.arange(KERNEL_NODES) % 3 > 0

    def work() -> None:
        for _ in range(KERNEL_TIMES):
            np.where(mask, scores, -1).argmax()

    return _cpu_us(work) / KERNEL_TIMES


def _cpu_us(work: Callable[[], None]) -> float:
    started = time.process_time_ns()
    work()
    return (time.process_time_ns() - started) / 1000


def measure(wanted: Sequence[Scenario], repetitions: int) -> list[Result]:
    """Round after round over all scenarios, so that a slow minute of the machine hits all of them; the first round warms up
    and is not counted."""
    found: dict[Scenario, list[Repetition]] = {scenario: [] for scenario in wanted}
    for number in range(repetitions + 1):
        for scenario in wanted:
            made = repetition(scenario)
            if number:
                found[scenario].append(made)
    return [
        Result(scenario, tuple(made), tuple(one.decide_us / one.kernel_us for one in made))
        for scenario, made in found.items()
    ]


def markdown(results: Sequence[Result]) -> str:
    lines = [
        "| scenario | nodes | shapes | kernels a decision (median, range) | decide µs/pod | events µs/pod | kernel µs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        low, middle, high = min(result.kernels), statistics.median(result.kernels), max(result.kernels)
        decide, events, kernel = (
            statistics.median(getattr(one, name) for one in result.repetitions)
            for name in ("decide_us", "events_us", "kernel_us")
        )
        of = result.scenario
        lines.append(
            f"| {of.name} | {of.nodes:,} | {of.shapes} | {middle:.1f} ({low:.1f} to {high:.1f}) | {decide:.0f} | {events:.0f} "
            f"| {kernel:.1f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    return {
        "carbon_scheduler": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    known = {scenario.name: scenario for scenario in scenarios()}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--scenario", action="append", choices=known, help="one of scenarios.toml; default: all")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"default: {REPETITIONS}, at least 5")
    parser.add_argument("--format", choices=["markdown", "json"], default="markdown")
    options = parser.parse_args(argv)
    if options.repetitions < 5:
        parser.error(f"--repetitions: got {options.repetitions}, expected at least 5: a spread needs that many")
    results = measure([known[name] for name in options.scenario or known], options.repetitions)
    if options.format == "json":
        print(json.dumps({"on": machine(), "results": [asdict(result) for result in results]}, indent=2))
    else:
        print(markdown(results))
        print(
            "\n"
            + ", ".join(f"{name} {what}" for name, what in machine().items())
            + f"; {options.repetitions} repetitions"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
