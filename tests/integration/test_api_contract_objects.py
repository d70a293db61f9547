"""The contract of the API server for what schedulers read beside pods and nodes: what is stored of it, and what tells of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from api_contract import MERGE
from api_kinds import IS_WEB, OBJECTS, WEB, collection, expected, filled
from carbon_scheduler.core.objects import Budget
from carbon_scheduler.kube.kinds import BY_NAME

if TYPE_CHECKING:
    from api_contract import Api
    from carbon_scheduler.core.objects import ObjectKind


@pytest.mark.parametrize("name", OBJECTS)
async def test_a_kind_is_created_patched_listed_watched_and_deleted(api: Api, name: ObjectKind) -> None:
    kind = BY_NAME[name]
    body, patch, want, want_patched = OBJECTS[name]
    own = f"o-{api.namespace}"
    place = collection(name, api.namespace)
    made = await api.ok("POST", place, {"metadata": {"name": own}, **filled(body, api.namespace, own)})
    try:
        got = kind.one(json.dumps(made).encode())
        assert got == expected(want, got, api.namespace, own)
        watching = asyncio.create_task(
            api.watch(
                f"{kind.path}?fieldSelector=metadata.name%3D{own}&resourceVersion={made['metadata']['resourceVersion']}",
                events=2,
            )
        )
        patched = await api.ok("PATCH", f"{place}/{own}", filled(patch, api.namespace, own), content_type=MERGE)
        assert patched["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
        got = kind.one(json.dumps(patched).encode())
        assert got == expected(want_patched, got, api.namespace, own)
        listed = await api.ok("GET", f"{kind.path}?fieldSelector=metadata.name%3D{own}")
        assert listed["kind"] == f"{name}List"
        (found,) = kind.codec.page(json.dumps(listed).encode()).items
        assert kind.convert(found) == got
        assert await api.ok("GET", f"{place}/{own}") == patched
    finally:
        if name in ("PersistentVolume", "PersistentVolumeClaim"):
            await api.ok("PATCH", f"{place}/{own}", {"metadata": {"finalizers": None}}, content_type=MERGE)
        # A ReplicationController else stays until a controller has taken leave of its pods.
        await api.ok("DELETE", f"{place}/{own}?propagationPolicy=Background")
    told = await watching
    assert told[0]["type"] == "MODIFIED"
    assert kind.one(json.dumps(told[0]["object"]).encode()) == got
    assert [one["metadata"]["name"] for one in (await api.ok("GET", kind.path))["items"]].count(own) == 0


@pytest.mark.parametrize("name", ["PersistentVolume", "PersistentVolumeClaim"])
async def test_a_patch_that_names_an_older_version_is_a_conflict(api: Api, name: ObjectKind) -> None:
    """What keeps two who choose the same volume apart."""
    body = OBJECTS[name][0]
    own = f"v-{api.namespace}"
    place = collection(name, api.namespace)
    made = await api.ok("POST", place, {"metadata": {"name": own}, **body})
    version = made["metadata"]["resourceVersion"]
    ours = {"metadata": {"resourceVersion": version, "annotations": {"chosen": "first"}}}
    assert (await api.call("PATCH", f"{place}/{own}", ours, content_type=MERGE)).status == 200
    late = await api.call("PATCH", f"{place}/{own}", ours, content_type=MERGE)
    assert (late.status, late.body["reason"]) == (409, "Conflict")
    await api.ok("PATCH", f"{place}/{own}", {"metadata": {"finalizers": None}}, content_type=MERGE)
    await api.ok("DELETE", f"{place}/{own}")


async def test_a_budgets_status_is_a_resource_of_its_own(api: Api) -> None:
    path = f"/apis/policy/v1/namespaces/{api.namespace}/poddisruptionbudgets"
    await api.ok(
        "POST", path, {"metadata": {"name": "b"}, "spec": {"selector": WEB}, "status": {"disruptionsAllowed": 5}}
    )
    status = {
        "disruptionsAllowed": 2, "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3,
        "disruptedPods": {"p": "2026-01-01T00:00:00Z"},
    }  # fmt: skip
    await api.ok("PATCH", f"{path}/b/status", {"status": status}, content_type=MERGE)
    got = BY_NAME["PodDisruptionBudget"].one(json.dumps(await api.ok("GET", f"{path}/b")).encode())
    assert got == Budget(api.namespace, "b", IS_WEB, 2, ("p",))


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


async def test_keys_of_labels_to_match_are_written_into_selectors(api: Api) -> None:
    """Of a pod's affinity and spread, at its creation: schedulers read the selectors alone."""
    keys = {"matchLabelKeys": ["hash", "missing"]}
    term = {"topologyKey": "zone", "labelSelector": WEB, **keys, "mismatchLabelKeys": ["tenant"]}
    affinity = {
        "podAffinity": {REQUIRED: [term, {"topologyKey": "rack", "labelSelector": {}}]},
        "podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": {**term, "matchLabelKeys": []}}]},
    }
    spread = [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, **keys},
        {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB},
    ]
    made = await api.pod(
        "p", meta={"labels": {"hash": "h", "tenant": "t"}}, affinity=affinity, topologySpreadConstraints=spread
    )
    in_hash = {"key": "hash", "operator": "In", "values": ["h"]}
    not_in_tenant = {"key": "tenant", "operator": "NotIn", "values": ["t"]}
    got = made["spec"]["affinity"]
    assert got["podAffinity"][REQUIRED][0]["labelSelector"] == {**WEB, "matchExpressions": [in_hash, not_in_tenant]}
    assert got["podAffinity"][REQUIRED][1]["labelSelector"] == {}
    (weighted,) = got["podAntiAffinity"][PREFERRED]
    assert weighted["podAffinityTerm"]["labelSelector"] == {**WEB, "matchExpressions": [not_in_tenant]}
    spread = made["spec"]["topologySpreadConstraints"]
    assert [one["labelSelector"] for one in spread] == [{"matchExpressions": [in_hash]}, WEB]
