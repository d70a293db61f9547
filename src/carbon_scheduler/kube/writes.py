"""The writes of a decision: the Binding, the PodScheduled condition with the nomination, the eviction of a victim, and the read
that settles a lost answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

from carbon_scheduler.core.decision import Nominate
from carbon_scheduler.core.events import Bound, Evicted, NotEvicted, Refused, Unknown
from carbon_scheduler.errors import ApiStatusError, ApiUnreachable, ClusterError
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.client import MERGE, STRATEGIC_MERGE, segment
from carbon_scheduler.kube.clock import Backoff
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.units import LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_scheduler.core import decision, model
    from carbon_scheduler.core.model import PodUid
    from carbon_scheduler.kube.client import ApiClient

_log = logging.getLogger(__name__)

T = TypeVar("T")


class _OfPod(Protocol):
    """An effect that is about one pod."""

    @property
    def uid(self) -> PodUid: ...
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...


MAX_ANNOTATIONS_B = 262_144
"""TotalAnnotationSizeLimitB (apimachinery validation). The API server does not check it on a Binding, and a pod above it can
never be updated again."""
CONDITION_TRIES = 4
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class BindAnswer:
    """How a Binding ended. `code` is the HTTP status, 0 when the request never reached the server or its answer was lost."""

    outcome: Literal["bound", "refused", "unknown"]
    code: int = 0
    message: str = ""
    said: str = ""
    """The API server's own words, where it answered: what kube-scheduler tells the pod."""

    def event(self, effect: decision.Bind, at: float, wall: float) -> Bound | Refused | Unknown:
        """The same as an event for the core."""
        if self.outcome == "bound":
            return Bound(at, wall, effect.uid, effect.node, effect.decision.seq)
        if self.outcome == "refused":
            return Refused(at, wall, effect.uid, effect.node, effect.decision.seq, self.code, self.said or self.message)
        return Unknown(at, wall, effect.uid, effect.node, effect.decision.seq, self.message)


@dataclass(frozen=True, slots=True)
class EvictAnswer:
    """How an eviction ended: "gone" is a victim that was deleted already. `code` is the HTTP status, 0 without an answer: then
    it may have been carried out."""

    outcome: Literal["evicted", "gone", "failed"]
    code: int = 0
    message: str = ""

    def event(self, effect: decision.Evict, at: float, wall: float) -> Evicted | NotEvicted:
        """The same as an event for the core."""
        if self.outcome == "failed":
            return NotEvicted(at, wall, effect.uid, self.code, self.message)
        return Evicted(at, wall, effect.uid)


class Writer:
    """Carries out effects. Nothing here raises a ClusterError: every outcome is an answer."""

    def __init__(self, client: ApiClient, converter: Converter | None = None) -> None:
        self._client = client
        self._converter = converter or Converter()
        self._conditioned: dict[PodUid, None] = {}
        self._refused: dict[PodUid, tuple[str | None, ...]] = {}

    async def bind(self, effect: decision.Bind) -> BindAnswer:
        """POSTs the Binding once. Whatever the body of a 2xx answer says (it is a Status without target): it is bound.

        A 5xx may have been carried out (a timeout of etcd's, for one): unknown, like a lost answer. A 429 is waited out.
        """
        try:
            await self._client.request("POST", f"{_pod(effect.namespace, effect.name)}/binding", body=binding(effect))
        except ApiStatusError as error:
            outcome: Literal["unknown", "refused"] = "unknown" if error.code >= 500 else "refused"
            return BindAnswer(outcome, error.code, str(error), error.said)
        except ApiUnreachable as error:
            return BindAnswer("unknown" if error.sent else "refused", 0, str(error))
        return BindAnswer("bound", 201)

    async def bind_volumes(self, effect: decision.BindVolumes) -> str:
        """Writes each volume's claimRef, then each claim's selected node, and stops at the first that fails: why it did, or "".

        Nothing is written twice and nothing is taken back, as upstream (v1.36.3 plugins/volumebinding/binder.go
        bindAPIUpdate): a new attempt starts from what the watch shows. The resourceVersion makes a patch fail on anything else
        than what the choice was made from.
        """
        patches = [(f"/api/v1/persistentvolumes/{segment(one.name)}", _claim_ref(one)) for one in effect.volumes]
        patches += [
            (
                f"/api/v1/namespaces/{segment(one.namespace)}/persistentvolumeclaims/{segment(one.name)}",
                _annotated(one.resource_version, "volume.kubernetes.io/selected-node", effect.node),
            )
            for one in effect.claims
        ]
        for path, patch in patches:
            try:
                await self._client.request("PATCH", path, body=msgspec.json.encode(patch), content_type=MERGE)
            except ApiStatusError as error:
                return error.said or str(error)
            except ClusterError as error:
                return str(error)
        return ""

    async def read_pod(self, namespace: str, name: str, uid: PodUid) -> model.Pod | None:
        """The pod as the API server has it now; None when it is gone or its name belongs to another. Asks until it knows."""
        backoff = Backoff(self._client.chance, base_s=0.1, cap_s=5.0)
        while True:
            try:
                found = wire.PODS.one(await self._client.request("GET", _pod(namespace, name)))
            except ApiStatusError as error:
                if error.code == 404 and error.reason == "NotFound":  # not a proxy's: that would lose the pod
                    return None
                problem = str(error)
            except ClusterError as error:
                problem = str(error)
            except ValueError as error:
                problem = f"GET {_pod(namespace, name)}: {error}"
            else:
                pod = self._converter.pod(found)
                return pod if pod.uid == uid else None
            if backoff.failures == 0:
                _log.warning("%s; asking on", problem)
            await self._client.clock.sleep(backoff.next_s())

    async def condition(
        self, effect: decision.Unschedulable | decision.Nominate, still_wanted: Callable[[], bool] = lambda: True
    ) -> bool:
        """Writes PodScheduled=False, and where the pod is nominated to, as the effect has it. Whether the API server has it.

        Retried on 409, 429, 5xx and without an answer, four times in all and while it is `still_wanted`; the next attempt at
        the pod writes it again. What the API server has refused for good is not written again.
        """
        if not isinstance(effect, Nominate) and not effect.patch:
            return True
        if self._refused.get(effect.uid) == _content(effect):
            return False
        status = self._status(effect)
        error = await self._patch_status(effect, status, still_wanted)
        if error is None:
            if not isinstance(effect, Nominate):
                _remember(self._conditioned, effect.uid, None)
            return True
        if isinstance(error, ApiStatusError) and error.code not in (409, 429) and error.code < 500:
            if error.code != 404:  # gone meanwhile is no problem
                _log.warning("%s", error)
                _remember(self._refused, effect.uid, _content(effect))
        elif still_wanted():
            _log.warning("%s; given up after %d tries", error, CONDITION_TRIES)
        return False

    async def evict(self, effect: decision.Evict) -> EvictAnswer:
        """Marks a victim (DisruptionTarget) and deletes it, with its own grace and only under this uid, as kube-scheduler does
        (v1.36.3 framework/preemption/executor.go PreemptPod). The mark is retried, the deletion is not: whoever wants the room
        looks again."""
        condition: dict[str, object] = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{effect.scheduler_name}: preempting to accommodate a higher priority pod",
        }
        if not effect.marked:
            condition["lastTransitionTime"] = _rfc3339_s(self._client.clock.wall())
        if effect.generation:
            condition["observedGeneration"] = effect.generation
        try:
            if (error := await self._patch_status(effect, {"conditions": [condition]})) is not None:
                raise error
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": effect.uid}}
            body = msgspec.json.encode(options)
            await self._client.request("DELETE", _pod(effect.namespace, effect.name), body=body)
        except ApiStatusError as refused:
            if refused.code == 404:
                return EvictAnswer("gone", 404)
            return EvictAnswer("failed", refused.code, str(refused))
        except ClusterError as lost:
            return EvictAnswer("failed", 0, str(lost))
        return EvictAnswer("evicted", 200)

    async def _patch_status(
        self, effect: _OfPod, status: dict[str, object], still_wanted: Callable[[], bool] = lambda: True
    ) -> ClusterError | None:
        """A patch of pods/status, tried a few times. The error that it ended with, None when the API server has it."""
        path = f"{_pod(effect.namespace, effect.name)}/status"
        # The uid makes this patch fail on another pod of the same name.
        body = msgspec.json.encode({"metadata": {"uid": effect.uid}, "status": status})
        backoff = Backoff(self._client.chance, base_s=0.1, cap_s=2.0)
        for attempt in range(1, CONDITION_TRIES + 1):
            try:
                await self._client.request("PATCH", path, body=body, content_type=STRATEGIC_MERGE)
            except ClusterError as error:
                final = isinstance(error, ApiStatusError) and error.code not in (409, 429) and error.code < 500
                if final or attempt == CONDITION_TRIES:
                    return error
                await self._client.clock.sleep(backoff.next_s())
                if not still_wanted():
                    return error
            else:
                return None
        return None

    def _status(self, effect: decision.Unschedulable | decision.Nominate) -> dict[str, object]:
        if isinstance(effect, Nominate):
            return {"nominatedNodeName": effect.node or None}  # null takes it away
        condition: dict[str, object] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": effect.reason,
            "message": effect.message,
        }
        if effect.generation:
            condition["observedGeneration"] = effect.generation
        if effect.uid not in self._conditioned:
            # The time of the transition, not of each new message; after a restart of ours it is set once more.
            condition["lastTransitionTime"] = _rfc3339_s(self._client.clock.wall())
        status: dict[str, object] = {"conditions": [condition]}
        if effect.nominate is not None:
            status["nominatedNodeName"] = effect.nominate or None
        return status


def _content(effect: decision.Unschedulable | decision.Nominate) -> tuple[str | None, ...]:
    """What a write of it would say."""
    if isinstance(effect, Nominate):
        return ("", effect.node)
    return effect.reason, effect.message, effect.nominate


def _remember(memory: dict[PodUid, T], uid: PodUid, what: T) -> None:
    if len(memory) >= REMEMBERED:
        del memory[next(iter(memory))]
    memory[uid] = what


def binding(effect: decision.Bind) -> bytes:
    """The body of a Binding: uid as precondition, and the decision as annotations where they fit."""
    metadata: dict[str, object] = {"name": effect.name, "namespace": effect.namespace, "uid": effect.uid}
    ours = decision_annotations(effect.decision)
    size_b = sum(len(key.encode()) + len(value.encode()) for key, value in ours.items())
    if effect.annotations_b + size_b <= MAX_ANNOTATIONS_B:
        metadata["annotations"] = ours
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": metadata,
            "target": {"apiVersion": "v1", "kind": "Node", "name": effect.node},
        }
    )


def decision_annotations(made: decision.Decision) -> dict[str, str]:
    """What a Binding writes on its pod (design section 8). The plain ones are left out without a value."""
    record = {
        "seq": made.seq,
        "at": _rfc3339_us(made.at_us),
        "node": made.node,
        "grid_zone": made.grid_zone,
        "intensity_g_per_kwh": made.intensity_g_per_kwh,
        "cleanest_g_per_kwh": made.cleanest_g_per_kwh,
        "quality": made.quality,
        "source": made.source,
        "feasible": made.feasible,
        "policy": made.policy,
        "blind": made.blind,
        "saved_g_per_kwh": made.saved_g_per_kwh,
    }
    written = {LABEL_PREFIX + "decision": msgspec.json.encode(record).decode()}
    if made.grid_zone is not None:
        written[LABEL_PREFIX + "grid-zone"] = made.grid_zone
    if made.intensity_g_per_kwh is not None:
        written[LABEL_PREFIX + "intensity"] = f"{made.intensity_g_per_kwh:.2f}"
    return written


def _claim_ref(write: decision.VolumeWrite) -> dict[str, object]:
    patch: dict[str, object] = {"metadata": {"resourceVersion": write.resource_version}}
    if write.found:
        patch = _annotated(write.resource_version, "pv.kubernetes.io/bound-by-controller", "yes")
    patch["spec"] = {
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": write.claim_namespace,
            "name": write.claim_name,
            "uid": write.claim_uid,
        }
    }
    return patch


def _annotated(resource_version: str, key: str, value: str) -> dict[str, object]:
    return {"metadata": {"resourceVersion": resource_version, "annotations": {key: value}}}


def _pod(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(name)}"


def _rfc3339_us(at_us: int) -> str:
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


def _rfc3339_s(at_s: float) -> str:
    return datetime.fromtimestamp(int(at_s), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
