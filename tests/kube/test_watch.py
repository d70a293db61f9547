"""The reflector is never deaf: whatever happens to its streams, the sink ends up with what the server has."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kube_fakes import FakeClock, FixedChance, answer, failure

from carbon_scheduler.core.model import Namespace
from carbon_scheduler.errors import AnswerTooLarge, ApiUnreachable
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.kube.watch import Changed, Gone, Reflector, namespaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from carbon_scheduler.kube.transport import Answer, Opened, Request
    from carbon_scheduler.kube.watch import Change

JSON = dict[str, Any]


class Server:
    """Namespaces behind one log of events, with list pages, watches from a version, and compaction. A transport by itself.

    `faults` are taken one by one, one for each stream opened: how many bytes it may carry and what happens then. When they
    are used up streams stay open, and `idle` is set when the last has nothing more to say.
    """

    def __init__(self, faults: list[tuple[int, str]] | None = None, chunk: int = 10_000) -> None:
        self.objects: dict[str, JSON] = {}
        self.log: list[JSON] = []
        self.compacted = 0
        self.version = 0
        self.faults = faults or []
        self.chunk = chunk
        self.lists: list[dict[str, list[str]]] = []
        self.watches: list[dict[str, list[str]]] = []
        self.list_faults: list[Answer | BaseException] = []
        self.idle = asyncio.Event()
        self.wake = asyncio.Event()
        self.on_list: list[JSON] = []
        self._next_uid = 0
        self._pages: dict[str, tuple[int, list[JSON]]] = {}

    # -- the world

    def put(self, name: str, **labels: str) -> None:
        before = self.objects.get(name)
        self.version += 1
        if before is None:
            self._next_uid += 1
        uid = before["metadata"]["uid"] if before else f"u{self._next_uid}"
        made = {"metadata": {"name": name, "uid": uid, "resourceVersion": str(self.version), "labels": labels}}
        self.objects[name] = made
        self._log("MODIFIED" if before else "ADDED", made)

    def delete(self, name: str) -> None:
        if (before := self.objects.pop(name, None)) is not None:
            self.version += 1
            self._log("DELETED", {"metadata": {**before["metadata"], "resourceVersion": str(self.version)}})

    def recreate(self, name: str) -> None:
        self.delete(name)
        self.put(name)

    def bookmark(self) -> None:
        self._log("BOOKMARK", {"metadata": {"resourceVersion": str(self.version), "creationTimestamp": None}})

    def repeat(self) -> None:
        """Says something again, as an over-eager cache might."""
        if self.log:
            self._log(self.log[-1]["type"], self.log[-1]["object"])

    def compact(self) -> None:
        self.compacted = self.version

    def _log(self, kind: str, made: JSON) -> None:
        self.log.append({"type": kind, "object": made, "at": self.version})
        self.idle.clear()
        self.wake.set()

    # -- the transport

    async def send(self, request: Request, max_answer_b: int) -> Answer:
        query = parse_qs(urlsplit(request.target).query)
        self.lists.append(query)
        await asyncio.sleep(0)
        if self.list_faults:
            fault = self.list_faults.pop(0)
            if isinstance(fault, BaseException):
                raise fault
            return fault
        if "continue" in query:
            version, items = self._pages.pop(query["continue"][0])
            if version < self.compacted:
                return failure(410, "Expired", "The provided continue parameter is too old")
        else:
            version, items = self.version, list(self.objects.values())
        limit = int(query["limit"][0])
        page, rest = items[:limit], items[limit:]
        token = ""
        if rest:
            token = f"t{len(self.lists)}"
            self._pages[token] = (version, rest)
        for change in self.on_list:
            getattr(self, change["do"])(*change["args"])
        self.on_list = []
        return answer(200, {"metadata": {"resourceVersion": str(version), "continue": token}, "items": page})

    @asynccontextmanager
    async def open(self, request: Request, silence_s: float) -> AsyncIterator[Opened]:
        query = parse_qs(urlsplit(request.target).query)
        self.watches.append(query)
        yield _Watch(self, int(query["resourceVersion"][0]), self.faults.pop(0) if self.faults else None)

    async def close(self) -> None:
        pass


class _Watch:
    retry_after = None

    def __init__(self, server: Server, version: int, fault: tuple[int, str] | None) -> None:
        self.server = server
        self.version = version
        self.budget, self.end = fault or (10**9, "stay")
        self.status = {"refuse": 500, "busy": 429, "gone": 410}.get(self.end, 200)

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.status != 200:
            yield failure(self.status).body
            return
        sent = 0
        told: set[int] = set()
        while True:
            if self.version < self.server.compacted and sent == 0:
                yield self.expired()
                return
            new = [n for n, e in enumerate(self.server.log) if n not in told and e["at"] > self.version]
            told |= set(new)
            data = b"".join(
                msgspec.json.encode({"type": self.server.log[n]["type"], "object": self.server.log[n]["object"]})
                + b"\n"
                for n in new
            )
            cut = data[: max(0, self.budget - sent)]
            sent += len(cut)
            for at in range(0, len(cut), self.server.chunk):
                yield cut[at : at + self.server.chunk]
            if len(cut) < len(data) or sent >= self.budget:
                if self.end == "error":
                    yield self.expired()
                elif self.end == "garbage":
                    yield b'"}garbage\n'
                elif self.end == "cut":
                    raise ApiUnreachable("cut", sent=True)
                elif self.end == "long":
                    raise AnswerTooLarge("long", sent=True)
                return
            self.server.wake.clear()
            if not self.server.faults:
                self.server.idle.set()
            if self.end == "drain":
                return
            await self.server.wake.wait()

    @staticmethod
    def expired() -> bytes:
        return b'\n{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old","code":410}}\n'


class Sink:
    """What a consumer knows that keys by name: the strictest kind."""

    def __init__(self) -> None:
        self.state: dict[str, Namespace] = {}
        self.batches: list[list[Change[Namespace]]] = []

    def __call__(self, changes: list[Change[Namespace]]) -> None:
        assert changes
        self.batches.append(changes)
        for change in changes:
            match change:
                case Changed(obj):
                    self.state[obj.name] = obj
                case Gone(_, _, name):
                    del self.state[name]


def make(
    server: Server, page_size: int = 500, chance: float = 0.0
) -> tuple[Reflector[Any, Namespace], Sink, FakeClock]:
    clock = FakeClock()
    client = ApiClient(Access("http://x"), transport=server, clock=clock, chance=FixedChance(chance))
    sink = Sink()
    return Reflector(client, namespaces(Converter()), sink, page_size=page_size), sink, clock


async def until_idle(server: Server, reflector: Reflector[Any, Namespace]) -> asyncio.Task[None]:
    task = asyncio.create_task(reflector.run())
    done, _ = await asyncio.wait(
        {task, asyncio.ensure_future(server.idle.wait())}, return_when=asyncio.FIRST_COMPLETED, timeout=20
    )
    assert done, "the reflector never came to rest"
    assert not task.done(), task
    return task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def want(server: Server) -> dict[str, Namespace]:
    return {name: Namespace(name, made["metadata"]["labels"]) for name, made in server.objects.items()}


async def test_a_list_then_a_watch_from_its_version() -> None:
    server = Server()
    for n in range(5):
        server.put(f"n{n}")
    reflector, sink, _ = make(server, page_size=2)
    task = await until_idle(server, reflector)
    assert [(q["limit"], "continue" in q, "resourceVersion" in q) for q in server.lists] == [
        (["2"], False, False),
        (["2"], True, False),
        (["2"], True, False),
    ]
    query = server.watches[0]
    assert (query["resourceVersion"], query["allowWatchBookmarks"], query["timeoutSeconds"]) == (
        ["5"],
        ["true"],
        ["300"],
    )
    assert [len(batch) for batch in sink.batches] == [2, 2, 1]
    assert reflector.synced.is_set()
    server.put("n1", colour="green")
    server.delete("n2")
    server.put("new")
    await asyncio.wait_for(server.idle.wait(), 5)
    assert sink.state == want(server)
    assert len(sink.batches[-1]) == 3, "one received piece is one call"
    assert len(reflector) == 5
    await stop(task)


ENDS = {
    "a clean end resumes from the last version": ("end", 0),
    "a cut resumes from the last version": ("cut", 0),
    "half a line before a cut is dropped and comes again": ("half", 0),
    "an ERROR event lists again": ("error", 1),
    "garbage lists again": ("garbage", 1),
    "a line too long lists again": ("long", 1),
    "a 410 answer lists again": ("gone", 1),
    "a 500 answer tries on": ("refuse", 0),
    "a 429 answer tries on": ("busy", 0),
}


@pytest.mark.parametrize("case", ENDS)
async def test_the_end_of_a_stream(case: str) -> None:
    end, want_relists = ENDS[case]
    one_line = 95
    server = Server(faults=[(one_line + one_line // 2 if end == "half" else one_line, "cut" if end == "half" else end)])
    server.put("kept")
    server.on_list = [
        {"do": "put", "args": ["a"]},
        {"do": "delete", "args": ["kept"]},
        {"do": "put", "args": ["b"]},
    ]
    reflector, sink, _ = make(server)
    task = await until_idle(server, reflector)
    assert sink.state == want(server)
    assert set(sink.state) == {"a", "b"}
    assert reflector.relists == want_relists
    assert len(server.watches) == 2
    await stop(task)


async def test_what_was_deleted_while_deaf_is_told() -> None:
    server = Server(faults=[(0, "gone")])
    for name in ("a", "b", "c"):
        server.put(name)
    server.on_list = [{"do": "delete", "args": ["b"]}, {"do": "compact", "args": []}]
    reflector, sink, _ = make(server)
    task = await until_idle(server, reflector)
    assert set(sink.state) == {"a", "c"}
    assert sink.batches[-1] == [Gone("u2", "", "b")]
    await stop(task)


async def test_made_again_under_its_name_while_deaf_ends_first_then_begins() -> None:
    server = Server(faults=[(0, "gone")])
    server.put("a")
    server.on_list = [{"do": "delete", "args": ["a"]}, {"do": "put", "args": ["a"]}]
    reflector, sink, _ = make(server)
    task = await until_idle(server, reflector)
    assert sink.state == want(server)
    assert sink.batches[-1] == [Gone("u1", "", "a"), Changed(Namespace("a"))]
    await stop(task)


@pytest.mark.parametrize("end", ["gone", "error", "garbage"])
async def test_while_it_lists_again_it_has_a_problem_until_the_last_page(end: str) -> None:
    """What was missed is known only then: who decides before gives away room that others have taken."""
    server = Server(faults=[(0, end)])
    server.put("kept")
    server.on_list = [{"do": "put", "args": [name]} for name in ("a", "b", "c")]
    reflector, sink, _ = make(server, page_size=1)
    problems: list[str] = []
    reflector._sink = lambda changes: (problems.append(reflector.problem), sink(changes))  # type: ignore[func-returns-value]
    task = await until_idle(server, reflector)
    first, *again = problems
    assert first == ""
    assert len(again) == 3
    assert all(again)
    assert reflector.problem == ""
    await stop(task)


async def test_a_list_without_changes_tells_nothing() -> None:
    server = Server(faults=[(0, "gone"), (0, "gone")])
    server.put("a")
    reflector, sink, _ = make(server)
    task = await until_idle(server, reflector)
    assert len(sink.batches) == 1
    assert reflector.relists == 2
    await stop(task)


async def test_a_page_token_that_expired_begins_the_list_again() -> None:
    server = Server()
    for n in range(5):
        server.put(f"n{n}")
    server.on_list = [{"do": "delete", "args": ["n0"]}, {"do": "compact", "args": []}]
    reflector, sink, _ = make(server, page_size=2)
    task = await until_idle(server, reflector)
    assert sink.state == want(server)
    assert reflector.synced.is_set()
    await stop(task)


async def test_pages_that_are_too_large_are_asked_for_smaller() -> None:
    server = Server()
    server.put("a")
    server.list_faults = [AnswerTooLarge("large", sent=True), AnswerTooLarge("large", sent=True)]
    reflector, _, _ = make(server)
    task = await until_idle(server, reflector)
    assert [q["limit"] for q in server.lists] == [["500"], ["250"], ["125"]]
    await stop(task)


async def test_an_outage_is_said_once_with_growing_jittered_waits_and_its_end_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    server = Server()
    server.list_faults = [ApiUnreachable("refused", sent=False)] * 8
    reflector, _, clock = make(server, chance=0.5)
    task = await until_idle(server, reflector)
    assert clock.slept == [0.125, 0.25, 0.5, 1.0, 2.0, 2.5, 2.5, 2.5]
    assert reflector.problem == ""
    assert reflector.last_heard_s == clock.monotonic()
    assert [record.getMessage() for record in caplog.records] == [
        "Namespace: refused; trying on",
        "Namespace: heard again",
    ]
    await stop(task)


async def test_the_cut_of_one_stream_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(faults=[(95, "cut")])
    server.on_list = [{"do": "put", "args": ["a"]}, {"do": "put", "args": ["b"]}]
    reflector, _, _ = make(server)
    caplog.set_level("INFO")
    task = await until_idle(server, reflector)
    assert caplog.records == []
    await stop(task)


async def test_streams_that_end_at_once_are_not_renewed_in_a_busy_loop() -> None:
    server = Server(faults=[(0, "end")] * 5)
    server.put("a")
    reflector, _, clock = make(server, chance=0.5)
    task = await until_idle(server, reflector)
    assert clock.slept == [0.125, 0.25, 0.5, 1.0, 2.0]
    assert reflector.resumes == 5
    await stop(task)


async def test_retry_after_is_honoured_in_lists() -> None:
    server = Server()
    server.list_faults = [failure(429, retry_after="7")]
    reflector, _, clock = make(server)
    task = await until_idle(server, reflector)
    assert sum(clock.slept) == 7
    await stop(task)


async def test_a_version_that_the_server_does_not_know_any_more_leads_to_a_list() -> None:
    server = Server(faults=[(0, "refuse")] * 5)
    reflector, _, _ = make(server)
    task = await until_idle(server, reflector)
    assert (reflector.relists, len(server.lists)) == (1, 2)
    await stop(task)


async def test_relist_ends_the_stream_and_returns_when_the_sink_was_told() -> None:
    server = Server()
    server.put("a")
    reflector, sink, _ = make(server)
    task = await until_idle(server, reflector)
    del server.objects["a"]  # behind the watch's back
    await asyncio.wait_for(asyncio.gather(reflector.relist(), reflector.relist()), 5)
    assert sink.state == {}
    assert len(server.lists) == 2
    await stop(task)


async def test_a_bookmark_moves_the_version_without_a_call() -> None:
    server = Server(faults=[(10**6, "drain")])
    server.put("a")
    reflector, sink, _ = make(server)
    server.on_list = [{"do": "put", "args": ["b"]}, {"do": "bookmark", "args": []}]
    task = await until_idle(server, reflector)
    assert server.watches[-1]["resourceVersion"] == ["2"]
    assert sum(len(batch) for batch in sink.batches) == 2
    await stop(task)


names = st.sampled_from(["a", "b", "c", "d", "e"])
changes = st.one_of(
    st.tuples(st.just("put"), names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("recreate"), names),
    st.tuples(st.just("compact")),
    st.tuples(st.just("bookmark")),
    st.tuples(st.just("repeat")),
)
faults = st.tuples(
    st.integers(0, 400), st.sampled_from(["end", "cut", "error", "garbage", "long", "gone", "refuse", "busy"])
)


@settings(max_examples=200, deadline=None)
@given(
    story=st.lists(st.tuples(changes, st.integers(0, 40)), min_size=10, max_size=60),
    broken=st.lists(faults, min_size=5, max_size=30),
    page_size=st.integers(1, 4),
    chunk=st.integers(20, 300),
)
def test_whatever_happens_the_sink_has_what_the_server_has(
    story: list[tuple[tuple[str, ...], int]], broken: list[tuple[int, str]], page_size: int, chunk: int
) -> None:
    async def scenario() -> None:
        server = Server(list(broken), chunk)
        reflector, sink, _ = make(server, page_size)
        task = asyncio.create_task(reflector.run())
        for (do, *args), turns in story:
            if do == "put":
                server.put(args[0], colour=str(server.version))
            else:
                getattr(server, do)(*args)
            for _ in range(turns):
                await asyncio.sleep(0)
        for _ in range(20_000):
            if sink.state == want(server) and len(reflector) == len(server.objects):
                break
            await asyncio.sleep(0)
        assert not task.done(), task
        assert sink.state == want(server)
        assert len(reflector) == len(server.objects)
        await stop(task)

    asyncio.run(scenario())
