"""What the core knows of nodes and pods: compact, immutable, already converted from the API's objects.

Nothing here is optional by accident: the conversion has applied the API's defaults. Quantities are integers in base units
(`_m` millicores, `_b` bytes, others as the resource counts), never negative, at most `MAX_QUANTITY`.
"""

from __future__ import annotations

from typing import Final, NewType

import msgspec

PodUid = NewType("PodUid", str)
NodeName = NewType("NodeName", str)
GridZone = NewType("GridZone", str)
"""A zone key of Electricity Maps, canonical (upper case, aliases resolved). `zone` alone would be a failure domain."""

MAX_QUANTITY: Final = 2**62
"""Quantities saturate here, so that allocatable minus requested always fits in int64 (upstream saturates at 2**63-1)."""


class Struct(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Base of the core's records: immutable, compared by value, not tracked by the garbage collector."""


class Taint(Struct, frozen=True):
    key: str
    value: str
    effect: str


class Toleration(Struct, frozen=True):
    """`operator` is Equal or Exists (or an unknown word, which matches nothing); "" key and "" effect match all."""

    key: str
    operator: str
    value: str
    effect: str


class Requirement(Struct, frozen=True):
    """One expression of a selector: In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


Selector = tuple[Requirement, ...] | None
"""A label selector's ANDed requirements: () matches everything, None (no selector given) nothing."""


class NodeSelectorTerm(Struct, frozen=True):
    """ANDed expressions over labels and over fields (`metadata.name` only). An empty term matches nothing."""

    expressions: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


class PreferredTerm(Struct, frozen=True):
    weight: int
    term: NodeSelectorTerm


class HostPort(Struct, frozen=True):
    """`ip` "0.0.0.0" stands for all addresses."""

    ip: str
    protocol: str
    port: int


class Requests(Struct, frozen=True):
    """What a pod takes from a node, by the request rules of kube-scheduler 1.36 (reference section 1.6).

    `scoring_cpu_m` and `scoring_memory_b` are what the resource scores see: 100m and 200 MiB for each container that
    names no request.
    """

    cpu_m: int = 0
    memory_b: int = 0
    ephemeral_storage_b: int = 0
    scalars: tuple[tuple[str, int], ...] = ()
    scoring_cpu_m: int = 0
    scoring_memory_b: int = 0
    container_scalars: tuple[tuple[str, int], ...] | None = None
    """`scalars` without what the pod asks for as a whole (huge pages); None: the same. What the scores of a pending pod see."""

    def reduced_to(self, now: Requests) -> frozenset[str]:
        """The names of the resources of which `now` is less. The scoring amounts do not count."""
        left = dict(now.scalars)
        pairs = (
            ("cpu", self.cpu_m, now.cpu_m),
            ("memory", self.memory_b, now.memory_b),
            ("ephemeral-storage", self.ephemeral_storage_b, now.ephemeral_storage_b),
            *((name, amount, left.get(name, 0)) for name, amount in self.scalars),
        )
        return frozenset(name for name, was, is_now in pairs if was > is_now)


class PodTerm(Struct, frozen=True):
    """One term of pod affinity or anti-affinity. `namespaces` is the pod's own where the term names none, nor a selector."""

    topology_key: str
    selector: Selector = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: Selector = None


class WeightedPodTerm(Struct, frozen=True):
    weight: int
    term: PodTerm


class SpreadConstraint(Struct, frozen=True):
    """One topology spread constraint. `hard`: DoNotSchedule. `match_label_keys` are those that the pod itself carries."""

    topology_key: str
    max_skew: int
    hard: bool = True
    selector: Selector = None
    match_label_keys: tuple[str, ...] = ()
    min_domains: int | None = None
    honor_affinity: bool = True
    honor_taints: bool = False
    """nodeAffinityPolicy and nodeTaintsPolicy."""


class PodVolume(Struct, frozen=True):
    """A volume that matters to where the pod may run.

    `kind` "claim": `ref` is the claim's name; "ephemeral": `ref` is the volume's own name, the claim is "<pod>-<volume>";
    "csi": `ref` is the driver of a volume that is made for the pod alone. Else the type of an in-tree volume as the API spells
    it: `awsElasticBlockStore`, `gcePersistentDisk`, `iscsi` (`ref` is the IQN), `rbd` (the image; `more` is the pool, then the
    monitors, sorted), `azureDisk` (the URI; `more` is the disk's kind), `cinder`, `portworxVolume`; and `azureFile` and
    `vsphereVolume`, of which only the presence matters.
    """

    kind: str
    ref: str
    read_only: bool = False
    more: tuple[str, ...] = ()


class Owner(Struct, frozen=True):
    """The controller of a pod, kept in the shape only for the kinds that default spreading looks at."""

    api_version: str
    kind: str
    name: str


class PodSpec(Struct, frozen=True):
    """The shape of a pod: every field that an enabled plugin reads. Pods of one shape share masks and scores.

    Conversion interns these: equal shapes are one object. `node_name` of a pending pod is not here but in `Pod`;
    `required_affinity` is None without the field and () when it has no terms, which matches nothing. `images` are the
    normalised names of containers, init containers and image volumes, with repetitions; `containers` counts the first two.
    """

    namespace: str = "default"
    labels: tuple[tuple[str, str], ...] = ()
    requests: Requests = Requests()
    tolerations: tuple[Toleration, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()
    required_affinity: tuple[NodeSelectorTerm, ...] | None = None
    preferred_affinity: tuple[PreferredTerm, ...] = ()
    host_ports: tuple[HostPort, ...] = ()
    priority: int = 0
    spread: tuple[SpreadConstraint, ...] = ()
    required_pod_affinity: tuple[PodTerm, ...] = ()
    required_pod_anti_affinity: tuple[PodTerm, ...] = ()
    preferred_pod_affinity: tuple[WeightedPodTerm, ...] = ()
    preferred_pod_anti_affinity: tuple[WeightedPodTerm, ...] = ()
    images: tuple[str, ...] = ()
    containers: int = 1
    volumes: tuple[PodVolume, ...] = ()
    needs_features: tuple[str, ...] = ()
    """Names of node features that the spec implies (NodeDeclaredFeatures), sorted."""
    owner: Owner | None = None


class Pod(Struct, frozen=True):
    """One pod. `charge` is what it takes on its node now (differs from `spec.requests` during an in-place resize).

    `annotations` holds only those under `carbon-scheduler.io/`, values cut at 4 KiB; `annotations_b` is the size of all.
    `refusal` is not "" when this pod must not be scheduled because a part of it could not be read: the text for its condition.
    """

    uid: PodUid
    namespace: str
    name: str
    spec: PodSpec = PodSpec()
    scheduler_name: str = "default-scheduler"
    node_name: NodeName | None = None
    nominated_node_name: NodeName | None = None
    finished: bool = False
    terminating: bool = False
    gated: bool = False
    created_s: float = 0.0
    charge: Requests | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    annotations_b: int = 0
    scheduled_message: str = ""
    """`reason: message` of the pod's PodScheduled=False condition as the API server has it, "" without one."""
    refusal: str = ""
    resource_version: str = ""
    generation: int = 0
    """metadata.generation, for the condition's observedGeneration."""
    started_s: float | None = None
    """status.startTime as Unix time; None before the kubelet has accepted it. Which of two victims is the dearer."""
    may_preempt: bool = True
    """False for preemptionPolicy Never."""
    preempted: bool = False
    """Has the condition DisruptionTarget=True with reason PreemptionByScheduler."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def takes(self) -> Requests:
        """What it takes on its node now."""
        return self.charge or self.spec.requests


class Image(Struct, frozen=True):
    """An image that a node has: all its names as the node reports them, and its size."""

    names: tuple[str, ...]
    size_b: int


class Node(Struct, frozen=True):
    """One node. `allocatable` maps resource names to integers in base units, cpu in millicores."""

    name: NodeName
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    allocatable: dict[str, int] = {}
    provider_id: str = ""
    uid: str = ""
    images: tuple[Image, ...] = ()
    features: tuple[str, ...] = ()
    """status.declaredFeatures."""


class Namespace(Struct, frozen=True):
    """A namespace's labels, and its annotations under `carbon-scheduler.io/`."""

    name: str
    labels: dict[str, str] = {}
    annotations: tuple[tuple[str, str], ...] = ()
