"""A recorded trace gives the same effects again: in another process, under another PYTHONHASHSEED, and after a change of code.

`first_hour.jsonl` is a story of this project's own (synthetic). When a change of behaviour is wanted, write it anew with
`python tests/golden/test_trace.py` and read the difference before committing it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carbon_scheduler.core import wire
from carbon_scheduler.core.events import Bound, CarbonChanged, NodeGone, PodChanged, PodGone, PodRead, Refused, Unknown
from carbon_scheduler.core.model import GridZone, NodeName, Taint, Toleration
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.core.settings import Settings
from carbon_scheduler.providers.tables import grid_zones

HERE = Path(__file__).parent
GOLDEN = HERE / "first_hour.jsonl"


def fresh(settings: Settings) -> Scheduler:
    return Scheduler(settings, grid_zones())


def first_hour() -> list[bytes]:
    """A morning in a small cluster: arrivals, a full node, a refusal, a lost answer, a cordon, a zone that goes dark."""
    sys.path.insert(0, str(HERE.parent))
    from builders import WALL, make_node, make_pod, make_value

    settings = Settings(default_grid_zone=GridZone("DE"))
    core = fresh(settings)
    lines = [wire.encode(wire.Began(settings))]
    at = 0.0

    def tell(kind: type, *fields: Any) -> None:
        event = kind(at, WALL + at, *fields)
        core.apply(event)
        lines.append(wire.encode(event))

    def decide() -> list[Any]:
        effects = core.decide(at, 8)
        lines.append(wire.encode(wire.Decided(at, 8, tuple(effects))))
        return [effect for effect in effects if type(effect).__name__ in ("Bind", "ReadPod")]

    from carbon_scheduler.core.events import NodeChanged, Synced

    for i, zone in enumerate(("FR", "PL", "", "US-NY-NYSI", "ES", "FR")):
        taints = (Taint("gpu", "", "NoSchedule"),) if i == 5 else ()
        tell(NodeChanged, make_node(f"node-{i}", cpu="4", memory="8Gi", zone=zone, taints=taints))
    tell(Synced)
    for zone, g in (("FR", 45.0), ("PL", 690.0), ("DE", 380.0)):
        tell(CarbonChanged, GridZone(zone), make_value(zone, g))
    pods = [make_pod(f"job-{i}", cpu=("500m", "1", "3")[i % 3], memory="1Gi", priority=i % 2) for i in range(12)]
    tolerant = make_pod("gpu", cpu="1", spec={"tolerations": (Toleration("gpu", "Exists", "", ""),)})
    for pod in [*pods, tolerant, make_pod("huge", cpu="64")]:
        tell(PodChanged, pod)
    decide()
    at = 5.1
    binds = []
    while some := decide():
        binds += some
    by_name = {bind.name: bind for bind in binds}
    for n, bind in enumerate(binds):
        whom = (bind.uid, bind.node, bind.decision.seq)
        if n == 1:
            tell(Refused, *whom, 403, "forbidden")
        elif n == 2:
            tell(Unknown, *whom)
        else:
            tell(Bound, *whom)
            pod = next(p for p in [*pods, tolerant] if p.uid == bind.uid)
            tell(PodChanged, msgspec.structs.replace(pod, node_name=bind.node))
    for effect in decide():
        if type(effect).__name__ == "ReadPod":
            tell(PodRead, effect.uid, effect.seq, next(p for p in pods if p.uid == effect.uid))
    at = 900.0
    tell(CarbonChanged, GridZone("FR"), make_value("FR", 420.0, quality="stale"))
    tell(NodeChanged, make_node("node-1", cpu="4", memory="8Gi", zone="PL", unschedulable=True))
    tell(NodeGone, NodeName("node-2"))
    decide()
    tell(PodGone, by_name["job-0"].uid)
    at = 1800.0
    tell(CarbonChanged, GridZone("FR"), None)
    tell(PodChanged, make_pod("late", cpu="1", annotations=(("carbon-scheduler.io/placement", "green"),)))
    decide()
    return lines


def test_the_story_is_what_it_was() -> None:
    assert b"".join(first_hour()) == GOLDEN.read_bytes()


def test_a_recorded_trace_plays_again_without_a_difference() -> None:
    assert list(wire.play(GOLDEN.read_bytes().splitlines(), fresh)) == []


def test_a_difference_is_found_and_named() -> None:
    lines = GOLDEN.read_bytes().replace(b'"g_per_kwh":45.0', b'"g_per_kwh":945.0').splitlines()
    differences = list(wire.play(lines, fresh))
    assert differences
    assert lines[differences[0].line - 1].startswith(b'{"type":"Decided"')


BROKEN = {
    "not JSON": (b"{", "line 1: not a line of a trace"),
    "an event first": (b'{"type":"Synced","at":0,"wall":0}', "expected Began"),
    "another format": (b'{"type":"Began","settings":{},"version":99}', "format 99"),
}


@pytest.mark.parametrize(("line", "want"), BROKEN.values(), ids=BROKEN)
def test_a_broken_trace_is_refused_with_its_line(line: bytes, want: str) -> None:
    with pytest.raises(wire.BrokenTrace, match=want):
        list(wire.play([line], fresh))


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_effects_do_not_depend_on_the_hash_seed(seed: str) -> None:
    code = "import sys, test_trace; sys.stdout.buffer.write(b''.join(test_trace.first_hour()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HERE,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == GOLDEN.read_bytes()


if __name__ == "__main__":
    GOLDEN.write_bytes(b"".join(first_hour()))
