"""The queue's order and times: kube-scheduler's, with time as a value."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from carbon_scheduler.core.model import PodUid
from carbon_scheduler.core.queue import Queue

A, B, C = PodUid("a"), PodUid("b"), PodUid("c")


def queue() -> Queue:
    return Queue(initial_backoff_s=1.0, max_backoff_s=10.0, flush_after_s=300.0)


def always(uid: PodUid, rejecting: tuple[str, ...]) -> bool:
    return True


def test_priority_first_then_time() -> None:
    q = queue()
    q.add(A, 0, 1.0)
    q.add(B, 5, 2.0)
    q.add(C, 0, 0.5)
    assert [q.pop(3.0) for _ in range(4)] == [B, C, A, None]


@pytest.mark.parametrize(("failures", "wait_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (50, 10)])
def test_errors_back_off_doubling_to_ten_seconds(failures: int, wait_s: float) -> None:
    q = queue()
    q.add(A, 0, 0.0)
    at = 0.0
    for _ in range(failures):
        at = max(at, q.next_at() or at)
        assert q.pop(at) == A
        q.retry(A, at)
    assert q.next_at() == pytest.approx(at + wait_s)
    assert q.pop(at + wait_s - 0.01) is None
    assert q.pop(at + wait_s) == A


def test_a_parked_pod_waits_for_a_change_that_matters() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    q.pop(0.0)
    q.park(A, 0.0, ("NodeResourcesFit",))
    assert q.pop(5.0) is None
    assert q.wake(5.0, lambda uid, by: by == ("TaintToleration",)) == 0
    assert q.wake(5.0, lambda uid, by: by == ("NodeResourcesFit",)) == 1
    assert q.pop(5.0) == A


def test_a_pod_woken_within_its_backoff_goes_early_only_when_nothing_else_is_active() -> None:
    q = queue()
    for uid in (A, B):
        q.add(uid, 0, 0.0)
    q.pop(0.0)
    q.park(A, 0.0, ("x",))
    q.wake(0.1, always)
    assert q.place(A) == "backoff"
    assert q.pop(0.1) == B
    assert q.pop(0.1) == A


def fails(q: Queue, uid: PodUid, at: float) -> None:
    assert q.pop(at) == uid
    q.park(uid, at, ("x",))


def test_among_equals_goes_first_who_failed_longest_ago_or_came_earliest() -> None:
    """Timestamp of queuesort/priority_sort.go: waking up does not send a pod behind those that came meanwhile."""
    q = queue()
    q.add(A, 0, 0.0)
    fails(q, A, 0.0)
    q.add(B, 0, 100.0)
    q.wake(200.0, always)
    assert [q.pop(200.0), q.pop(200.0)] == [A, B]


def test_within_one_second_of_backoff_the_higher_priority_goes_first() -> None:
    """lessBackoffCompletedWithPriority: else the room that appears goes to the pod that failed 0.2 s sooner."""
    q = queue()
    q.add(A, 0, 0.1)
    fails(q, A, 0.1)
    q.add(B, 9, 0.3)
    fails(q, B, 0.3)
    q.wake(0.5, always)
    assert (q.place(A), q.place(B)) == ("backoff", "backoff")
    assert [q.pop(0.5), q.pop(0.5)] == [B, A]


def test_errors_do_not_lengthen_the_backoff_of_a_pod_that_does_not_fit() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    for at in (20.0, 40.0, 60.0):
        assert q.pop(at) == A
        q.retry(A, at)
    fails(q, A, 80.0)
    q.wake(81.0, always)
    assert q.place(A) == "active"


def test_a_pod_that_went_away_does_not_hide_the_next_one() -> None:
    q = queue()
    q.add(A, 5, 0.0)
    q.add(B, 0, 0.0)
    q.drop(A)
    assert q.next_at() == float("-inf")
    assert q.pop(0.0) == B


def test_what_may_be_popped_early_is_due() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    fails(q, A, 0.0)
    assert q.next_at() == 300.0
    q.wake(0.5, always)
    assert (q.place(A), q.next_at()) == ("backoff", float("-inf"))


def test_an_error_is_never_popped_early() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    q.add(B, 0, 0.0)
    q.pop(0.0)
    q.retry(A, 0.0)
    q.pop(0.0)
    q.park(B, 0.0, ("x",))
    q.wake(0.1, always)
    assert [q.pop(0.2), q.pop(0.2)] == [B, None]
    assert q.pop(1.0) == A


def test_what_sat_parked_for_five_minutes_is_tried_again() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    q.pop(0.0)
    q.park(A, 0.0, ("x",))
    assert q.pop(299.0) is None
    due = q.next_at()
    assert due is not None
    assert 300.0 <= due <= 330.0
    assert q.pop(due + 30.0) == A


def test_success_of_the_lists_forgets_the_error_count() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    at = 0.0
    for _ in range(4):
        at += 20.0
        q.pop(at)
        q.retry(A, at)
    at += 20.0
    q.pop(at)
    q.park(A, at, ("x",))
    q.wake(at + 0.5, always)
    q.pop(at + 0.5)
    q.retry(A, at + 0.5)
    assert q.next_at() == pytest.approx(at + 1.5)


def test_the_text_is_news_once() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    assert [q.says(A, "x"), q.says(A, "x"), q.says(A, "y"), q.says(A, "x")] == [True, False, True, True]


def test_a_queue_that_nobody_pops_does_not_grow_with_pods_that_come_and_go() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    for n in range(20_000):
        q.add(PodUid(str(n)), 0, 1.0)
        q.drop(PodUid(str(n)))
    assert len(q._active) < 2_000
    assert q.pop(2.0) == A


def parked(q: Queue, count: int, rejecting: tuple[str, ...], kind: str) -> list[PodUid]:
    uids = [PodUid(f"{kind}-{rejecting}-{n}") for n in range(count)]
    for uid in uids:
        q.add(uid, 0, 0.0)
        assert q.pop(0.0) == uid
        q.park(uid, 0.0, rejecting, kind)
    return uids


def test_pods_that_are_alike_are_asked_about_once() -> None:
    q = queue()
    web, db = parked(q, 500, ("x",), "web"), parked(q, 500, ("x",), "db")
    parked(q, 500, ("deaf",), "web")
    asked = []

    def woken_by(uid: PodUid, rejecting: tuple[str, ...]) -> bool:
        asked.append((uid, rejecting))
        return uid == db[0]

    assert q.wake(60.0, woken_by, heard_by=lambda rejecting: rejecting == ("x",)) == 500
    assert asked == [(web[0], ("x",)), (db[0], ("x",))]
    assert {q.place(uid) for uid in db} == {"active"}
    assert {q.place(uid) for uid in web} == {"unschedulable"}


def test_a_pod_that_changed_in_vain_is_asked_about_with_those_that_it_is_like_now() -> None:
    q = queue()
    first, second = parked(q, 2, ("x",), "web")
    q.touch(first, 1.0, "db", lambda rejecting: False)
    asked = []
    q.wake(60.0, lambda uid, by: bool(asked.append(uid)))
    assert asked == [second, first]
    q.touch(second, 60.0, "db", lambda rejecting: rejecting == ("x",))
    assert (q.place(first), q.place(second)) == ("unschedulable", "active")


def test_a_pod_that_changes_keeps_its_place_while_it_is_active_or_backs_off() -> None:
    q = queue()
    q.add(A, 0, 0.0)
    q.touch(A, 0.0, "new", lambda rejecting: pytest.fail("asked"))
    fails(q, A, 0.0)
    q.wake(0.1, always)
    q.touch(A, 0.2, "new", lambda rejecting: pytest.fail("asked"))
    assert q.place(A) == "backoff"


def test_who_was_gated_waits_since_it_was_first_seen() -> None:
    """Upstream's QueuedPodInfo.Timestamp is set when the pod is added, gated or not."""
    q = queue()
    q.add(A, 0, 5.0)
    q.add(B, 0, 9.0, since=1.0)
    assert [q.pop(9.0), q.pop(9.0)] == [B, A]
    assert q.first_at(B) == 9.0


def test_between_equals_not_the_order_of_telling_decides() -> None:
    for order in ((A, B, C), (C, B, A)):
        q = queue()
        for uid in order:
            q.add(uid, 0, 1.0, tie=(0.0, 1, uid))
        assert [q.pop(1.0) for _ in order] == [A, B, C]


class InOnePlace(RuleBasedStateMachine):
    """Whatever is done, every pod is in exactly one place, and none is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.q = queue()
        self.at = 0.0
        self.alive: set[PodUid] = set()
        self.binding: set[PodUid] = set()

    @rule(n=st.integers(0, 5), priority=st.integers(0, 2))
    def add(self, n: int, priority: int) -> None:
        uid = PodUid(str(n))
        if uid not in self.alive:
            self.q.add(uid, priority, self.at)
            self.alive.add(uid)

    @rule(n=st.integers(0, 5))
    def drop(self, n: int) -> None:
        self.q.drop(PodUid(str(n)))
        self.alive.discard(PodUid(str(n)))
        self.binding.discard(PodUid(str(n)))

    @rule()
    def pop(self) -> None:
        uid = self.q.pop(self.at)
        if uid is not None:
            assert uid in self.alive
            assert uid not in self.binding
            self.binding.add(uid)

    @rule(how=st.sampled_from(["park", "retry"]), alike=st.sampled_from([None, "a", "b"]))
    def end(self, how: str, alike: str | None) -> None:
        for uid in sorted(self.binding)[:1]:
            self.binding.remove(uid)
            if how == "park":
                self.q.park(uid, self.at, ("x",), alike)
            else:
                self.q.retry(uid, self.at)

    @rule()
    def wake(self) -> None:
        self.q.wake(self.at, always)

    @rule(n=st.integers(0, 5), alike=st.sampled_from(["a", "b"]), helps=st.booleans())
    def touch(self, n: int, alike: str, helps: bool) -> None:
        if (uid := PodUid(str(n))) in self.alive:
            self.q.touch(uid, self.at, alike, lambda rejecting: helps)

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.at += seconds

    @invariant()
    def each_in_one_place(self) -> None:
        counts = self.q.counts()
        assert sum(counts.values()) == len(self.alive)
        assert counts["binding"] == len(self.binding)

    def teardown(self) -> None:
        self.at += 1000.0
        found = set()
        while (uid := self.q.pop(self.at)) is not None:
            found.add(uid)
        assert found == self.alive - self.binding


TestInOnePlace = InOnePlace.TestCase
TestInOnePlace.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
