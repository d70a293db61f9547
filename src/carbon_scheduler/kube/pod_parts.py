"""Parts of a pod that decide where it may run beside its resources: other pods, volumes, images, features, its owner.

Each function reads one part of the spec; what cannot be read is noted in the pod's refusal. Sources: kube-scheduler v0.36.3
framework/types.go (newAffinityTerm), pkg/scheduler/framework/plugins of 1.36.3 (podtopologyspread/common.go,
imagelocality/image_locality.go, helper/spread.go, volumerestrictions, nodevolumelimits), component-helpers v0.36.3
nodedeclaredfeatures/features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core import model
from carbon_scheduler.kube.refusal import Refusal, within
from carbon_scheduler.kube.selectors import label_selector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.kube import wire
    from carbon_scheduler.kube import wire_parts as parts

INT32: Final = (-(2**31), 2**31 - 1)
CONTROLLERS: Final = (("v1", "ReplicationController"), ("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"))
"""The owners whose selectors default spreading reads."""
_WHEN: Final = {"DoNotSchedule": True, "ScheduleAnyway": False}


def pod_terms(
    found: list[parts.PodTerm | None] | None, namespace: str, where: str, refusal: Refusal
) -> tuple[model.PodTerm, ...]:
    """Required terms of affinity or anti-affinity."""
    return tuple([_pod_term(term, namespace, refusal) for term in refusal.bounded(found, where)])


def weighted_terms(
    found: list[parts.WeightedPodTerm | None] | None, namespace: str, where: str, refusal: Refusal
) -> tuple[model.WeightedPodTerm, ...]:
    """Preferred terms of affinity or anti-affinity."""
    return tuple(
        [
            model.WeightedPodTerm(within(part.weight, *INT32), _pod_term(part.pod_affinity_term, namespace, refusal))
            for part in refusal.bounded(found, where)
        ]
    )


def _pod_term(found: parts.PodTerm | None, namespace: str, refusal: Refusal) -> model.PodTerm:
    if found is None:
        return model.PodTerm("", None, (namespace,))
    names = set(refusal.bounded(found.namespaces, "namespaces"))
    if not names and found.namespace_selector is None:
        names = {namespace}
    return model.PodTerm(
        found.topology_key or "",
        label_selector(found.label_selector, refusal),
        tuple(sorted(names)),
        label_selector(found.namespace_selector, refusal),
    )


def spread(
    found: list[parts.SpreadConstraint | None], labels: Mapping[str, str | None], refusal: Refusal
) -> tuple[model.SpreadConstraint, ...]:
    """Topology spread constraints, hard and soft, in their order."""
    where = "spec.topologySpreadConstraints"
    made = []
    for part in refusal.bounded(found, where):
        hard = _WHEN.get(part.when_unsatisfiable or "")
        if hard is None:
            refusal.add(f"{where}: whenUnsatisfiable: got {part.when_unsatisfiable!r}, expected one of {list(_WHEN)}")
            continue
        carried = {key or "" for key in part.match_label_keys or ()} & labels.keys()
        made.append(
            model.SpreadConstraint(
                part.topology_key or "",
                within(part.max_skew, *INT32),
                hard,
                label_selector(part.label_selector, refusal),
                tuple(sorted(carried)),
                None if part.min_domains is None else within(part.min_domains, *INT32),
                (part.node_affinity_policy or "Honor") == "Honor",
                part.node_taints_policy == "Honor",
            )
        )
    return tuple(made)


def images(spec: wire.PodSpec, refusal: Refusal) -> tuple[tuple[str, ...], int]:
    """(normalised names of init containers, containers and image volumes; how many containers of both sorts there are)."""
    containers = refusal.bounded(spec.containers, "spec.containers")
    if spec.init_containers:
        containers = [*refusal.bounded(spec.init_containers, "spec.initContainers"), *containers]
    names = [_image_name(container.image or "") for container in containers]
    mounted = [v.image for v in refusal.bounded(spec.volumes, "spec.volumes") if v.image is not None]
    names += [_image_name(image.reference or "") for image in mounted]
    return tuple(names), len(containers)


def _image_name(name: str) -> str:
    """With ":latest" where neither tag nor digest is given (normalizedImageName)."""
    return name if name.rfind(":") > name.rfind("/") else f"{name}:latest"


def volumes(found: list[parts.Volume | None], refusal: Refusal) -> tuple[model.PodVolume, ...]:
    """The volumes that matter to where a pod may run; most (secrets, config maps, projected tokens) do not."""
    made = []
    for volume in refusal.bounded(found, "spec.volumes"):
        if volume.persistent_volume_claim is not None:
            made.append(model.PodVolume("claim", volume.persistent_volume_claim.claim_name or ""))
        elif volume.ephemeral is not None:
            made.append(model.PodVolume("ephemeral", volume.name or ""))
        elif volume.csi is not None:
            made.append(model.PodVolume("csi", volume.csi.driver or ""))
        elif (in_tree := _in_tree(volume)) is not None:
            made.append(in_tree)
    return tuple(made)


def _in_tree(volume: parts.Volume) -> model.PodVolume | None:
    if (ebs := volume.aws_elastic_block_store) is not None:
        return model.PodVolume("awsElasticBlockStore", ebs.volume_id or "", bool(ebs.read_only))
    if (gce := volume.gce_persistent_disk) is not None:
        return model.PodVolume("gcePersistentDisk", gce.pd_name or "", bool(gce.read_only))
    if (iscsi := volume.iscsi) is not None:
        return model.PodVolume("iscsi", iscsi.iqn or "", bool(iscsi.read_only))
    if (rbd := volume.rbd) is not None:
        monitors = sorted({monitor or "" for monitor in rbd.monitors or ()})
        return model.PodVolume("rbd", rbd.image or "", bool(rbd.read_only), (rbd.pool or "rbd", *monitors))
    if (azure := volume.azure_disk) is not None:
        return model.PodVolume("azureDisk", azure.disk_uri or "", bool(azure.read_only), (azure.kind or "Managed",))
    if (cinder := volume.cinder) is not None:
        return model.PodVolume("cinder", cinder.volume_id or "", bool(cinder.read_only))
    if (portworx := volume.portworx_volume) is not None:
        return model.PodVolume("portworxVolume", portworx.volume_id or "", bool(portworx.read_only))
    if volume.azure_file is not None:
        return model.PodVolume("azureFile", volume.name or "")
    if volume.vsphere_volume is not None:
        return model.PodVolume("vsphereVolume", volume.name or "")
    return None


def needs_features(spec: wire.PodSpec) -> tuple[str, ...]:
    """Names of the node features that a pod needs to be scheduled (InferForScheduling), sorted."""
    needed = []
    for container in (*(spec.containers or ()), *(spec.init_containers or ())):
        rules = container.restart_policy_rules if container is not None else None
        if rules and any(rule is not None and rule.action == "RestartAllContainers" for rule in rules):
            needed.append("RestartAllContainersOnContainerExits")
            break
    if spec.host_network and spec.host_users is False:
        needed.append("UserNamespacesHostNetworkSupport")
    return tuple(needed)


def owner(found: list[parts.Owner | None] | None) -> model.Owner | None:
    """The controller, when it is of a kind that default spreading reads."""
    controller = controller_of(found)
    if controller is None or (controller.api_version, controller.kind) not in CONTROLLERS:
        return None
    return model.Owner(controller.api_version or "", controller.kind or "", controller.name or "")


def controller_of(found: list[parts.Owner | None] | None) -> parts.Owner | None:
    """The first owner that is a controller (metav1.GetControllerOf)."""
    for part in found or ():
        if part is not None and part.controller:
            return part
    return None


def preempted(status: wire.PodStatus) -> bool:
    """Whether a scheduler has asked this pod to go, to make room for another one."""
    for condition in status.conditions or ():
        if condition is not None and condition.type == "DisruptionTarget":
            return condition.status == "True" and condition.reason == "PreemptionByScheduler"
    return False
