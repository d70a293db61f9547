"""Patches: RFC 7386's own examples, RFC 6902, and the rules of strategic merges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.sim.apiserver.documents import copied
from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.patches import json_patch, merge, strategic

RFC_7386: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "want"), RFC_7386)
def test_the_examples_of_rfc_7386(target: Any, patch: Any, want: Any) -> None:
    assert merge(target, patch) == want


def _conditions(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": type_, "status": status} for type_, status in pairs]}}


STRATEGIC: dict[str, tuple[Any, Any, Any]] = {
    "an entry with the same key is merged": (
        {"status": {"conditions": [{"type": "A", "status": "True", "reason": "r"}]}},
        _conditions(("A", "False")),
        {"status": {"conditions": [{"type": "A", "status": "False", "reason": "r"}]}},
    ),
    "a new entry comes first": (
        _conditions(("A", "1")),
        _conditions(("B", "2")),
        _conditions(("B", "2"), ("A", "1")),
    ),
    "entries not named keep their place": (
        _conditions(("A", "1"), ("B", "2"), ("C", "3")),
        _conditions(("C", "9")),
        _conditions(("A", "1"), ("B", "2"), ("C", "9")),
    ),
    "an order can be asked for": (
        _conditions(("A", "1"), ("B", "2")),
        {
            "status": {
                "$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}],
                "conditions": [{"type": "A", "status": "9"}],
            }
        },
        _conditions(("B", "2"), ("A", "9")),
    ),
    "an entry can be deleted": (
        _conditions(("A", "1"), ("B", "2")),
        {"status": {"conditions": [{"type": "A", "$patch": "delete"}]}},
        _conditions(("B", "2")),
    ),
    "a list can be replaced": (
        _conditions(("A", "1"), ("B", "2")),
        {"status": {"conditions": [{"$patch": "replace"}, {"type": "C", "status": "3"}]}},
        _conditions(("C", "3")),
    ),
    "taints are replaced": (
        {"spec": {"taints": [{"key": "a"}, {"key": "b"}]}},
        {"spec": {"taints": [{"key": "c"}]}},
        {"spec": {"taints": [{"key": "c"}]}},
    ),
    "containers merge by name, their environment too": (
        {"spec": {"containers": [{"name": "c", "image": "x", "env": [{"name": "a", "value": "1"}]}]}},
        {"spec": {"containers": [{"name": "c", "env": [{"name": "a", "value": "2"}, {"name": "b", "value": "3"}]}]}},
        {
            "spec": {
                "containers": [
                    {"name": "c", "image": "x", "env": [{"name": "a", "value": "2"}, {"name": "b", "value": "3"}]}
                ]
            }
        },
    ),
    "finalizers are a set": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}},
        {"metadata": {"finalizers": ["b", "c"]}},
    ),
    "a map can be deleted": (
        {"spec": {"a": {"b": 1}, "c": 2}},
        {"spec": {"a": {"$patch": "delete"}}},
        {"spec": {"c": 2}},
    ),
    "a map can be replaced": ({"data": {"a": 1, "b": 2}}, {"data": {"$patch": "replace", "c": 3}}, {"data": {"c": 3}}),
    "only some keys are retained": (
        {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}},
        {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
        {"spec": {"strategy": {"type": "Recreate"}}},
    ),
}


@pytest.mark.parametrize("sentence", STRATEGIC)
def test_strategic_merges(sentence: str) -> None:
    target, patch, want = STRATEGIC[sentence]
    before = copied(target)
    assert strategic(target, patch) == want
    assert target == before


def test_an_entry_without_its_key_is_refused() -> None:
    with pytest.raises(Failure, match="does not contain declared merge key: type"):
        strategic(_conditions(("A", "1")), {"status": {"conditions": [{"status": "2"}]}})


REFUSED_OPERATIONS: dict[str, list[Any]] = {
    "a test that fails": [{"op": "test", "path": "/a", "value": 2}],
    "replacing what is not there": [{"op": "replace", "path": "/b", "value": 1}],
    "removing what is not there": [{"op": "remove", "path": "/b"}],
    "adding below what is not there": [{"op": "add", "path": "/b/c", "value": 1}],
    "an index beyond the end": [{"op": "add", "path": "/l/5", "value": 1}],
    "an unknown operation": [{"op": "spin", "path": "/a"}],
    "no path": [{"op": "add", "value": 1}],
    "not an operation": ["add"],
    "a document that is no object": [{"op": "replace", "path": "", "value": 1}],
}


@pytest.mark.parametrize("sentence", REFUSED_OPERATIONS)
def test_json_patches_that_do_not_apply(sentence: str) -> None:
    document = {"a": 1, "l": [1]}
    with pytest.raises(Failure) as caught:
        json_patch(document, REFUSED_OPERATIONS[sentence])
    assert caught.value.code == 422
    assert document == {"a": 1, "l": [1]}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES, st.dictionaries(st.sampled_from("abc"), JSON_VALUES, max_size=3))
def test_a_merge_twice_is_a_merge_once(target: Any, patch: dict[str, Any]) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once
