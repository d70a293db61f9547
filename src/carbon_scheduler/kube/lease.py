"""One active scheduler: leader election by a Lease, with client-go's rules (tools/leaderelection, v0.36.3).

Others' times are never compared with our clock: a lease counts as held until its own duration has passed, on our clock, since
we last saw it change. Our own counts from the moment *before* the renewal was sent. `check` before each write makes a process
that was stopped and continued notice at once that its time is over, a `Fence` ends it when it was stopped after the check;
over is over: it never leads again.
"""

from __future__ import annotations

import logging
import socket
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from carbon_scheduler.errors import ApiStatusError, ClusterError, LeaseLost
from carbon_scheduler.kube.client import segment

if TYPE_CHECKING:
    from carbon_scheduler.kube.client import ApiClient
    from carbon_scheduler.kube.fence import Fence

_log = logging.getLogger(__name__)

JITTER = 1.2
"""JitterFactor: a candidate waits the retry period times 1 to 2.2."""
MAX_FOREIGN_S = 3600.0
"""A duration in somebody else's lease above this is taken for this."""


class LeaseSpec(msgspec.Struct, rename="camel"):
    """spec of a coordination.k8s.io/v1 Lease; unknown fields are kept apart (`Election` writes the whole object back)."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Election:
    """Our candidacy for one Lease.

    `await acquire()`, then `run()` in the background, `check()` before each write, `await release()` at a clean end.
    `leader` is who held it when last seen. Durations in seconds; a renewal must succeed each `renew_deadline_s`. `fence` is
    armed for the moment from which another may lead.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        *,
        identity: str | None = None,
        lease_duration_s: float = 15.0,
        renew_deadline_s: float = 10.0,
        retry_period_s: float = 2.0,
        fence: Fence | None = None,
    ) -> None:
        self.identity = identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self.leader = ""
        self._client = client
        self._leading = client.guarded(self.check)
        self._fence = fence
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{segment(namespace)}/leases"
        self._namespace = namespace
        self._name = name
        self._duration_s = lease_duration_s
        self._deadline_s = renew_deadline_s
        self._retry_s = retry_period_s
        self._seen: tuple[LeaseSpec, float] | None = None
        self._lease: dict[str, object] = {}
        self._valid_until_s: float | None = None
        self._lost: str | None = None

    async def acquire(self) -> None:
        """Returns when we lead; waits as long as another does. Raises LeaseLost when we led before: that is final."""
        while True:
            self._raise_if_lost()
            if await self._try():
                _log.info("leading: lease %s/%s is ours (%s)", self._namespace, self._name, self.identity)
                return
            await self._client.clock.sleep(self._retry_s * (1 + JITTER * self._client.chance.random()))

    async def run(self) -> None:
        """Renews for ever. Raises LeaseLost when it could not for the renew deadline, or when another took over."""
        while True:
            await self._client.clock.sleep(self._retry_s)
            self.check()
            await self._try()
            if self.leader not in ("", self.identity):
                self._lose(f"{self.leader} holds lease {self._namespace}/{self._name} now")
            self.check()

    def check(self) -> None:
        """Raises LeaseLost unless we lead for certain now. Costs one reading of the clock; call it before each write."""
        self._raise_if_lost()
        now_s = self._client.clock.monotonic()
        if self._valid_until_s is None:
            raise LeaseLost(f"lease {self._namespace}/{self._name}: not acquired")
        if now_s >= self._valid_until_s:
            late_s = now_s - self._valid_until_s
            self._lose(
                f"lease {self._namespace}/{self._name}: not renewed within {self._deadline_s:g} s ({late_s:.1f} s late); "
                "is the API server reachable, or was this process stopped?"
            )
            self._raise_if_lost()

    @property
    def leads(self) -> bool:
        """Whether `check` would pass, without its consequence."""
        if self._lost is not None or self._valid_until_s is None:
            return False
        return self._client.clock.monotonic() < self._valid_until_s

    async def release(self) -> None:
        """Gives the lease up, so that the next one need not wait for its end. Best effort; we never lead again."""
        led = self.leads
        self._lose("released")
        if self._fence is not None:
            self._fence.disarm()
        if not led:
            return
        spec = LeaseSpec("", 1, _micro_time(self._client.clock.wall()), _micro_time(self._client.clock.wall()))
        spec.lease_transitions = self._seen[0].lease_transitions if self._seen else None
        try:
            await self._put(spec)
        except ClusterError as error:
            _log.warning("lease not released, the next leader waits for its end: %s", error)

    # -- one attempt

    async def _try(self) -> bool:
        """tryAcquireOrRenew: whether we hold the lease after it."""
        try:
            return await self._attempt()
        except ClusterError as error:
            _log.warning("lease %s/%s: %s", self._namespace, self._name, error)
            return False

    async def _attempt(self) -> bool:
        # The moment before sending: others can have seen our record no earlier.
        sent_s = self._client.clock.monotonic()
        if self.leads and self._seen is not None and self._lease:
            try:
                await self._put(self._record(self._seen[0], renewed=True), self._leading)
            except ApiStatusError as error:
                if error.code not in (404, 409):
                    raise
            else:
                return self._won(sent_s)
        sent_s = self._client.clock.monotonic()
        try:
            found = await self._client.request("GET", f"{self._path}/{segment(self._name)}", timeout_s=self._deadline_s)
        except ApiStatusError as error:
            if error.code != 404:
                raise
            return await self._create()
        spec = self._read(found)
        self._observe(spec, self._client.clock.monotonic())
        if spec.holder_identity not in (None, "", self.identity) and self._held(sent_s):
            return False
        if spec.holder_identity == self.identity and not self.leads:
            # Our own name without our leading: an earlier life of ours whose answer was lost. Taken as ours.
            _log.info("lease %s/%s carries our identity already", self._namespace, self._name)
        sent_s = self._client.clock.monotonic()
        try:
            await self._put(self._record(spec, renewed=spec.holder_identity == self.identity))
        except ApiStatusError as error:
            if error.code == 409:  # another was faster
                return False
            raise
        return self._won(sent_s)

    async def _create(self) -> bool:
        sent_s = self._client.clock.monotonic()
        spec = self._record(LeaseSpec(lease_transitions=-1), renewed=False)
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }
        try:
            made = await self._client.request(
                "POST", self._path, body=msgspec.json.encode(body), timeout_s=self._deadline_s
            )
        except ApiStatusError as error:
            if error.code == 409:
                return False
            raise
        self._observe(self._read(made), self._client.clock.monotonic())
        return self._won(sent_s)

    async def _put(self, spec: LeaseSpec, client: ApiClient | None = None) -> None:
        """Replaces the lease that we saw: its resourceVersion makes this fail when anybody changed it since."""
        body = {**self._lease, "spec": {**_object(self._lease.get("spec")), **msgspec.to_builtins(spec)}}
        made = await (client or self._client).request(
            "PUT",
            f"{self._path}/{segment(self._name)}",
            body=msgspec.json.encode(body),
            timeout_s=self._deadline_s,
            max_wait_s=self._deadline_s,
        )
        self._observe(self._read(made), self._client.clock.monotonic())

    def _record(self, before: LeaseSpec, *, renewed: bool) -> LeaseSpec:
        now = _micro_time(self._client.clock.wall())
        transitions = before.lease_transitions or 0
        return LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=int(self._duration_s),
            acquire_time=before.acquire_time if renewed and before.acquire_time else now,
            renew_time=now,
            lease_transitions=transitions if renewed else transitions + 1,
        )

    def _read(self, body: bytes) -> LeaseSpec:
        try:
            lease = msgspec.json.decode(body, type=dict[str, object])
            spec = msgspec.convert(lease.get("spec") or {}, LeaseSpec)
        except (ValueError, RecursionError) as error:
            raise ClusterError(f"GET {self._path}/{self._name}: not a Lease: {str(error)[:200]}") from error
        self._lease = lease
        return spec

    def _observe(self, spec: LeaseSpec, now_s: float) -> None:
        if self._seen is None or self._seen[0] != spec:
            self._seen = (spec, now_s)
        self.leader = spec.holder_identity or ""

    def _held(self, now_s: float) -> bool:
        assert self._seen is not None
        spec, seen_s = self._seen
        duration_s = min(float(spec.lease_duration_seconds or self._duration_s), MAX_FOREIGN_S)
        return now_s < seen_s + duration_s

    def _won(self, sent_s: float) -> bool:
        self.leader = self.identity
        if self._lost is None:
            self._valid_until_s = sent_s + self._deadline_s
        if self.leads and self._fence is not None:
            self._fence.arm(sent_s + self._duration_s - self._client.clock.monotonic())
        return self.leads

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = why

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise LeaseLost(self._lost)


def _object(found: object) -> dict[str, object]:
    return found if isinstance(found, dict) else {}


def _micro_time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
