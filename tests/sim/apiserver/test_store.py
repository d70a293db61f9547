"""The store's promises: any past state can be listed, and a watch leads from any state to the present one."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.sim.apiserver.kinds import core
from carbon_scheduler.sim.apiserver.requests import WatchOptions
from carbon_scheduler.sim.apiserver.selectors import Selector, parse_labels
from carbon_scheduler.sim.apiserver.store import Key, Store
from carbon_scheduler.sim.apiserver.views import ObjectView
from carbon_scheduler.sim.apiserver.watching import Feed

CONFIG_MAPS = core("configmaps")
NAMES = ("a", "b", "c")
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["on", "off", "delete"])), max_size=30)


def _act(store: Store, name: str, what: str) -> None:
    """Creates, changes or deletes; what cannot be done is left out."""
    key: Key = ("ns", name)
    if what == "delete":
        if key in store.collection("configmaps").objects:
            store.remove("configmaps", key)
        return
    labels = {"selected": what}
    store.put("configmaps", key, {"metadata": {"name": name, "namespace": "ns", "labels": labels}})


def _names(store: Store, version: int) -> list[str] | None:
    found = store.collection("configmaps").at(version)
    return None if found is None else [stored.key[1] for stored in found]


@given(STEPS, STEPS)
def test_a_past_state_can_be_listed_until_it_is_compacted(
    before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    store = Store()
    states: dict[int, list[str]] = {store.resource_version: []}
    for name, what in before:
        _act(store, name, what)
        states[store.resource_version] = sorted(key[1] for key in store.collection("configmaps").objects)
    middle = store.resource_version
    for name, what in after:
        _act(store, name, what)
        states[store.resource_version] = sorted(key[1] for key in store.collection("configmaps").objects)
    assert {version: _names(store, version) for version in states} == states
    store.collection("configmaps").compact(middle)
    for version, names in states.items():
        assert _names(store, version) == (names if version >= middle else None)


def _followed(feed: Feed, seen: dict[str, str]) -> None:
    """Applies a feed to a client's cache, as a reflector would, and checks that each event makes sense to it."""
    lines = feed.initial()
    while True:
        for line in lines:
            event = msgspec.json.decode(line)
            metadata = event["object"]["metadata"]
            name = metadata["name"]
            match event["type"]:
                case "ADDED":
                    assert name not in seen
                    seen[name] = metadata["resourceVersion"]
                case "MODIFIED":
                    assert name in seen
                    seen[name] = metadata["resourceVersion"]
                case "DELETED":
                    del seen[name]
        following = feed.following()
        assert following is not None
        if not following:
            return
        lines = following


@given(STEPS, STEPS, st.sampled_from(["", "selected=on", "selected!=on"]), st.booleans())
def test_a_watch_leads_from_any_state_to_the_present(
    before: list[tuple[str, str]], after: list[tuple[str, str]], labels: str, from_nothing: bool
) -> None:
    store = Store()
    selector = Selector(labels=parse_labels(labels))
    collection = store.collection("configmaps")
    for name, what in before:
        _act(store, name, what)
    seen = {stored.key[1]: str(stored.resource_version) for stored in collection.listing() if selector(stored.document)}
    start = WatchOptions(selector=selector, resource_version=None if from_nothing else store.resource_version)
    if from_nothing:
        seen = {}
    feed = Feed(store, collection, ObjectView(CONFIG_MAPS), start)
    for name, what in after[:10]:
        _act(store, name, what)
    if not from_nothing:
        _followed(feed, seen)
    for name, what in after[10:]:
        _act(store, name, what)
    if from_nothing:
        # What is sent first is the state when the sending begins; changes before that must not come twice.
        feed = Feed(store, collection, ObjectView(CONFIG_MAPS), start)
    _followed(feed, seen)
    want = {stored.key[1]: str(stored.resource_version) for stored in collection.listing() if selector(stored.document)}
    assert seen == want


def test_a_watch_that_is_older_than_the_log_says_so() -> None:
    store = Store()
    for n in range(5):
        _act(store, "a", "on" if n % 2 else "off")
    collection = store.collection("configmaps")
    first = store.resource_version - 4
    open_feed = Feed(store, collection, ObjectView(CONFIG_MAPS), WatchOptions(Selector(), resource_version=first))
    store.compact()
    assert open_feed.following() is None
    for version, expired in ((first, True), (store.resource_version - 1, False), (store.resource_version, False)):
        feed = Feed(store, collection, ObjectView(CONFIG_MAPS), WatchOptions(Selector(), resource_version=version))
        assert feed.expired is expired, version


def test_what_was_handed_out_never_changes() -> None:
    store = Store()
    document = {"metadata": {"name": "a", "namespace": "ns"}, "data": {"k": "v"}}
    stored = store.put("configmaps", ("ns", "a"), document)
    store.put("configmaps", ("ns", "a"), {**stored.document, "data": {"k": "w"}})
    store.remove("configmaps", ("ns", "a"))
    assert stored.document["data"] == {"k": "v"}
    assert stored.document["metadata"]["resourceVersion"] == str(stored.resource_version)
    assert "resourceVersion" not in document["metadata"]
