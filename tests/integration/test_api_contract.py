"""The contract of the API server, put to the embedded and the real one: objects, errors, selectors, lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api_contract import JSON_PATCH, MERGE, STRATEGIC, TABLE, Answer, pod

if TYPE_CHECKING:
    from api_contract import JSON, Api

APPLY = "application/apply-patch+yaml"
JSON_BODY = "application/json"

# Each request as (method, path below the API or the namespace, body, content type) -> (code, reason, part of the message).
# {ns} is the test's namespace; a pod `p` and a configmap `c` exist in it.
REFUSED: dict[str, tuple[str, str, Any, str, int, str, str]] = {
    "an object that is not there": ("GET", "pods/nope", None, "", 404, "NotFound", 'pods "nope" not found'),
    "a lease that is not there names its group": (
        "GET",
        "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/l",
        None,
        "",
        404,
        "NotFound",
        'leases.coordination.k8s.io "l" not found',
    ),
    "a resource that does not exist": (
        "GET",
        "/api/v1/foos",
        None,
        "",
        404,
        "NotFound",
        "could not find the requested",
    ),
    "a version that does not exist": (
        "GET",
        "/apis/apps/v9/foos",
        None,
        "",
        404,
        "NotFound",
        "could not find the requested",
    ),
    "a subresource that does not exist": (
        "GET",
        "pods/p/foo",
        None,
        "",
        404,
        "NotFound",
        "could not find the requested",
    ),
    "creating in a namespace that is not there": (
        "POST",
        "/api/v1/namespaces/nope/pods",
        pod("x"),
        JSON_BODY,
        404,
        "NotFound",
        'namespaces "nope" not found',
    ),
    "creating what exists": ("POST", "pods", pod("p"), JSON_BODY, 409, "AlreadyExists", 'pods "p" already exists'),
    "creating without a namespace": (
        "POST",
        "/api/v1/pods",
        pod("x"),
        JSON_BODY,
        405,
        "MethodNotAllowed",
        "does not allow",
    ),
    "patching a collection": ("PATCH", "pods", {}, MERGE, 405, "MethodNotAllowed", "does not allow"),
    "posting to an object": ("POST", "pods/p", {}, JSON_BODY, 405, "MethodNotAllowed", "does not allow"),
    "reading a binding": ("GET", "pods/p/binding", None, "", 405, "MethodNotAllowed", "does not allow"),
    "deleting all namespaces": ("DELETE", "/api/v1/namespaces", None, "", 405, "MethodNotAllowed", "does not allow"),
    "a body in an unknown format": ("POST", "pods", "{}", "text/plain", 415, "UnsupportedMediaType", "unknown format"),
    "a patch in an unknown format": ("PATCH", "pods/p", "{}", "text/plain", 415, "UnsupportedMediaType", "415"),
    "a body of over 3 MiB": (
        "POST",
        "configmaps",
        {"metadata": {"name": "big"}, "data": {"a": "x" * (3 * 1024 * 1024)}},
        JSON_BODY,
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 3145728",
    ),
    "a body that is not JSON": (
        "POST",
        "pods",
        "{",
        JSON_BODY,
        400,
        "BadRequest",
        "couldn't get version/kind; json parse",
    ),
    "another namespace in the body": (
        "POST",
        "pods",
        {"metadata": {"name": "x", "namespace": "other"}},
        JSON_BODY,
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    ),
    "another kind in the body": (
        "POST",
        "pods",
        {"kind": "Foo", "apiVersion": "v1"},
        JSON_BODY,
        400,
        "BadRequest",
        "Pod",
    ),
    "a resourceVersion on creation": (
        "POST",
        "pods",
        pod("x", meta={"resourceVersion": "5"}),
        JSON_BODY,
        500,
        "",
        "resourceVersion should not be set on objects to be created",
    ),
    "no name": ("POST", "configmaps", {"metadata": {}}, JSON_BODY, 422, "Invalid", "name or generateName is required"),
    "a bad name": (
        "POST",
        "configmaps",
        {"metadata": {"name": "A_b"}},
        JSON_BODY,
        422,
        "Invalid",
        "RFC 1123 subdomain",
    ),
    "a bad label key": (
        "POST",
        "pods",
        pod("x", meta={"labels": {"a b": "c"}}),
        JSON_BODY,
        422,
        "Invalid",
        "name part must",
    ),
    "a bad label value": (
        "POST",
        "pods",
        pod("x", meta={"labels": {"a": "b c"}}),
        JSON_BODY,
        422,
        "Invalid",
        "a valid label",
    ),
    "a label that is a number": (
        "POST",
        "pods",
        pod("x", meta={"labels": {"a": 1}}),
        JSON_BODY,
        400,
        "BadRequest",
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    ),
    "too many annotations": (
        "POST",
        "configmaps",
        {"metadata": {"name": "x", "annotations": {"a": "y" * 262_144}}},
        JSON_BODY,
        422,
        "Invalid",
        "metadata.annotations: Too long: may not be more than 262144 bytes",
    ),
    "no containers": (
        "POST",
        "pods",
        {"metadata": {"name": "x"}},
        JSON_BODY,
        422,
        "Invalid",
        "spec.containers: Required value",
    ),
    "a negative request": (
        "POST",
        "pods",
        pod("x", containers=[{"name": "c", "image": "x", "resources": {"requests": {"cpu": "-1"}}}]),
        JSON_BODY,
        422,
        "Invalid",
        'spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0',
    ),
    "a request above its limit": (
        "POST",
        "pods",
        pod(
            "x",
            containers=[{"name": "c", "image": "x", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}],
        ),
        JSON_BODY,
        422,
        "Invalid",
        'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    "a quantity that is none": (
        "POST",
        "pods",
        pod("x", containers=[{"name": "c", "image": "x", "resources": {"requests": {"cpu": "abc"}}}]),
        JSON_BODY,
        400,
        "BadRequest",
        "quantities must match the regular expression",
    ),
    "a node with a negative capacity": (
        "POST",
        "/api/v1/nodes",
        {"metadata": {"name": "negative"}, "status": {"capacity": {"cpu": "-4"}}},
        JSON_BODY,
        422,
        "Invalid",
        'status.capacity.cpu: Invalid value: "-4": must be greater than or equal to 0',
    ),
    "an unknown priority class": (
        "POST",
        "pods",
        pod("x", priorityClassName="nope"),
        JSON_BODY,
        403,
        "Forbidden",
        'pods "x" is forbidden: no PriorityClass with name nope was found',
    ),
    "a priority without a class": (
        "POST",
        "pods",
        pod("x", priority=5),
        JSON_BODY,
        403,
        "Forbidden",
        "the integer value of priority (5) must not be provided in pod spec",
    ),
    "a patch of an old version": (
        "PATCH",
        "configmaps/c",
        {"metadata": {"resourceVersion": "1"}},
        MERGE,
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    ),
    "a patch of another uid": (
        "PATCH",
        "configmaps/c",
        {"metadata": {"uid": "other"}},
        MERGE,
        422,
        "Invalid",
        'ConfigMap "c" is invalid: metadata.uid: Invalid value: "other": field is immutable',
    ),
    "a patch of the name": (
        "PATCH",
        "configmaps/c",
        {"metadata": {"name": "d"}},
        MERGE,
        400,
        "BadRequest",
        "the name of the object (d) does not match the name on the URL (c)",
    ),
    "a JSON patch whose test fails": (
        "PATCH",
        "configmaps/c",
        [{"op": "test", "path": "/metadata/name", "value": "d"}],
        JSON_PATCH,
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    ),
    "a patch that is cut off": (
        "PATCH",
        "configmaps/c",
        "{",
        STRATEGIC,
        400,
        "BadRequest",
        "unexpected end of JSON input",
    ),
    "applying without a field manager": (
        "PATCH",
        "configmaps/c",
        {"apiVersion": "v1", "kind": "ConfigMap"},
        APPLY,
        422,
        "Invalid",
        "fieldManager: Required value: is required for apply patch",
    ),
    "a PUT under another name": (
        "PUT",
        "configmaps/c",
        {"metadata": {"name": "d"}},
        JSON_BODY,
        400,
        "BadRequest",
        "the name of the object (d) does not match the name on the URL (c)",
    ),
    "a PUT of an old version": (
        "PUT",
        "configmaps/c",
        {"metadata": {"name": "c", "resourceVersion": "1"}},
        JSON_BODY,
        409,
        "Conflict",
        "the object has been modified",
    ),
    "a PUT of another uid": (
        "PUT",
        "configmaps/c",
        {"metadata": {"name": "c", "uid": "other"}},
        JSON_BODY,
        409,
        "Conflict",
        "Precondition failed: UID in precondition: other, UID in object meta: ",
    ),
    "a PUT of what is not there": (
        "PUT",
        "configmaps/d",
        {"metadata": {"name": "d"}},
        JSON_BODY,
        404,
        "NotFound",
        'configmaps "d" not found',
    ),
    "deleting another uid": (
        "DELETE",
        "pods/p",
        {"preconditions": {"uid": "other"}},
        JSON_BODY,
        409,
        "Conflict",
        "the UID in the precondition (other) does not match the UID in record",
    ),
    "an unknown field": (
        "GET",
        "pods?fieldSelector=spec.foo=1",
        None,
        "",
        400,
        "BadRequest",
        "field label not supported",
    ),
    "an unknown field of a lease": (
        "GET",
        "/apis/coordination.k8s.io/v1/leases?fieldSelector=spec.foo=1",
        None,
        "",
        400,
        "BadRequest",
        '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
    ),
    "a broken field selector": ("GET", "pods?fieldSelector=a", None, "", 400, "BadRequest", "invalid selector: 'a'"),
    "a broken label selector": (
        "GET",
        "pods?labelSelector=a%20b",
        None,
        "",
        400,
        "BadRequest",
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    ),
    "a limit that is no number": ("GET", "pods?limit=x", None, "", 400, "BadRequest", 'strconv.ParseInt: parsing "x"'),
    "a broken continue token": ("GET", "pods?continue=abc", None, "", 400, "BadRequest", "continue key is not valid"),
    "a resourceVersion that is no number": (
        "GET",
        "pods?resourceVersion=abc",
        None,
        "",
        400,
        "BadRequest",
        'invalid resource version: resourceVersion: Invalid value: "abc"',
    ),
    "a match without a version": (
        "GET",
        "pods?resourceVersionMatch=Exact",
        None,
        "",
        422,
        "Invalid",
        "resourceVersionMatch is forbidden unless resourceVersion is provided",
    ),
    "an exact match of version 0": (
        "GET",
        "pods?resourceVersionMatch=Exact&resourceVersion=0",
        None,
        "",
        422,
        "Invalid",
        'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
    ),
    "a version that is still to come": (
        "GET",
        "pods?resourceVersion=99999999",
        None,
        "",
        504,
        "Timeout",
        "Too large resource version: 99999999, current: ",
    ),
    "initial events without a match": (
        "GET",
        "pods?watch=1&sendInitialEvents=true",
        None,
        "",
        422,
        "Invalid",
        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    ),
    "a watch of an unknown field": (
        "GET",
        "pods?watch=1&fieldSelector=spec.foo=1",
        None,
        "",
        400,
        "BadRequest",
        "not supported",
    ),
    "a dry run of some": ("POST", "pods?dryRun=Some", pod("x"), JSON_BODY, 422, "Invalid", 'supported values: "All"'),
    "a lease of no time": (
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases",
        {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}},
        JSON_BODY,
        422,
        "Invalid",
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ),
    "a lease's time without six digits of fraction": (
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases",
        {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00.5Z"}},
        JSON_BODY,
        400,
        "BadRequest",
        'parsing time "2026-01-01T00:00:00.5Z" as "2006-01-02T15:04:05.000000Z07:00"',
    ),
}


async def _refusal(api: Api, case: tuple[str, str, Any, str, int, str, str]) -> Answer:
    method, path, body, content_type, *_ = case
    where = path.format(ns=api.namespace) if path.startswith("/") else f"/api/v1/namespaces/{api.namespace}/{path}"
    return await api.call(method, where, body, content_type=content_type or JSON_BODY)


async def test_refuses_in_the_same_words(api: Api) -> None:
    await api.pod("p")
    await api.ok("POST", api.configmaps, {"metadata": {"name": "c"}})
    wrong: list[str] = []
    for sentence, case in REFUSED.items():
        got = await _refusal(api, case)
        code, reason, message = case[4:]
        body = got.body if isinstance(got.body, dict) else {"message": got.body}
        shape = (body.get("kind"), body.get("apiVersion"), body.get("status"), body.get("code"), body.get("reason", ""))
        if got.status != code or shape != ("Status", "v1", "Failure", code, reason) or message not in body["message"]:
            wrong.append(f"{sentence}: got {got.status} {body}")
    assert not wrong, "\n".join(wrong)


async def test_a_failure_names_the_fields_at_fault(api: Api) -> None:
    got = await api.call("POST", api.pods, {"kind": "Pod", "apiVersion": "v1", "metadata": {}})
    assert got.message == (
        'Pod "" is invalid: [metadata.name: Required value: name or generateName is required, spec.containers: Required value]'
    )
    assert got.body["details"]["causes"] == [
        {
            "reason": "FieldValueRequired",
            "message": "Required value: name or generateName is required",
            "field": "metadata.name",
        },
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"},
    ]


async def test_the_wait_for_a_version_still_to_come_says_when_to_retry(api: Api) -> None:
    got = await api.call("GET", f"{api.pods}?resourceVersion=99999999")
    assert got.headers["Retry-After"] == "1"
    assert got.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_creation_fills_in_metadata(api: Api) -> None:
    made = await api.ok("POST", api.configmaps, {"metadata": {"generateName": "made-"}, "data": {"a": "b"}})
    metadata = made["metadata"]
    assert made["kind"] == "ConfigMap"
    assert made["apiVersion"] == "v1"
    assert metadata["namespace"] == api.namespace
    assert metadata["name"].startswith("made-")
    assert len(metadata["name"]) == len("made-") + 5
    assert int(metadata["resourceVersion"]) > 0
    assert {"uid", "creationTimestamp", "generateName"} <= metadata.keys()
    assert "generation" not in metadata
    assert made["data"] == {"a": "b"}


async def test_a_dry_run_changes_nothing(api: Api) -> None:
    made = await api.ok("POST", f"{api.configmaps}?dryRun=All", {"metadata": {"name": "dry"}})
    assert made["metadata"]["name"] == "dry"
    assert (await api.call("GET", f"{api.configmaps}/dry")).status == 404


async def test_yaml_is_read_too(api: Api) -> None:
    made = await api.ok(
        "POST", api.configmaps, "metadata:\n  name: yaml\ndata:\n  a: b\n", content_type="application/yaml"
    )
    assert made["data"] == {"a": "b"}


async def test_a_write_that_changes_nothing_keeps_the_version(api: Api) -> None:
    made = await api.ok("POST", api.configmaps, {"metadata": {"name": "same"}, "data": {"a": "b"}})
    put = await api.ok("PUT", f"{api.configmaps}/same", {"metadata": {"name": "same"}, "data": {"a": "b"}})
    patched = await api.ok("PATCH", f"{api.configmaps}/same", {"data": {"a": "b"}}, content_type=MERGE)
    assert put["metadata"] == made["metadata"] == patched["metadata"]


PATCHES: dict[str, tuple[Any, str, JSON]] = {
    "a merge adds, replaces and removes": ({"data": {"a": "1", "b": None, "n": "2"}}, MERGE, {"a": "1", "n": "2"}),
    "a strategic merge of a map is the same": ({"data": {"b": None, "n": "2"}}, STRATEGIC, {"a": "x", "n": "2"}),
    "a strategic replacement": ({"data": {"$patch": "replace", "n": "2"}}, STRATEGIC, {"n": "2"}),
    "JSON patch operations in order": (
        [
            {"op": "test", "path": "/data/a", "value": "x"},
            {"op": "replace", "path": "/data/a", "value": "1"},
            {"op": "move", "from": "/data/b", "path": "/data/c~1d"},
            {"op": "copy", "from": "/data/a", "path": "/data/e"},
            {"op": "remove", "path": "/data/a"},
        ],
        JSON_PATCH,
        {"c/d": "y", "e": "1"},
    ),
}


@pytest.mark.parametrize("sentence", [name for name in PATCHES if "in order" not in name])
async def test_patches(api: Api, sentence: str) -> None:
    patch, content_type, want = PATCHES[sentence]
    await api.ok("POST", api.configmaps, {"metadata": {"name": "patched"}, "data": {"a": "x", "b": "y"}})
    got = await api.ok("PATCH", f"{api.configmaps}/patched", patch, content_type=content_type)
    assert got["data"] == want


async def test_json_patch_on_labels(api: Api) -> None:
    await api.ok("POST", api.configmaps, {"metadata": {"name": "patched", "labels": {"a": "x", "b": "y"}}})
    operations = [
        {"op": "test", "path": "/metadata/labels/a", "value": "x"},
        {"op": "replace", "path": "/metadata/labels/a", "value": "1"},
        {"op": "move", "from": "/metadata/labels/b", "path": "/metadata/labels/c.d~1e"},
        {"op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/f"},
        {"op": "remove", "path": "/metadata/labels/a"},
    ]
    got = await api.ok("PATCH", f"{api.configmaps}/patched", operations, content_type=JSON_PATCH)
    assert got["metadata"]["labels"] == {"c.d/e": "y", "f": "1"}


async def test_apply_creates_and_changes(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}}
    path = f"{api.configmaps}/applied?fieldManager=me"
    first = await api.call("PATCH", path, body, content_type=APPLY)
    second = await api.call("PATCH", path, body | {"data": {"a": "c"}}, content_type=APPLY)
    assert (first.status, second.status) == (201, 200)
    assert second.body["data"] == {"a": "c"}


async def test_a_lease_is_updated_with_its_version_only(api: Api) -> None:
    body: JSON = {
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.500000Z"},
    }
    created = await api.call("PUT", f"{api.leases}/l", body)
    assert created.status == 201
    blind = await api.call("PUT", f"{api.leases}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "b"}})
    assert blind.status == 422
    assert blind.message.endswith("metadata.resourceVersion: Invalid value: 0: must be specified for an update")
    taken = {**created.body, "spec": {**body["spec"], "holderIdentity": "b"}}
    assert (await api.call("PUT", f"{api.leases}/l", taken)).status == 200
    late = await api.call("PUT", f"{api.leases}/l", taken)
    assert (late.status, late.body["reason"]) == (409, "Conflict")
    got = await api.ok("GET", f"{api.leases}/l")
    assert got["spec"] == taken["spec"]


async def test_only_one_of_two_who_take_a_lease_gets_it(api: Api) -> None:
    lease = await api.ok("POST", api.leases, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "old"}})
    bodies = [{**lease, "spec": {"holderIdentity": f"taker-{n}"}} for n in range(8)]
    answers = await asyncio.gather(*(api.call("PUT", f"{api.leases}/l", body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [200, *[409] * 7]


async def test_an_object_with_a_finalizer_stays_until_it_is_taken_off(api: Api) -> None:
    await api.ok("POST", api.configmaps, {"metadata": {"name": "f", "finalizers": ["a.b/c"]}})
    first = await api.ok("DELETE", f"{api.configmaps}/f")
    again = await api.ok("DELETE", f"{api.configmaps}/f")
    assert first["metadata"]["deletionTimestamp"]
    assert again["metadata"] == first["metadata"]
    await api.ok("PATCH", f"{api.configmaps}/f", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert (await api.call("GET", f"{api.configmaps}/f")).status == 404


async def test_deletions_answer_with_a_status(api: Api) -> None:
    made = await api.ok("POST", api.configmaps, {"metadata": {"name": "gone"}})
    got = await api.ok("DELETE", f"{api.configmaps}/gone")
    assert got == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "gone", "kind": "configmaps", "uid": made["metadata"]["uid"]},
    }
    assert (await api.call("DELETE", f"{api.configmaps}/gone")).status == 404


async def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    for name, labels in {"a": {"k": "1"}, "b": {"k": "2"}}.items():
        await api.ok("POST", api.configmaps, {"metadata": {"name": name, "labels": labels}})
    got = await api.ok("DELETE", f"{api.configmaps}?labelSelector=k=1")
    assert got["kind"] == "ConfigMapList"
    left = await api.ok("GET", f"{api.configmaps}?labelSelector=k")
    assert [each["metadata"]["name"] for each in left["items"]] == ["b"]


async def test_a_terminating_namespace_takes_nothing_new(api: Api) -> None:
    name = f"{api.namespace}-t"
    await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    gone = await api.ok("DELETE", f"/api/v1/namespaces/{name}")
    assert gone["status"] == {"phase": "Terminating"}
    got = await api.call("POST", f"/api/v1/namespaces/{name}/configmaps", {"metadata": {"name": "x"}})
    assert (got.status, got.body["reason"]) == (403, "Forbidden")
    assert got.message == (
        f'configmaps "x" is forbidden: unable to create new content in namespace {name} because it is being terminated'
    )
    await api.call("PUT", f"/api/v1/namespaces/{name}/finalize", {**gone, "spec": {"finalizers": []}})
    assert (await api.call("GET", f"/api/v1/namespaces/{name}")).status == 404


SELECTIONS: dict[str, tuple[str, list[str]]] = {
    "all, in the order of names": ("", ["a", "b", "c", "d"]),
    "equality": ("labelSelector=k=1", ["a"]),
    "equality with two signs": ("labelSelector=k==2", ["b"]),
    "inequality takes those without the key": ("labelSelector=k!=1", ["b", "c", "d"]),
    "presence": ("labelSelector=k", ["a", "b"]),
    "absence": ("labelSelector=!k", ["c", "d"]),
    "in": ("labelSelector=k%20in%20(1,2)", ["a", "b"]),
    "notin takes those without the key": ("labelSelector=k%20notin%20(1)", ["b", "c", "d"]),
    "two requirements": ("labelSelector=k,k!=1", ["b"]),
    "an empty value": ("labelSelector=e=", ["d"]),
    "greater": ("labelSelector=k%3E1", ["b"]),
    "a name": ("fieldSelector=metadata.name=c", ["c"]),
    "all but a name": ("fieldSelector=metadata.name!=c", ["a", "b", "d"]),
    "a label and a field": ("labelSelector=k&fieldSelector=metadata.name!=a", ["b"]),
}


async def test_selectors(api: Api) -> None:
    for name, labels in {"a": {"k": "1"}, "b": {"k": "2"}, "c": {}, "d": {"e": ""}}.items():
        await api.ok("POST", api.configmaps, {"metadata": {"name": name, "labels": labels}})
    got = {}
    for sentence, (query, _) in SELECTIONS.items():
        answer = await api.ok("GET", f"{api.configmaps}?{query}")
        got[sentence] = [
            each["metadata"]["name"] for each in answer["items"] if each["metadata"]["name"] != "kube-root-ca.crt"
        ]
    assert got == {sentence: names for sentence, (_, names) in SELECTIONS.items()}


async def test_pages_show_one_state(api: Api) -> None:
    for n in range(7):
        await api.ok("POST", api.configmaps, {"metadata": {"name": f"c{n}"}})
    first = await api.ok("GET", f"{api.configmaps}?limit=3")
    assert first["metadata"]["remainingItemCount"] == 4
    await api.ok("DELETE", f"{api.configmaps}/c4")
    await api.ok("POST", api.configmaps, {"metadata": {"name": "c9"}})
    await api.ok("PATCH", f"{api.configmaps}/c5", {"data": {"new": "x"}}, content_type=MERGE)
    rest = await api.ok("GET", f"{api.configmaps}?continue={first['metadata']['continue']}")
    assert [each["metadata"]["name"] for each in first["items"] + rest["items"]] == [f"c{n}" for n in range(7)]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "data" not in rest["items"][2]
    assert "continue" not in rest["metadata"]


async def test_a_list_at_an_exact_version_shows_that_state(api: Api) -> None:
    await api.ok("POST", api.configmaps, {"metadata": {"name": "old"}})
    then = (await api.ok("GET", api.configmaps))["metadata"]["resourceVersion"]
    await api.ok("DELETE", f"{api.configmaps}/old")
    query = f"resourceVersion={then}&resourceVersionMatch=Exact"
    got = await api.ok("GET", f"{api.configmaps}?{query}")
    assert [each["metadata"]["name"] for each in got["items"]] == ["old"]
    assert got["metadata"]["resourceVersion"] == then


async def test_a_list_at_version_zero_ignores_the_limit(api: Api) -> None:
    for n in range(3):
        await api.ok("POST", api.configmaps, {"metadata": {"name": f"c{n}"}})
    # The real server answers this from its watch cache, which may be a moment late.
    for _ in range(50):
        got = await api.ok("GET", f"{api.configmaps}?limit=1&resourceVersion=0")
        if len(got["items"]) == 3:
            break
        await asyncio.sleep(0.1)
    assert len(got["items"]) == 3
    assert "continue" not in got["metadata"]


async def test_items_of_a_list_carry_no_kind(api: Api) -> None:
    await api.ok("POST", api.configmaps, {"metadata": {"name": "c"}})
    got = await api.ok("GET", api.configmaps)
    assert (got["kind"], got["apiVersion"]) == ("ConfigMapList", "v1")
    assert "kind" not in got["items"][0]


def _event(name: str, namespace: str, **more: Any) -> JSON:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.123456Z",
        "reportingController": "c",
        "reportingInstance": "c-1",
        "action": "Binding",
        "reason": "Scheduled",
        "regarding": {"kind": "Pod", "namespace": namespace, "name": "p"},
        "note": "hello",
        "type": "Normal",
        **more,
    }


async def test_events_have_two_views(api: Api) -> None:
    new = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
    made = await api.ok("POST", new, _event("e", api.namespace))
    assert made["deprecatedSource"] == {}
    assert made["deprecatedFirstTimestamp"] is None
    old = await api.ok("GET", f"{api.events}/e")
    assert (old["message"], old["reportingComponent"], old["involvedObject"]["name"]) == ("hello", "c", "p")
    assert old["apiVersion"] == "v1"
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
    patched = await api.ok("PATCH", f"{new}/e", series, content_type=STRATEGIC)
    assert patched["note"] == "hello"
    assert (await api.ok("GET", f"{api.events}/e"))["series"] == series["series"]
    for path, field in ((new, "regarding.name"), (api.events, "involvedObject.name")):
        assert len((await api.ok("GET", f"{path}?fieldSelector={field}=p"))["items"]) == 1
        assert not (await api.ok("GET", f"{path}?fieldSelector={field}=q"))["items"]
    assert (await api.call("GET", f"{new}?fieldSelector=involvedObject.name=p")).status == 400
    assert (await api.call("GET", f"{api.events}?fieldSelector=regarding.name=p")).status == 400


EVENTS_REFUSED: dict[str, tuple[JSON, str]] = {
    "a note of over 1,024 characters": ({"note": "h" * 1025}, "can have at most 1024 characters"),
    "no controller": ({"reportingController": ""}, "reportingController: Required value"),
    "no action": ({"action": ""}, "action: Required value"),
    "no time": ({"eventTime": None}, "eventTime: Required value"),
    "another type": ({"type": "Odd"}, "type: Invalid value"),
}


async def test_events_are_validated(api: Api) -> None:
    new = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
    for sentence, (change, want) in EVENTS_REFUSED.items():
        got = await api.call("POST", new, _event("e", api.namespace, **change))
        assert (got.status, want in got.message) == (422, True), f"{sentence}: {got.status} {got.message}"


async def test_compaction_expires_older_lists_and_watches(api: Api) -> None:
    new = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
    for n in range(5):
        await api.ok("POST", new, _event(f"e{n}", api.namespace))
    page = await api.ok("GET", f"{api.events}?limit=2")
    then, token = page["metadata"]["resourceVersion"], page["metadata"]["continue"]
    for name in ("later", "latest"):
        await api.ok("POST", new, _event(name, api.namespace))
    api.compact()
    expired = await api.call("GET", f"{api.events}?limit=2&continue={token}")
    assert (expired.status, expired.body["reason"]) == (410, "Expired")
    assert expired.message.startswith("The provided continue parameter is too old to display a consistent list result.")
    rest = await api.ok("GET", f"{api.events}?continue={expired.body['metadata']['continue']}")
    assert [each["metadata"]["name"] for each in rest["items"]] == ["e2", "e3", "e4", "later", "latest"]
    exact = await api.call("GET", f"{api.events}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert (exact.status, exact.message) == (410, "The resourceVersion for the provided list is too old.")
    watched = await api.watch(f"{api.events}?resourceVersion={then}")
    assert [(event["type"], event["object"]["code"], event["object"]["reason"]) for event in watched] == [
        ("ERROR", 410, "Expired")
    ]


async def test_a_table_is_what_kubectl_asks_for(api: Api) -> None:
    await api.pod("p")
    got = await api.call("GET", api.pods, Accept=TABLE)
    assert got.body["kind"] == "Table"
    shown = [(column["name"], column["priority"]) for column in got.body["columnDefinitions"]]
    assert shown == [
        ("Name", 0),
        ("Ready", 0),
        ("Status", 0),
        ("Restarts", 0),
        ("Age", 0),
        ("IP", 1),
        ("Node", 1),
        ("Nominated Node", 1),
        ("Readiness Gates", 1),
    ]
    (row,) = got.body["rows"]
    assert row["cells"][:4] == ["p", "0/1", "Pending", "0"]
    assert row["cells"][5:] == ["<none>"] * 4
    assert row["object"]["kind"] == "PartialObjectMetadata"
    metadata = await api.call(
        "GET", api.pods, Accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    )
    assert metadata.body["items"][0].keys() == {"kind", "apiVersion", "metadata"}


COLUMNS = {
    "/api/v1/nodes": "Name Status Roles Age Version Internal-IP External-IP OS-Image Kernel-Version Container-Runtime",
    "/api/v1/events": "Last_Seen Type Reason Object Subobject Source Message First_Seen Count Name",
    "/api/v1/namespaces": "Name Status Age",
    "/api/v1/services": "Name Type Cluster-IP External-IP Port(s) Age Selector",
    "/api/v1/configmaps": "Name Data Age",
    "/api/v1/persistentvolumes": "Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass "
    "VolumeAttributesClass Reason Age VolumeMode",
    "/apis/coordination.k8s.io/v1/leases": "Name Holder Age",
    "/apis/apps/v1/deployments": "Name Ready Up-to-date Available Age Containers Images Selector",
    "/apis/batch/v1/jobs": "Name Status Completions Duration Age Containers Images Selector",
    "/apis/batch/v1/cronjobs": "Name Schedule Timezone Suspend Active Last_Schedule Age Containers Images Selector",
    "/apis/scheduling.k8s.io/v1/priorityclasses": "Name Value Global-Default Age PreemptionPolicy",
    "/apis/policy/v1/poddisruptionbudgets": "Name Min_Available Max_Unavailable Allowed_Disruptions Age",
    "/apis/storage.k8s.io/v1/csinodes": "Name Drivers Age",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings": "Name Role Age Users Groups ServiceAccounts",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles": "Name Created_At",
}


async def test_tables_of_other_kinds_have_the_same_columns(api: Api) -> None:
    got = {}
    for path in COLUMNS:
        answer = await api.call("GET", f"{path}?limit=1", Accept=TABLE)
        got[path] = " ".join(column["name"].replace(" ", "_") for column in answer.body["columnDefinitions"])
    assert got == COLUMNS


async def test_discovery(api: Api) -> None:
    version = await api.ok("GET", "/version")
    assert (version["major"], version["minor"]) == ("1", "36")
    assert "v1" in (await api.ok("GET", "/api"))["versions"]
    groups = {group["name"] for group in (await api.ok("GET", "/apis"))["groups"]}
    assert {"apps", "batch", "coordination.k8s.io", "events.k8s.io", "policy", "scheduling.k8s.io"} <= groups
    resources = {each["name"]: each for each in (await api.ok("GET", "/api/v1"))["resources"]}
    assert resources["pods"]["shortNames"] == ["po"]
    assert resources["pods/binding"]["kind"] == "Binding"
    assert resources["nodes"]["namespaced"] is False
    aggregated = await api.call(
        "GET", "/apis", Accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    )
    assert aggregated.body["kind"] == "APIGroupDiscoveryList"
    assert (await api.call("GET", "/readyz")).body == "ok"
