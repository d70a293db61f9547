"""Leader election: two candidates and one lease, on clocks that are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kube_fakes import FakeClock, FixedChance, answer, failure

from carbon_scheduler.errors import ApiUnreachable, LeaseLost
from carbon_scheduler.kube.client import ApiClient
from carbon_scheduler.kube.endpoint import Access
from carbon_scheduler.kube.fence import Fence
from carbon_scheduler.kube.lease import Election

if TYPE_CHECKING:
    from carbon_scheduler.kube.transport import Answer, Request

JSON = dict[str, Any]
PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


class Leases:
    """One lease with optimistic concurrency; a transport. `down` refuses all; `lose` carries out, then loses the answer."""

    def __init__(self) -> None:
        self.lease: JSON | None = None
        self.version = 0
        self.down = False
        self.lose = False
        self.requests: list[str] = []

    async def send(self, request: Request, max_answer_b: int) -> Answer:
        self.requests.append(request.method)
        await asyncio.sleep(0)
        if self.down:
            raise ApiUnreachable("down", sent=False)
        got = self._answer(request)
        if self.lose:
            raise ApiUnreachable("lost", sent=True)
        return got

    def _answer(self, request: Request) -> Answer:
        assert request.target.startswith(PATH)
        if request.method == "GET":
            return answer(200, self.lease) if self.lease else failure(404, "NotFound")
        sent = json.loads(request.body or b"")
        if request.method == "POST":
            if self.lease:
                return failure(409, "AlreadyExists")
        elif not self.lease:
            return failure(404, "NotFound")
        elif sent["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return failure(409, "Conflict")
        self.version += 1
        self.lease = {**sent, "metadata": {**sent["metadata"], "resourceVersion": str(self.version)}}
        return answer(200, self.lease)

    @property
    def spec(self) -> JSON:
        assert self.lease is not None
        spec = self.lease["spec"]
        assert isinstance(spec, dict)
        return spec

    def open(self, request: Request, silence_s: float) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass


class FakeFence(Fence):
    """Remembers for when it is armed; None: it is not."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.at_s: float | None = None

    def arm(self, in_s: float) -> None:
        self.at_s = self.clock.monotonic() + in_s

    def disarm(self) -> None:
        self.at_s = None


def candidate(leases: Leases, identity: str, clock: FakeClock, fence: Fence | None = None) -> Election:
    client = ApiClient(Access("http://x"), transport=leases, clock=clock, chance=FixedChance())
    return Election(client, "kube-system", "carbon-aware-scheduler", identity=identity, fence=fence)


async def renew(election: Election) -> None:
    """One round of the background renewal."""
    task = asyncio.create_task(election.run())
    clock = election._client.clock
    assert isinstance(clock, FakeClock)
    rounds = len(clock.slept) + 2
    while len(clock.slept) < rounds and not task.done():  # noqa: ASYNC110  # its sleeps are what is counted
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_first_candidate_makes_the_lease() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    with pytest.raises(LeaseLost, match="not acquired"):
        election.check()
    await election.acquire()
    election.check()
    assert leases.lease is not None
    assert leases.lease["metadata"]["name"] == "carbon-aware-scheduler"
    assert leases.spec == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2025-11-23T14:00:00.000000Z",
        "renewTime": "2025-11-23T14:00:00.000000Z",
        "leaseTransitions": 0,
    }


async def test_renewals_keep_the_time_of_acquisition_and_all_else_in_the_object() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    await election.acquire()
    assert leases.lease is not None
    await renew(election)
    leases.lease["metadata"]["labels"] = {"kept": "yes"}
    leases.spec["strategy"] = "kept"
    leases.version += 1
    leases.lease["metadata"]["resourceVersion"] = str(leases.version)
    await renew(election)
    assert leases.spec["acquireTime"] == "2025-11-23T14:00:00.000000Z"
    assert leases.spec["renewTime"] > leases.spec["acquireTime"]
    assert (leases.spec["leaseTransitions"], leases.spec["strategy"]) == (0, "kept")
    assert leases.lease["metadata"]["labels"] == {"kept": "yes"}


async def test_the_fence_stands_where_another_may_lead_and_moves_with_each_renewal() -> None:
    leases, clock = Leases(), FakeClock(at_s=100.0)
    fence = FakeFence(clock)
    election = candidate(leases, "a", clock, fence)
    await election.acquire()
    assert fence.at_s == 115.0
    await renew(election)
    assert fence.at_s == 117.0  # renewed after the retry period of 2 s
    armed = fence.at_s
    leases.down = True
    await renew(election)  # what failed moves nothing
    assert fence.at_s == armed
    await election.release()
    assert fence.at_s is None


async def test_who_only_waits_for_the_lease_has_no_fence() -> None:
    leases, clock = Leases(), FakeClock()
    await candidate(leases, "a", clock).acquire()
    fence = FakeFence(clock)
    assert await candidate(leases, "b", clock, fence)._try() is False
    assert fence.at_s is None


async def test_another_waits_for_the_whole_duration_since_it_last_saw_a_change() -> None:
    leases, ours, theirs = Leases(), FakeClock(), FakeClock(at_s=5.0, wall_s=0.0)  # their wall clock is decades behind
    first = candidate(leases, "a", ours)
    await first.acquire()
    second = candidate(leases, "b", theirs)
    assert await second._try() is False
    theirs.advance(14.9)
    assert await second._try() is False
    await renew(first)
    theirs.advance(14.9)
    assert await second._try() is False, "it was renewed meanwhile"
    theirs.advance(14.9)
    assert await second._try() is False
    theirs.advance(0.2)
    assert await second._try() is True
    assert (leases.spec["holderIdentity"], leases.spec["leaseTransitions"]) == ("b", 1)


async def test_a_leader_that_cannot_renew_stops_before_another_may_begin() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    await election.acquire()
    leases.down = True
    with pytest.raises(LeaseLost, match="not renewed within 10 s"):
        await election.run()
    assert clock.at_s - 1000.0 <= 12.0
    leases.down = False
    with pytest.raises(LeaseLost):
        await election.acquire()


async def test_a_process_that_was_stopped_notices_before_it_writes_and_never_leads_again() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    await election.acquire()
    running = asyncio.create_task(election.run())
    clock.advance(30)  # SIGSTOP, SIGCONT
    requests = len(leases.requests)
    with pytest.raises(LeaseLost, match=r"20\.0 s late"):
        election.check()
    with pytest.raises(LeaseLost):
        await running
    assert len(leases.requests) == requests, "it did not renew what was over"


async def test_the_renewal_counts_from_before_it_was_sent() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    slow = leases.send

    async def seven_seconds(request: Request, max_answer_b: int) -> Answer:
        got = await slow(request, max_answer_b)
        clock.advance(7)
        return got

    leases.send = seven_seconds  # type: ignore[method-assign]
    await election.acquire()  # the GET took 7 s, then the POST was sent, and took 7 s
    clock.advance(2.9)
    election.check()
    clock.advance(0.2)
    with pytest.raises(LeaseLost):
        election.check()


async def test_who_finds_another_in_its_lease_has_lost() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    await election.acquire()
    leases.spec["holderIdentity"] = "b"
    assert leases.lease is not None
    leases.lease["metadata"]["resourceVersion"] = "99"
    with pytest.raises(LeaseLost, match="b holds lease kube-system/carbon-aware-scheduler now"):
        await election.run()


async def test_a_released_lease_is_free_at_once() -> None:
    leases, clock = Leases(), FakeClock()
    first, second = candidate(leases, "a", clock), candidate(leases, "b", clock)
    await first.acquire()
    assert await second._try() is False
    await first.release()
    assert (leases.spec["holderIdentity"], leases.spec["leaseDurationSeconds"]) == ("", 1)
    with pytest.raises(LeaseLost, match="released"):
        first.check()
    assert await second._try() is True
    assert leases.spec["leaseTransitions"] == 1


async def test_who_does_not_lead_releases_nothing() -> None:
    leases, clock = Leases(), FakeClock()
    await candidate(leases, "a", clock).acquire()
    await candidate(leases, "b", clock).release()
    assert leases.spec["holderIdentity"] == "a"


async def test_a_lost_answer_to_the_acquisition_is_found_at_the_next_try() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    answers = iter([False, True])  # the GET is answered, the answer to the POST is lost
    plain = leases._answer

    def losing(request: Request) -> Answer:
        leases.lose = next(answers, False)
        return plain(request)

    leases._answer = losing  # type: ignore[method-assign]
    await election.acquire()
    election.check()
    assert leases.spec["holderIdentity"] == "a"


async def test_a_lease_that_was_deleted_is_made_again() -> None:
    leases, clock = Leases(), FakeClock()
    election = candidate(leases, "a", clock)
    await election.acquire()
    leases.lease = None
    await renew(election)
    election.check()
    assert leases.spec["holderIdentity"] == "a"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"spec":5}', b'{"spec":{"leaseDurationSeconds":"x"}}'])
async def test_an_unreadable_lease_is_not_taken(body: bytes) -> None:
    leases = Leases()

    def odd(request: Request) -> Answer:
        assert request.method == "GET"
        return answer(200, body)

    leases._answer = odd  # type: ignore[method-assign]
    assert await candidate(leases, "a", FakeClock())._try() is False


steps = st.lists(
    st.tuples(st.sampled_from(["try a", "try b", "down", "up", "lose", "keep"]), st.floats(0, 8)),
    min_size=5,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_never_two_leaders_whatever_happens(story: list[tuple[str, float]]) -> None:
    async def scenario() -> None:
        leases = Leases()
        clock = FakeClock()
        both = {"a": candidate(leases, "a", clock), "b": candidate(leases, "b", clock)}
        for do, wait_s in story:
            clock.advance(wait_s)
            if do.startswith("try"):
                await both[do[-1]]._try()
            else:
                leases.down, leases.lose = do == "down", do == "lose"
            assert [name for name, election in both.items() if election.leads] in ([], ["a"], ["b"])

    asyncio.run(scenario())
