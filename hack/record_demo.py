"""Runs the demo twice and keeps both outcomes for the README's picture: `python hack/record_demo.py`.

Once as it is, and once with `carbon-scheduler.io/placement: off` on every pod, which is kube-scheduler's scores alone. Two
runs, because the blind choice that each decision records is made in a cluster whose clean nodes are already full of our
pods: it would make the other side look worse than it is. The picture changes with the hour (the synthetic data have a daily
shape), so this is not part of `make docs`.
"""

from __future__ import annotations

import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Final

import msgspec

from carbon_scheduler.errors import ApiStatusError
from carbon_scheduler.sim import demo_workload
from carbon_scheduler.sim.demo_report import Report, report, undecided
from carbon_scheduler.sim.demo_stage import Stage

TARGET: Final = Path(__file__).resolve().parents[1] / "docs/pictures/demo.json"
LIMIT_S: Final = 60.0
_PODS: Final = f"/api/v1/namespaces/{demo_workload.NAMESPACE}/pods"


def outcome(*, carbon: bool) -> Report:
    """The demo's report. Raises TimeoutError when the pods were not decided within a minute."""
    pods = deepcopy(demo_workload.pods())
    for pod in pods if not carbon else ():
        pod["metadata"].setdefault("annotations", {})["carbon-scheduler.io/placement"] = "off"
    with Stage(real=False, environ={"PATH": os.environ.get("PATH", "")}) as stage:
        stage.start_servers()
        for node in demo_workload.nodes():
            stage.request("POST", "/api/v1/nodes", node)
        for pod in pods:
            try:
                stage.request("POST", _PODS, pod)
            except ApiStatusError as error:
                raise SystemExit(f"the demo's pod {pod['metadata']['name']} was refused: {error}") from error
        stage.start_scheduler()
        scheduler = demo_workload.SCHEDULER
        if not stage.wait(lambda: undecided(stage.request("GET", _PODS), scheduler=scheduler)[0] == 0, LIMIT_S):
            raise TimeoutError(f"the demo's pods were not decided within {LIMIT_S:.0f} s")
        return report(stage.request("GET", _PODS), scheduler=scheduler, grid_data="synthetic", synthetic=True)


def main() -> None:
    runs = {"with_carbon": outcome(carbon=True), "scores_alone": outcome(carbon=False)}
    TARGET.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1) + b"\n")
    for name, made in runs.items():
        print(f"{name}: {made.total.placed} placed, mean {made.total.mean_g_per_kwh:.1f} g/kWh", file=sys.stderr)


if __name__ == "__main__":
    main()
