"""What the demo shows at its end, from nothing but the pods as the API server has them."""

from __future__ import annotations

from statistics import fmean
from typing import Final, Literal

import msgspec

from carbon_scheduler.errors import InvalidObject
from carbon_scheduler.units import LABEL_PREFIX

DECISION: Final = LABEL_PREFIX + "decision"


class Row(msgspec.Struct, frozen=True):
    """One pod. `difference_g_per_kwh` is its intensity minus the blind choice's: negative is cleaner. None: not known."""

    pod: str
    state: Literal["placed", "pending", "not ours"]
    node: str | None = None
    grid_zone: str | None = None
    g_per_kwh: float | None = None
    quality: str | None = None
    blind_node: str | None = None
    blind_g_per_kwh: float | None = None
    difference_g_per_kwh: float | None = None
    why: str = ""
    """Why it is not placed by us."""


class Total(msgspec.Struct, frozen=True):
    """Means are over the placed pods for which both intensities are known (`compared`), each pod counting once."""

    pods: int
    placed: int
    pending: int
    not_ours: int
    compared: int
    mean_g_per_kwh: float | None
    blind_mean_g_per_kwh: float | None
    difference_g_per_kwh: float | None
    difference_frac: float | None


class Report(msgspec.Struct, frozen=True):
    """`grid_data` says what the intensities are, `synthetic` whether they are made up."""

    grid_data: str
    synthetic: bool
    total: Total
    pods: tuple[Row, ...]


class _Gate(msgspec.Struct):
    name: str | None = None


class _Meta(msgspec.Struct):
    name: str = ""
    annotations: dict[str, str] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    scheduler_name: str | None = None
    node_name: str | None = None
    scheduling_gates: list[_Gate] | None = None


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


class _Status(msgspec.Struct):
    phase: str | None = None
    conditions: list[_Condition] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec
    status: _Status | None = None

    @property
    def verdict(self) -> _Condition | None:
        """The PodScheduled=False condition."""
        conditions = (self.status and self.status.conditions) or []
        return next((c for c in conditions if c.type == "PodScheduled" and c.status == "False"), None)


class _List(msgspec.Struct):
    items: list[_Pod] | None = None


class _Decision(msgspec.Struct):
    """The annotation of design section 8, as far as it is shown."""

    grid_zone: str | None = None
    intensity_g_per_kwh: float | None = None
    quality: str | None = None
    blind: str | None = None
    saved_g_per_kwh: float | None = None


def report(pod_list: object, *, scheduler: str, grid_data: str, synthetic: bool) -> Report:
    """The report on a PodList (the API's JSON, decoded). Rows: placed, then pending, then other schedulers', by name.

    Raises InvalidObject when it is not a PodList.
    """
    rows = [_row(pod, scheduler) for pod in _pods(pod_list)]
    order = {"placed": 0, "pending": 1, "not ours": 2}
    rows.sort(key=lambda row: (order[row.state], row.g_per_kwh or 0.0, row.node or "", _natural(row.pod)))
    return Report(grid_data, synthetic, _total(rows), tuple(rows))


def undecided(pod_list: object, *, scheduler: str) -> tuple[int, int]:
    """How many of the scheduler's pods are neither bound nor found unschedulable yet, and how many are its business."""
    ours = [pod for pod in _pods(pod_list) if pod.spec.scheduler_name == scheduler and not pod.spec.scheduling_gates]
    waiting = [pod for pod in ours if not pod.spec.node_name and pod.verdict is None]
    return len(waiting), len(ours)


def _pods(pod_list: object) -> list[_Pod]:
    try:
        return msgspec.convert(pod_list, _List).items or []
    except msgspec.ValidationError as error:
        raise InvalidObject(f"PodList: {error}; expected the API server's list of pods") from error


def _row(pod: _Pod, scheduler: str) -> Row:
    name, node = pod.metadata.name, pod.spec.node_name or None
    if pod.spec.scheduler_name != scheduler:
        return Row(name, "not ours", node, why=f"belongs to {pod.spec.scheduler_name or 'another scheduler'}")
    if node is None:
        verdict = pod.verdict
        if pod.spec.scheduling_gates:
            why = "gated by " + ", ".join(gate.name or "?" for gate in pod.spec.scheduling_gates)
        elif verdict:
            why = verdict.message or verdict.reason or "no node fits"
        else:
            why = "not decided yet"
        return Row(name, "pending", why=why)
    try:
        decision = msgspec.json.decode((pod.metadata.annotations or {}).get(DECISION, "{}"), type=_Decision)
    except msgspec.MsgspecError:
        return Row(name, "placed", node, why=f"its annotation {DECISION} is not readable")
    own, saved = decision.intensity_g_per_kwh, decision.saved_g_per_kwh
    return Row(
        name,
        "placed",
        node,
        decision.grid_zone,
        own,
        decision.quality,
        decision.blind,
        None if own is None or saved is None else own + saved,
        None if saved is None else 0.0 - saved,
    )


def _total(rows: list[Row]) -> Total:
    both = [
        (row.g_per_kwh, row.blind_g_per_kwh)
        for row in rows
        if row.g_per_kwh is not None and row.blind_g_per_kwh is not None
    ]
    own = fmean(pair[0] for pair in both) if both else None
    blind = fmean(pair[1] for pair in both) if both else None
    difference = None if own is None or blind is None else own - blind
    return Total(
        pods=len(rows),
        placed=sum(row.state == "placed" for row in rows),
        pending=sum(row.state == "pending" for row in rows),
        not_ours=sum(row.state == "not ours" for row in rows),
        compared=len(both),
        mean_g_per_kwh=own,
        blind_mean_g_per_kwh=blind,
        difference_g_per_kwh=difference,
        difference_frac=difference / blind if difference is not None and blind else None,
    )


def sentence(total: Total) -> str:
    """The closing sentence, with its baseline in it."""
    text = f"{total.placed} of {total.pods} pods placed, {total.pending} pending, {total.not_ours} of other schedulers"
    own, blind, difference, frac = (
        total.mean_g_per_kwh,
        total.blind_mean_g_per_kwh,
        total.difference_g_per_kwh,
        total.difference_frac,
    )
    if own is None or blind is None or difference is None or frac is None:
        return f"{text}; no carbon intensity was known, so there is nothing to compare."
    verdict = (
        "no difference"
        if abs(difference) < 0.05
        else (f"{abs(difference):.1f} g/kWh ({abs(frac):.1%}) {'less' if difference < 0 else 'more'}")
    )
    return (
        f"{text}; mean carbon intensity {own:.1f} g/kWh, against {blind:.1f} g/kWh had each pod gone to its blind choice "
        f"(the node that kube-scheduler's scores alone would have taken then, in the cluster as it was): {verdict}."
    )


def _natural(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if number.isdigit() else (name, 0)
