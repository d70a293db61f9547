"""The volumes of a pod: whose claims they are, and which are the same disk.

Sources: component-helpers v0.36.3 storage/ephemeral/ephemeral.go, kube-scheduler v1.36.3 plugins/volumerestrictions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_scheduler.core.model import Pod, PodVolume
    from carbon_scheduler.core.objects import Claim

DISKS: Final = ("gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd")
"""In-tree types that two pods on a node may not both use, or only for reading."""


class BadVolume(ValueError):
    """A volume that upstream's plugin fails at; the message says why. The attempt ends in an error."""


class NoClaim(LookupError):
    """A claim of the pending pod that does not exist, in upstream's words."""


def claim_key(pod: Pod, volume: PodVolume) -> str:
    """`namespace/name` of the claim behind a volume of kind "claim" or "ephemeral"."""
    name = volume.ref if volume.kind == "claim" else f"{pod.name}-{volume.ref}"
    return f"{pod.namespace}/{name}"


def owned(claim: Claim, pod: Pod) -> bool:
    """Whether a claim was made for this pod's ephemeral volume."""
    return claim.owner_uid == pod.uid


def not_owned(claim: Claim, pod: Pod) -> str:
    """Upstream's words for a claim that has an ephemeral volume's name and another owner."""
    return f"PVC {claim.key} was not created for pod {pod.key} (pod is not owner)"


def claim_missing(name: str) -> str:
    return f'persistentvolumeclaim "{name}" not found'


def disks_of(volume: PodVolume) -> Iterator[tuple[str, ...]]:
    """What two volumes have in common when they are the same disk. An rbd image is one disk for each of its monitors."""
    if volume.kind == "rbd":
        pool, *monitors = volume.more or ("",)
        for monitor in monitors:
            yield "rbd", monitor, pool, volume.ref
    elif volume.kind in DISKS:
        yield volume.kind, volume.ref


def clash(a: PodVolume, b: PodVolume) -> bool:
    """Whether two pods with these volumes cannot run on one node (isVolumeConflict)."""
    shared = set(disks_of(a)) & set(disks_of(b))
    return bool(shared) and (a.kind == "awsElasticBlockStore" or not (a.read_only and b.read_only))
