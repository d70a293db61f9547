"""API objects as the core's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_scheduler.core import model
from carbon_scheduler.core.model import MAX_QUANTITY, NodeName, Pod, PodUid
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.convert import MAX_ANNOTATION_B, Converter, Interner

JSON = dict[str, Any]


def convert(
    spec: JSON | None = None, status: JSON | None = None, converter: Converter | None = None, **meta: object
) -> Pod:
    body = {"metadata": {"name": "p", "namespace": "ns", "uid": "u", **meta}, "spec": spec, "status": status}
    return (converter or Converter()).pod(wire.PODS.one(msgspec.json.encode(body)))


def test_an_empty_pod_has_the_apis_defaults() -> None:
    want = model.PodSpec(namespace="ns", containers=0)
    assert convert() == Pod(uid=PodUid("u"), namespace="ns", name="p", spec=want)


def test_every_field_of_a_full_pod() -> None:
    got = convert(
        {
            "schedulerName": "carbon-aware-scheduler",
            "nodeName": "n1",
            "priority": 7,
            "nodeSelector": {"b": "2", "a": None},
            "schedulingGates": [{"name": "g"}],
            "tolerations": [
                {"operator": "Exists"},
                {"key": "k", "value": "v", "effect": "NoSchedule", "tolerationSeconds": 5},
            ],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "z", "operator": "In", "values": ["a", "b"]}]},
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
                            {},
                        ]
                    },
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 5, "preference": {"matchExpressions": [{"key": "y", "operator": "Exists"}]}}
                    ],
                }
            },
            "initContainers": [
                {"name": "s", "image": "sidecar", "restartPolicy": "Always", "ports": [{"hostPort": 1}]},
                {"name": "i", "image": "init@sha256:0", "ports": [{"hostPort": 9}]},
            ],
            "containers": [
                {
                    "name": "c",
                    "image": "web:1",
                    "resources": {"requests": {"cpu": "1", "memory": "1Mi"}},
                    "ports": [
                        {"containerPort": 5},
                        {"hostPort": 2, "hostIP": "1.2.3.4", "protocol": "UDP"},
                        {"hostPort": 1},
                    ],
                }
            ],
        },
        {
            "phase": "Failed",
            "nominatedNodeName": "n2",
            "conditions": [
                {"type": "Ready", "status": "False"},
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
            ],
        },
        labels={"b": "2", "a": "1"},
        creationTimestamp="2026-11-23T14:00:00Z",
        deletionTimestamp="2026-11-23T15:00:00Z",
        resourceVersion="42",
        generation=3,
    )
    want = Pod(
        uid=PodUid("u"),
        namespace="ns",
        name="p",
        spec=model.PodSpec(
            namespace="ns",
            labels=(("a", "1"), ("b", "2")),
            # scores: the init container's step is its own 200 MiB and the sidecar's
            requests=model.Requests(1000, 1048576, 0, (), 1100, 400 * 1048576),
            tolerations=(model.Toleration("", "Exists", "", ""), model.Toleration("k", "Equal", "v", "NoSchedule")),
            node_selector=(("a", ""), ("b", "2")),
            required_affinity=(
                model.NodeSelectorTerm((model.Requirement("z", "In", ("a", "b")),)),
                model.NodeSelectorTerm((), (model.Requirement("metadata.name", "In", ("n1",)),)),
                model.NodeSelectorTerm(),
            ),
            preferred_affinity=(model.PreferredTerm(5, model.NodeSelectorTerm((model.Requirement("y", "Exists"),))),),
            host_ports=(model.HostPort("0.0.0.0", "TCP", 1), model.HostPort("1.2.3.4", "UDP", 2)),
            priority=7,
            images=("sidecar:latest", "init@sha256:0", "web:1"),
            containers=3,
        ),
        scheduler_name="carbon-aware-scheduler",
        node_name=NodeName("n1"),
        nominated_node_name=NodeName("n2"),
        finished=True,
        terminating=True,
        gated=True,
        created_s=1795442400.0,
        scheduled_message="Unschedulable: 0/3 nodes",
        resource_version="42",
        generation=3,
    )
    assert got == want


def test_a_missing_required_affinity_is_not_an_empty_one() -> None:
    assert convert({"affinity": {"nodeAffinity": {}}}).spec.required_affinity is None
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": None}}
    assert convert({"affinity": {"nodeAffinity": required}}).spec.required_affinity == ()


def test_only_our_annotations_are_kept_and_all_are_measured() -> None:
    got = convert(annotations={"other": "é" * 10, "carbon-scheduler.io/max-delay": "8h", "carbon-scheduler.io/x": None})
    assert got.annotations == (("carbon-scheduler.io/max-delay", "8h"), ("carbon-scheduler.io/x", ""))
    assert got.annotations_b == 5 + 20 + 29 + 2 + 21


def test_an_annotation_is_cut_at_4_kib_never_inside_a_letter() -> None:
    got = convert(annotations={"carbon-scheduler.io/long": "é" * 100_000, "carbon-scheduler.io/odd": "x" + "é" * 3000})
    assert [len(text.encode()) for _, text in got.annotations] == [MAX_ANNOTATION_B, MAX_ANNOTATION_B - 1]


def test_equal_shapes_are_one_object_and_the_store_is_bounded() -> None:
    converter = Converter()
    spec = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}
    assert convert(spec, converter=converter).spec is convert(spec, converter=converter, uid="v").spec
    interner = Interner(3)
    for n in range(10):
        interner((n,))
    assert len(interner) == 3


def test_the_charge_is_there_only_when_it_differs_from_the_requests() -> None:
    spec = {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "0"}}}]}
    assert convert(spec).charge is None
    grown = {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}
    got = convert(spec, grown)
    assert got.spec.requests.cpu_m == 1000
    assert got.charge is not None
    assert got.charge.cpu_m == 3000


small = st.fixed_dictionaries(
    {}, optional={"cpu": st.sampled_from(["1", "1000m", "2", "x", None]), "memory": st.sampled_from(["1Mi", "-1", 5])}
)
statuses = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"])},
    optional={"resources": st.fixed_dictionaries({}, optional={"requests": small}), "allocatedResources": small},
)
resizing = st.fixed_dictionaries(
    {"containerStatuses": st.lists(statuses, max_size=2)},
    optional={
        "resources": st.fixed_dictionaries({"requests": small}),
        "conditions": st.just([{"type": "PodResizePending", "reason": "Infeasible"}]),
    },
)
specs = st.fixed_dictionaries(
    {"containers": st.lists(st.builds(lambda r: {"name": "a", "resources": {"requests": r}}, small), max_size=1)},
    optional={
        "initContainers": st.builds(
            lambda r, p: [{"name": "b", "resources": {"requests": r}, "restartPolicy": p}],
            small,
            st.sampled_from(["Always", None]),
        ),
        "resources": st.fixed_dictionaries({"requests": small}),
        "overhead": small,
    },
)


@settings(max_examples=300)
@given(spec=specs, story=st.lists(resizing, min_size=1, max_size=5))
def test_what_was_looked_up_equals_what_is_added_up(spec: JSON, story: list[JSON]) -> None:
    shared = Converter()
    alike = {**spec, "initContainers": [{**c, "restartPolicy": "Always"} for c in spec.get("initContainers", ())]}
    for one in (spec, alike):
        shrinking = [{**c, "allocatedResources": {"cpu": "9"}} for c in one["containers"]]
        for status in ({}, {"containerStatuses": shrinking}, *story):
            assert convert(one, status, converter=shared) == convert(one, status)


REFUSED: dict[str, tuple[JSON, str]] = {
    "a quantity that is none": (
        {"containers": [{"name": "c", "resources": {"requests": {"cpu": "lots"}}}]},
        "cannot read the pod: containers[c].resources.requests.cpu: got 'lots', expected a quantity such as 250m or 1.5Gi",
    ),
    "a negative quantity": (
        {"overhead": {"memory": "-1"}},
        "cannot read the pod: spec.overhead.memory: got '-1', expected no negative quantity",
    ),
    "a wrong type": (
        {"priority": "high"},
        "cannot read the pod: Expected `int | null`, got `str` - at `$.spec.priority`",
    ),
    "more tolerations than anybody has": (
        {"tolerations": [{"operator": "Exists"}] * 1001},
        "cannot read the pod: spec.tolerations: got 1001, expected at most 1000",
    ),
    "an impossible port": (
        {"containers": [{"ports": [{"hostPort": 70000}]}]},
        "cannot read the pod: hostPort: got 70000, expected 1 to 65535",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_pod_that_cannot_be_read_says_why(case: str) -> None:
    spec, want = REFUSED[case]
    assert convert({"schedulerName": "carbon-aware-scheduler", **spec}).refusal == want


def test_10000_labels_are_refused_and_cut() -> None:
    got = convert(labels={f"l{n:05}": "x" for n in range(10_000)})
    assert got.refusal == "cannot read the pod: metadata.labels: got 10000, expected at most 1000"
    assert len(got.spec.labels) == 1000


def test_tolerated_oddities_do_not_refuse() -> None:
    got = convert(
        {"containers": [{"name": "c", "resources": {"requests": {"cpu": "0.1m", "memory": "1e99"}}}], "priority": None}
    )
    assert got.refusal == ""
    assert (got.spec.requests.cpu_m, got.spec.requests.memory_b) == (1, MAX_QUANTITY)


def test_an_unreadable_pod_on_a_node_fills_it() -> None:
    got = convert({"nodeName": "n", "priority": "high"})
    assert got.charge is not None
    assert (got.charge.cpu_m, got.charge.memory_b) == (MAX_QUANTITY, MAX_QUANTITY)
    assert got.node_name == "n"


def test_a_node() -> None:
    body = {
        "metadata": {"name": "n", "uid": "u", "labels": {"carbon-zone": "DE"}},
        "spec": {
            "unschedulable": True,
            "taints": [{"key": "k", "effect": "NoExecute"}, None],
            "providerID": "aws:///eu/i-1",
        },
        "status": {"capacity": {"cpu": "9"}, "allocatable": {"cpu": "3900m", "memory": "1Gi", "pods": "110"}},
    }
    got = Converter().node(wire.NODES.one(msgspec.json.encode(body)))
    assert got == model.Node(
        NodeName("n"),
        {"carbon-zone": "DE"},
        (model.Taint("k", "", "NoExecute"),),
        True,
        {"cpu": 3900, "memory": 2**30, "pods": 110},
        "aws:///eu/i-1",
        "u",
    )


def test_a_node_that_cannot_be_read_takes_no_pods() -> None:
    got = Converter().node(wire.NODES.one(b'{"metadata":{"name":"n"},"spec":{"taints":"none"}}'))
    assert (got.name, got.unschedulable, got.allocatable) == ("n", True, {})


@pytest.mark.parametrize("text", ["", "yesterday", "9999999-01-01", "2026-11-23T14:00:00+99:00"])
def test_an_unreadable_time_is_zero(text: str) -> None:
    assert convert(creationTimestamp=text).created_s == 0.0


REQUIRED = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname"}]}
BEYOND: dict[str, tuple[JSON, str]] = {
    "affinity between pods": ({"affinity": {"podAffinity": REQUIRED, "podAntiAffinity": REQUIRED}}, ""),
    "a spread": ({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, ""),
    "a claim": ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, ""),
    "an ephemeral volume": ({"volumes": [{"name": "v", "ephemeral": {}}]}, ""),
    "other volumes": ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "t", "projected": {}}, None]}, ""),
    "resource claims": ({"resourceClaims": [{"name": "gpu"}]}, "resourceClaims"),
}


@pytest.mark.parametrize(("spec", "want"), BEYOND.values(), ids=BEYOND)
def test_hard_constraints_that_no_plugin_knows_refuse_the_pod_instead_of_being_ignored(spec: JSON, want: str) -> None:
    refusal = convert(spec).refusal
    assert (want in refusal) if want else refusal == ""
    if want:
        assert "default-scheduler" in refusal
