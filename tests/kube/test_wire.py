"""Decoding: one broken object never touches the others, whatever is in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_scheduler.kube import wire
from carbon_scheduler.kube.convert import Converter

JSON = dict[str, Any]


def encode(tree: object) -> bytes:
    return msgspec.json.encode(tree)


def pod(name: str, **spec: object) -> JSON:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "7"},
        "spec": {"schedulerName": "carbon-aware-scheduler", **spec},
    }


BROKEN: dict[str, Any] = {
    "a number where a text belongs": {"tolerations": [{"key": 5}]},
    "a list where an object belongs": {"affinity": []},
    "a text where a list belongs": {"containers": "none"},
    "a quantity that is an object": {"containers": [{"resources": {"requests": {"cpu": {"a": 1}}}}]},
    "a boolean as quantity": {"containers": [{"resources": {"requests": {"cpu": True}}}]},
    "a port that is a text": {"containers": [{"ports": [{"hostPort": "80"}]}]},
    "a priority beyond 64 bits": {"priority": 2**70 + 0.5},
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_pod_in_a_list_leaves_the_others_alone(case: str) -> None:
    body = encode(
        {"metadata": {"resourceVersion": "9"}, "items": [pod("a"), pod("bad", nodeName="n1", **BROKEN[case]), pod("b")]}
    )
    page = wire.PODS.page(body)
    assert [(item.metadata and item.metadata.name, item.problem is None) for item in page.items] == [
        ("a", True),
        ("bad", False),
        ("b", True),
    ]
    assert (page.resource_version, page.continue_, page.unreadable) == ("9", "", 0)
    bad = page.items[1]
    assert bad.spec is not None
    assert (bad.spec.scheduler_name, bad.spec.node_name) == ("carbon-aware-scheduler", "n1")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_pod_in_a_watch_keeps_its_identity(case: str) -> None:
    event = wire.PODS.event(encode({"type": "ADDED", "object": pod("bad", **BROKEN[case])}))
    assert event.type == "ADDED"
    assert event.object is not None
    assert event.object.metadata == wire.Meta(name="bad", namespace="ns", uid="uid-bad", resource_version="7")
    assert event.object.problem


def test_an_object_without_a_readable_name_is_counted_and_left_out() -> None:
    page = wire.PODS.page(encode({"metadata": {}, "items": [{"metadata": {"name": 5}}, pod("a"), 7, None]}))
    assert len(page.items) == 1
    assert page.unreadable == 3
    assert wire.PODS.event(encode({"type": "ADDED", "object": 5})).object is None


ERRORS = {
    "type first, as Go writes it": b'{"type":"ERROR","object":{"status":"Failure","message":"too old","code":410}}',
    "object first": b'{"object":{"kind":"Status","status":"Failure","message":"too old","code":410},"type":"ERROR"}',
    "object first, and it fits a pod": b'{"object":{"message":"too old","code":410},"type":"ERROR"}',
    "with spaces": b'{ "type" : "ERROR", "object": {"status":"Failure","message":"too old","code":410}}',
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_events_are_recognised(case: str) -> None:
    event = wire.PODS.event(ERRORS[case])
    assert event.type == "ERROR"
    assert event.status == wire.Status(message="too old", code=410)


def test_bookmarks_are_recognised_with_nulls_in_them() -> None:
    metadata = b'{"resourceVersion":"12","creationTimestamp":null}'
    line = b'{"type":"BOOKMARK","object":{"metadata":' + metadata + b',"spec":{"containers":null},"status":{}}}'
    event = wire.PODS.event(line)
    assert event.type == "BOOKMARK"
    assert event.object is not None
    assert event.object.metadata is not None
    assert event.object.metadata.resource_version == "12"


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"x", b"[]", b"{}", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{}', b"\xff\xfe", b'{"a":' * 5000],
)
def test_a_line_that_is_no_event_is_a_broken_stream(line: bytes) -> None:
    with pytest.raises(wire.BrokenStream):
        wire.PODS.event(line)


def test_deep_nesting_in_an_unknown_field_concerns_that_object_alone() -> None:
    deep = b'{"metadata":{"name":"deep"},"spec":{"volumes":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}}"
    page = wire.PODS.page(b'{"metadata":{},"items":[' + deep + b"," + encode(pod("a")) + b"]}")
    assert [item.metadata and item.metadata.name for item in page.items] == ["deep", "a"]
    event = wire.PODS.event(b'{"type":"MODIFIED","object":' + deep + b"}")
    assert event.object is not None
    assert event.object.metadata is not None
    assert event.object.metadata.name == "deep"


def test_a_list_that_was_cut_is_never_taken_for_a_shorter_one() -> None:
    body = encode({"metadata": {"resourceVersion": "9"}, "items": [pod("bad", priority="x"), pod("a"), pod("b")]})
    assert len(wire.PODS.page(body).items) == 3
    for end in range(len(body)):
        with pytest.raises((ValueError, RecursionError)):
            wire.PODS.page(body[:end])


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}{}", b'{"items":5}', b'{"metadata":{"resourceVersion":1}}']
)
def test_an_unreadable_envelope_is_an_error(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        wire.PODS.page(body)


def test_a_status_that_is_none_reads_as_an_empty_one() -> None:
    assert wire.read_status(b"<html>bad gateway</html>") == wire.Status()


# Arbitrary trees, with the API's own words so that the interesting places are reached.
WORDS = [
    "metadata", "name", "uid", "namespace", "labels", "annotations", "spec", "status", "containers", "initContainers",
    "resources", "requests", "cpu", "memory", "overhead", "tolerations", "affinity", "nodeAffinity", "nodeSelector", "schedulingGates",
    "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms",
    "matchExpressions", "values", "weight", "preference", "ports", "hostPort", "priority", "conditions", "nodeName",
    "creationTimestamp", "deletionTimestamp", "generation", "taints", "allocatable", "restartPolicy",
]  # fmt: skip
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            "",
            "1",
            "100m",
            "-1",
            "1e99",
            "0.1m",
            "Always",
            "2026-11-23T14:00:00Z",
            "0001-01-01T00:00:00Z",
            "é\u0000\u2028",
        ]
    ),
    st.text(max_size=5),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)),
    max_leaves=25,
)


@settings(max_examples=400)
@given(tree=trees, kind=st.sampled_from(["pod", "node", "namespace"]))
def test_no_object_whatsoever_raises(tree: object, kind: str) -> None:
    converter = Converter()
    body = encode({"metadata": {"resourceVersion": "1"}, "items": [tree, pod("good")]})
    line = encode({"type": "MODIFIED", "object": tree})
    if kind == "pod":
        page = wire.PODS.page(body)
        pods = [converter.pod(item) for item in page.items]
        assert pods[-1].name == "good"
        assert pods[-1].refusal == ""
        event = wire.PODS.event(line)
        assert event.object is None or hash(converter.pod(event.object)) is not None
    elif kind == "node":
        assert [converter.node(item) for item in wire.NODES.page(body).items][-1].name == "good"
        wire.NODES.event(line)
    else:
        assert [converter.namespace(item) for item in wire.NAMESPACES.page(body).items][-1].name == "good"
        wire.NAMESPACES.event(line)
