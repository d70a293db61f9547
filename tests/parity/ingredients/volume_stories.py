"""What a pending pod may want of volumes: small stories in which one rule decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parity.ingredients.volume_words import MIB, MODES, REGION_KEYS, ZONE_KEYS, ZONES

if TYPE_CHECKING:
    from parity.draft import JSON
    from parity.ingredients.volumes import Volumes


def hardly_enough(made: Volumes) -> None:
    """The pending pod wants volumes of several sizes, of which there are hardly enough."""
    draft = made.draft
    for i in range(draft.one_of("volumes wanted", (2, 3))):
        name, size = f"tight-{i}", (60, 120, 240)[i] * MIB
        claim = _want(made, name, "local", size)
        if draft.chance("its volume is there", 0.9):
            volume = _plain_volume(
                made, f"of-{name}", "local", size, claim if draft.chance("it is reserved", 0.3) else None
            )
            _local(made, volume)
    for i in range(draft.rng.randint(0, 2)):
        _local(made, _plain_volume(made, f"spare-{i}", "local", draft.rng.choice((60, 120, 240)) * MIB, None))
    draft.rng.shuffle(draft.pod["spec"]["volumes"])


def hardly_room(made: Volumes) -> None:
    """It wants volumes to be made, where a driver says how much room it has."""
    draft = made.draft
    for i in range(draft.one_of("volumes to be made", (1, 2))):
        _want(made, f"made-{i}", "roomy", draft.rng.choice((60, 120)) * MIB)
    for one in draft.extra["storageclasses"]:
        if one["metadata"]["name"] == "roomy":
            one["provisioner"] = "csi.example.com"
    others = [one for one in draft.extra["csidrivers"] if one["metadata"]["name"] != "csi.example.com"]
    spec = {"storageCapacity": draft.chance("the driver tells its room", 0.9)}
    draft.extra["csidrivers"] = [*others, {"metadata": {"name": "csi.example.com"}, "spec": spec}]
    for one in draft.extra["csistoragecapacities"]:
        one["storageClassName"] = "roomy"


def for_one_pod(made: Volumes) -> None:
    """It wants a claim for one pod that others may use."""
    claim = _want(made, "single", "wait", 60 * MIB, mode=MODES[3])
    _bind(made, claim)
    for pod in made.draft.pods:
        if made.draft.chance("another uses its claim", 0.15):
            volume = {"name": "single", "persistentVolumeClaim": {"claimName": made.named_for(pod, "single")}}
            pod["spec"].setdefault("volumes", []).append(volume)


def in_a_zone(made: Volumes) -> None:
    """It wants a volume that lies in some zones, by its labels alone."""
    claim = _want(made, "zoned", "wait", 60 * MIB)
    volume = _bind(made, claim)
    key = made.draft.one_of("key of a zone", (*ZONE_KEYS, *REGION_KEYS))
    places = ZONES if key in ZONE_KEYS else ("eu-west", "us-east")
    chosen = made.draft.rng.sample(places, k=made.draft.rng.randint(1, 2))
    volume["metadata"]["labels"] = {key: "__".join(chosen)}


def node_chosen(made: Volumes) -> None:
    """It wants a claim for which a node was chosen before."""
    claim = _want(made, "chosen", "wait", 60 * MIB)
    node = made.draft.rng.choice(made.names)
    claim["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": node}


def of_an_old_type(made: Volumes) -> None:
    """It wants a volume of an old type in a zone, which nodes may know by another label."""
    draft = made.draft
    volume = _bind(made, _want(made, "old", "old", 60 * MIB))
    kind = draft.one_of("its old type", ("awsElasticBlockStore", "gcePersistentDisk", "cinder"))
    del volume["spec"]["local"]
    volume["spec"][kind] = made.old(kind, of_volume=True)
    zones = {"key": draft.rng.choice(ZONE_KEYS), "operator": "In", "values": draft.rng.sample(ZONES, k=2)}
    volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [zones]}]}}


def shared_disk(made: Volumes) -> None:
    """It wants a disk that others may have."""
    draft = made.draft
    kind = draft.one_of("the disk is", ("awsElasticBlockStore", "gcePersistentDisk", "iscsi", "rbd"))
    draft.pod["spec"].setdefault("volumes", []).append({"name": "disk", kind: made.old(kind, of_volume=False)})
    for pod in draft.pods:
        if draft.chance("another has such a disk", 0.25):
            volume = {"name": "disk", kind: made.old(kind, of_volume=False)}
            pod["spec"].setdefault("volumes", []).append(volume)


def _want(made: Volumes, name: str, of_class: str, size: int, mode: str = MODES[0]) -> JSON:
    """A plain claim, which the pending pod uses."""
    meta: JSON = {
        "name": name,
        "namespace": made.draft.pod["metadata"]["namespace"],
        "uid": f"{made.draft.name}/{name}",
    }
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": str(size)}}, "storageClassName": of_class}
    claim: JSON = {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
    made.claims.append(claim)
    volume = {"name": name, "persistentVolumeClaim": {"claimName": name}}
    made.draft.pod["spec"].setdefault("volumes", []).append(volume)
    return claim


def _bind(made: Volumes, claim: JSON) -> JSON:
    """Gives a claim a plain volume."""
    name = claim["metadata"]["name"]
    claim["spec"]["volumeName"] = f"of-{name}"
    claim["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    claim["status"]["phase"] = "Bound"
    return _plain_volume(made, f"of-{name}", claim["spec"]["storageClassName"], 60 * MIB, claim)


def _plain_volume(made: Volumes, name: str, of_class: str, size: int, claim: JSON | None) -> JSON:
    spec: JSON = {
        "capacity": {"storage": str(size + len(made.volumes))},
        "accessModes": [MODES[0]],
        "storageClassName": of_class,
        "local": {"path": "/mnt"},
    }
    if claim is not None:
        made.refer(spec, claim)
    made.volumes.append({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}})
    return made.volumes[-1]


def _local(made: Volumes, volume: JSON) -> None:
    if made.draft.chance("it is on a few nodes", 0.5):
        some = sorted({made.draft.rng.choice(made.names) for _ in range(4)})
        there = {"key": "kubernetes.io/hostname", "operator": "In", "values": some}
        volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}}
