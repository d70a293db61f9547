"""Random stories of two pods, told to the embedded and the real API server: every answer and every watch must agree."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api_contract import JSON_PATCH, MERGE, STRATEGIC, Api, pod
from carbon_scheduler.sim.apiserver import EmbeddedApiServer

if TYPE_CHECKING:
    from api_contract import JSON
    from carbon_scheduler.sim.control_plane import ControlPlane

Call = tuple[str, str, Any, str]
"""Method, path below the pods, body, content type."""

NAMES = st.sampled_from(["a", "b"])
JSON_BODY = "application/json"


def _calls() -> st.SearchStrategy[Call]:
    specs: list[JSON] = [
        {},
        {"schedulingGates": [{"name": "g"}, {"name": "h"}]},
        {"nodeName": "n0"},
        {"terminationGracePeriodSeconds": 0},
        {"nodeSelector": {"k": "v"}, "tolerations": [{"key": "t", "operator": "Exists"}]},
        {
            "containers": [
                {"name": "c", "image": "x:1", "resources": {"limits": {"cpu": "0.5", "example.com/gpu": "2"}}}
            ]
        },
        {"hostNetwork": True, "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]},
        {"restartPolicy": "Never", "priorityClassName": "system-node-critical"},
        {"initContainers": [{"name": "c", "image": "x"}]},
        {"containers": []},
    ]
    metas: list[JSON] = [
        {},
        {"labels": {"l": "1"}, "annotations": {"x": "y"}},
        {"finalizers": ["example.com/f"]},
        {"labels": {"bad key": "1"}},
        {"uid": "given", "creationTimestamp": "2020-01-01T00:00:00Z", "generation": 7, "deletionTimestamp": None},
    ]
    creations = st.builds(
        lambda name, meta, spec: ("POST", "", pod(name, meta=meta, **spec), JSON_BODY),
        NAMES,
        st.sampled_from(metas),
        st.sampled_from(specs),
    )
    bindings = st.builds(
        lambda name, node, more: (
            "POST",
            f"/{name}/binding",
            {"metadata": {"name": name, **more}, "target": {"kind": "Node", "name": node}},
            JSON_BODY,
        ),
        NAMES,
        st.sampled_from(["n1", "n2"]),
        st.sampled_from([{}, {"uid": "wrong"}, {"annotations": {"b": "1"}, "labels": {"l": "2"}}]),
    )
    patches: list[tuple[Any, str]] = [
        ({"metadata": {"labels": {"l": "3"}}}, MERGE),
        ({"metadata": {"labels": None, "annotations": {"x": None, "z": "1"}}}, STRATEGIC),
        ({"metadata": {"finalizers": None}}, MERGE),
        ({"metadata": {"finalizers": ["example.com/g"]}}, STRATEGIC),
        ({"metadata": {"name": "c"}}, MERGE),
        ({"spec": {"schedulingGates": []}}, MERGE),
        ({"spec": {"schedulingGates": [{"name": "g", "$patch": "delete"}]}}, STRATEGIC),
        ({"spec": {"schedulingGates": [{"name": "new"}]}}, STRATEGIC),
        ({"spec": {"nodeName": "n3"}}, MERGE),
        ({"spec": {"nodeSelector": {"k": "v", "more": "1"}}}, MERGE),
        ({"spec": {"containers": [{"name": "c", "image": "y:2"}]}}, STRATEGIC),
        ({"spec": {"activeDeadlineSeconds": 9}}, STRATEGIC),
        ({"spec": {"tolerations": [{"key": "u", "operator": "Exists"}]}}, STRATEGIC),
        ({"status": {"phase": "Running"}}, MERGE),
        ([{"op": "add", "path": "/metadata/labels", "value": {"j": "1"}}], JSON_PATCH),
        ([{"op": "remove", "path": "/metadata/labels/l"}], JSON_PATCH),
        ([{"op": "replace", "path": "/spec/containers/0/image", "value": "z"}], JSON_PATCH),
    ]
    changes = st.builds(lambda name, patch: ("PATCH", f"/{name}", *patch), NAMES, st.sampled_from(patches))
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "CarbonDeferred", "message": "m"}]
    statuses: list[tuple[Any, str]] = [
        ({"status": {"conditions": conditions}}, STRATEGIC),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, STRATEGIC),
        ({"status": {"conditions": [{"type": "PodScheduled", "$patch": "delete"}]}}, STRATEGIC),
        ({"status": {"conditions": conditions}, "metadata": {"annotations": {"s": "1"}}}, MERGE),
        ({"status": {"phase": "Succeeded"}}, MERGE),
        ({"status": {"phase": "Running", "podIP": "10.0.0.1"}, "spec": {"nodeName": "no"}}, STRATEGIC),
        ({"status": {"nominatedNodeName": "n1"}}, STRATEGIC),
        ({"status": {"nominatedNodeName": None}}, STRATEGIC),
        ({"status": {}}, STRATEGIC),
    ]
    reports = st.builds(lambda name, patch: ("PATCH", f"/{name}/status", *patch), NAMES, st.sampled_from(statuses))
    deletions = st.builds(
        lambda name, query, body: ("DELETE", f"/{name}{query}", body, JSON_BODY),
        NAMES,
        st.sampled_from(["", "", "?gracePeriodSeconds=0", "?gracePeriodSeconds=5"]),
        st.sampled_from([None, None, {"preconditions": {"uid": "wrong"}}, {"gracePeriodSeconds": 3}]),
    )
    evictions = st.builds(lambda name: ("POST", f"/{name}/eviction", {"metadata": {"name": name}}, JSON_BODY), NAMES)
    reads = st.builds(
        lambda query: ("GET", query, None, ""),
        st.sampled_from(["/a", "?fieldSelector=spec.nodeName=", "?labelSelector=l", "?limit=1", "?labelSelector=l!=1"]),
    )
    return st.one_of(
        creations, creations, bindings, bindings, changes, changes, reports, reports, deletions, evictions, reads
    )


_HIDDEN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|contract-[0-9a-f]{8}|20\d\d-\d\d-\d\dT[0-9:]{8}Z"
)
_GO_DIFF = re.compile(r"\n@@.*", re.DOTALL)


def _comparable(value: Any) -> Any:
    """Without what must differ: uids, versions, times, the namespace's name, Go's diff of its structs."""
    if isinstance(value, dict):
        return {
            key: _comparable(inner)
            for key, inner in value.items()
            if key not in ("resourceVersion", "continue", "causes")
        }
    if isinstance(value, list):
        return [_comparable(inner) for inner in value]
    if isinstance(value, str):
        return _HIDDEN.sub("*", _GO_DIFF.sub("", value))
    return value


async def _told(api: Api, story: list[Call]) -> dict[str, Any]:
    """All answers to a story, and what watches with different selections saw of it."""
    start = (await api.ok("GET", api.pods))["metadata"]["resourceVersion"]
    answers: list[Any] = []
    for method, path, body, content_type in story:
        got = await api.call(method, api.pods + path, body, content_type=content_type or JSON_BODY)
        answers.append((method, path, body, got.status, _comparable(got.body)))
    await api.pod("last")
    selections = ("", "&fieldSelector=spec.nodeName=", "&fieldSelector=status.phase!=Succeeded", "&labelSelector=l")

    async def watched(selection: str) -> list[Any]:
        events = await api.watch(f"{api.pods}?resourceVersion={start}{selection}")
        return [(event["type"], _comparable(event["object"])) for event in events]

    seen = await asyncio.gather(*(watched(selection) for selection in selections))
    return {"answers": answers} | dict(zip(selections, seen, strict=True))


@pytest.mark.control_plane
@pytest.mark.slow
@settings(  # no shrinking: each try takes seconds, since the watches run until their time is over
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(story=st.lists(_calls(), min_size=8, max_size=25))
async def test_both_servers_tell_the_same_story(control_plane: ControlPlane, story: list[Call]) -> None:
    namespace = f"contract-{uuid.uuid4().hex[:8]}"
    async with (
        EmbeddedApiServer() as server,
        Api(server.url, namespace) as embedded,
        Api(
            control_plane.server_url, namespace, token=control_plane.admin_token, ca_file=control_plane.ca_file
        ) as real,
    ):
        got, want = await asyncio.gather(_told(embedded, story), _told(real, story))
    for mine, theirs in zip(got["answers"], want["answers"], strict=True):
        assert mine == theirs
    assert got == want
