"""One pending pod judged over a cluster that was saved: no API server, nothing is bound.

The forms of the question and of the answer are fixed, for kube-scheduler's own plugins answer the same question in the parity
tests. Every node is judged, and every feasible one is scored, also when it is the only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from carbon_scheduler.core.cluster import Cluster
from carbon_scheduler.core.emissions import ENERGY_WITHOUT_MODEL_KWH, emissions_g
from carbon_scheduler.core.framework import Framework
from carbon_scheduler.core.nominations import Nominations
from carbon_scheduler.core.plugins import default_profile, make_profile
from carbon_scheduler.errors import InvalidObject
from carbon_scheduler.kube import wire, wire_objects
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.kinds import KINDS
from carbon_scheduler.kube.wire_parts import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from carbon_scheduler.core.grid import GridZones
    from carbon_scheduler.core.model import GridZone, NodeName, Pod
    from carbon_scheduler.core.plugin import Plugin
    from carbon_scheduler.core.settings import Profile
    from carbon_scheduler.core.verdict import Verdict

SUCCESS: Final = "Success"


class Case(Wire):
    """A saved cluster and one pending pod. The lists of further objects have the names of `kinds.Kind.listed_as`."""

    pod: wire.Pod
    nodes: list[wire.Node | None] | None = None
    pods: list[wire.Pod | None] | None = None
    namespaces: list[wire.Namespace | None] | None = None
    services: list[wire_objects.Service | None] | None = None
    replicationcontrollers: list[wire_objects.ReplicationController | None] | None = None
    replicasets: list[wire_objects.Workload | None] | None = None
    statefulsets: list[wire_objects.Workload | None] | None = None
    pdbs: list[wire_objects.Budget | None] | None = None
    pvcs: list[wire_objects.Claim | None] | None = None
    pvs: list[wire_objects.Volume | None] | None = None
    storageclasses: list[wire_objects.StorageClass | None] | None = None
    csinodes: list[wire_objects.CsiNode | None] | None = None
    csidrivers: list[wire_objects.CsiDriver | None] | None = None
    csistoragecapacities: list[wire_objects.StorageCapacity | None] | None = None
    volumeattachments: list[wire_objects.Attachment | None] | None = None

    def listed(self, name: str) -> Iterator[wire.Object]:
        """The objects of one of its lists."""
        found: list[wire.Object | None] | None = getattr(self, name)
        return (one for one in found or () if one is not None)


class NodeAnswer(msgspec.Struct, frozen=True):
    """What the first plugin that turned a node down said, in kube-scheduler's words; `plugin` is "" where it is feasible."""

    code: str
    plugin: str
    reasons: tuple[str, ...]


class NodeCarbon(msgspec.Struct, frozen=True):
    """Carbon intensity of the node's grid zone (gCO2e/kWh) and the emissions of a run that needs 1 kWh there (gCO2e)."""

    grid_zone: str | None
    intensity_g_per_kwh: float | None
    quality: str | None
    cost_g: float | None


class Answer(msgspec.Struct):
    """The answer to a case. Scores are 0..100 before the weight, of the feasible nodes; totals leave carbon out."""

    id: msgspec.Raw
    prefilter: NodeAnswer | None
    nodes: dict[str, NodeAnswer]
    scores: dict[str, dict[str, int]]
    weights: dict[str, int]
    totals: dict[str, int]
    message: str | msgspec.UnsetType = msgspec.UNSET
    carbon: dict[str, NodeCarbon] | msgspec.UnsetType = msgspec.UNSET


class NoVerdict(msgspec.Struct):
    """The attempt ends in an error, as kube-scheduler's would, or the pod needs what this release does not schedule."""

    id: msgspec.Raw
    error: str


NULL: Final = msgspec.Raw(b"null")
_case: Final = msgspec.json.Decoder(Case)


class _Id(msgspec.Struct):
    id: msgspec.Raw = NULL


_id: Final = msgspec.json.Decoder(_Id)


def read_id(line: bytes) -> msgspec.Raw:
    """The `id` of a line, null where there is none that can be read."""
    try:
        return msgspec.Raw(bytes(_id.decode(line).id))
    except (ValueError, RecursionError):
        return NULL


def read_case(line: bytes) -> Case:
    """One case. Raises InvalidObject when the line is none."""
    try:
        case = _case.decode(line)
    except (ValueError, RecursionError) as error:
        raise InvalidObject(
            f"the line is not a case: {str(error)[:300]}; expected a JSON object with nodes, pods and pod"
        ) from error
    for name in ("nodes", "pods", "namespaces", *(kind.listed_as for kind in KINDS)):
        _each_has_a_name(case.listed(name), name)
    _each_has_a_name([case.pod], "pod")
    return case


def _each_has_a_name(found: Iterable[wire.Object], where: str) -> None:
    if any(one.metadata is None or not one.metadata.name for one in found):
        raise InvalidObject(f"the line is not a case: {where}: got an object without metadata.name, expected a name")


class Judge:
    """A cluster as the scheduler keeps it, and plugins over it: those of the pod's profile, or these, or the default ones.

    `cluster` may be changed between questions: answers are brought up to date only where something changed.
    """

    def __init__(
        self,
        grid: GridZones,
        default_grid_zone: GridZone | None = None,
        plugins: Sequence[Plugin] | None = None,
        profiles: Sequence[Profile] = (),
    ) -> None:
        self.cluster = Cluster(grid, default_grid_zone)
        self.convert = Converter()
        snap = self.cluster.snap
        self._frameworks = {one.scheduler_name: Framework(make_profile(one), snap) for one in profiles}
        self._usual = None if profiles else Framework(default_profile() if plugins is None else plugins, snap)

    def load(self, case: Case) -> Pod:
        """Takes a case's objects in and returns its pending pod, which is not among them."""
        for namespace in case.namespaces or ():
            if namespace is not None:
                self.cluster.put_namespace(self.convert.namespace(namespace))
        for kind in KINDS:
            for found in case.listed(kind.listed_as):
                self.cluster.put_object(kind.convert(found))
        for node in case.nodes or ():
            if node is not None:
                self.cluster.put_node(self.convert.node(node))
        for pod in case.pods or ():
            if pod is not None:
                self.cluster.put_pod(self.convert.pod(pod))
        return self.convert.pod(case.pod)

    def ask(self, pod: Pod, case_id: msgspec.Raw = NULL) -> Answer | NoVerdict:
        """Which nodes the pod may use, why not the others, and their scores."""
        if pod.refusal:
            return NoVerdict(case_id, pod.refusal)
        framework = self._framework(pod)
        if framework is None:
            names = ", ".join(self._frameworks)
            return NoVerdict(
                case_id, f"spec.schedulerName: got {pod.scheduler_name!r}, expected the name of a profile: {names}"
            )
        verdict, _ = self.judge(pod)
        if verdict.error:
            return NoVerdict(case_id, verdict.error)
        status = verdict.status()
        feasible = [name for name, (code, *_) in status.items() if code == SUCCESS]
        if verdict.failed and len(feasible) > 1:
            return NoVerdict(case_id, verdict.failed)
        weights = {plugin.name: plugin.weight for plugin in framework.plugins if plugin.weight}
        answer = Answer(case_id, None, {n: NodeAnswer(*found) for n, found in status.items()}, {}, weights, {})
        if verdict.rejected is not None and status:  # without a node upstream asks no plugin
            plugin, why = verdict.rejected
            answer.prefilter = NodeAnswer(why.code, plugin.name, tuple(sorted(why.reasons)))
        if not feasible:
            answer.message = verdict.message()
        elif not verdict.failed:
            self._score(verdict, feasible, answer)
        return answer

    def _framework(self, pod: Pod) -> Framework | None:
        return self._usual or self._frameworks.get(pod.scheduler_name)

    def _score(self, verdict: Verdict, feasible: Sequence[str], answer: Answer) -> None:
        slot_of: dict[NodeName, int] = self.cluster.snap.slot_of
        slots = np.array([slot for name, slot in slot_of.items() if name in set(feasible)], np.intp)
        names = [node.name for slot in slots if (node := self.cluster.snap.nodes[slot])]
        answer.scores = {
            plugin: dict(zip(names, found.tolist(), strict=True)) for plugin, found in verdict.scores(slots).items()
        }
        answer.totals = dict(zip(names, verdict.totals(slots).tolist(), strict=True))

    def judge(self, pod: Pod) -> tuple[Verdict, Nominations]:
        """What the plugins say, nominated pods heeded as upstream does: of the profiles that share its queue, never itself."""
        nominations = Nominations(self.cluster.snap, self.cluster.pods)
        for other in self.cluster.pods.values():
            waits_with_it = other.scheduler_name in (self._frameworks or (pod.scheduler_name,))
            if waits_with_it and not (other.node_name or other.gated):
                nominations.put(other.uid, other.nominated_node_name)
        nominations.put(pod.uid, pod.nominated_node_name)
        framework = self._framework(pod)
        assert framework is not None, f"no profile serves {pod.scheduler_name}"
        verdict = framework.judge(pod)
        nominations.heed(pod, verdict, exactly=True)
        return verdict, nominations

    def carbon(self, intensity: Callable[[GridZone], float | None]) -> dict[str, NodeCarbon]:
        """For each node its grid zone, that zone's recorded intensity, and what 1 kWh costs there."""
        found: dict[str, NodeCarbon] = {}
        for name, zone in self.cluster.zones.items():
            value = None if zone.grid_zone is None else intensity(zone.grid_zone)
            cost = None if value is None else float(emissions_g(ENERGY_WITHOUT_MODEL_KWH, 1.0, np.array(value)))
            found[name] = NodeCarbon(zone.grid_zone, value, None if value is None else "measured", cost)
        return found


def answer_lines(
    lines: Iterable[bytes], judge_of: Callable[[], Judge], intensity: Callable[[GridZone], float | None] | None = None
) -> Iterable[tuple[Answer | NoVerdict, bool]]:
    """(answer, whether the line was a case) for each line that is not empty."""
    for line in lines:
        if not line.strip():
            continue
        case_id = read_id(line)
        try:
            case = read_case(line)
        except InvalidObject as error:
            yield NoVerdict(case_id, str(error)), False
            continue
        judge = judge_of()
        found = judge.ask(judge.load(case), case_id)
        if intensity is not None and isinstance(found, Answer):
            found.carbon = judge.carbon(intensity)
        yield found, True
