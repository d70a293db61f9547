"""Volumes: claims in every state, the volumes that could serve them, classes, drivers, limits, capacity, and disks of old types.

Volumes of a case all differ in size, and at most one is reserved for a claim: between equal ones upstream takes any.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from parity.draft import JSON, filled, labels_of
from parity.ingredients import volume_stories
from parity.ingredients.volume_words import (
    CLASSES,
    CSI_ZONES,
    DRIVERS,
    EBS,
    MIB,
    MODES,
    PLUGINS,
    REGION_KEYS,
    ZONE_KEYS,
    ZONES,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parity.draft import Draft


def add(draft: Draft) -> None:
    Volumes(draft).add()


class Volumes:
    """The objects of a case that have to do with volumes, in the making."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.claims: list[JSON] = []
        self.volumes: list[JSON] = []
        self.names = [node["metadata"]["name"] for node in draft.nodes] or ["gone"]

    def add(self) -> None:
        draft = self.draft
        for node in draft.nodes:
            self._label(labels_of(node))
        draft.extra["storageclasses"] = [self._class(name) for name in CLASSES[:-1] if draft.rng.random() < 0.97]
        for i in range(draft.one_of("number of claims", (0, 1, 2, 3, 4), (1, 4, 8, 6, 3))):
            self._claim(f"c{i}")
        for i in range(draft.one_of("number of further volumes", range(9))):
            self._volume(f"free-{i}", draft.one_of("class of a free volume", (*CLASSES[:5], ""), (4, 12, 2, 1, 1, 1)))
        for pod in draft.pods:
            if draft.rng.random() < 0.5:
                self._use(pod)
        draft.extra["csidrivers"] = [self._driver(name) for name in DRIVERS if draft.rng.random() < 0.7]
        draft.extra["csinodes"] = [self._csi_node(name) for name in self.names if draft.rng.random() < 0.8]
        draft.extra["csistoragecapacities"] = [self._capacity(i) for i in range(draft.rng.randint(0, 4))]
        draft.extra["volumeattachments"] = [self._attachment(i) for i in range(draft.rng.choice((0, 0, 1, 3, 6)))]
        stories = {
            "any": lambda: self._use(draft.pod),
            "hardly enough": partial(volume_stories.hardly_enough, self),
            "hardly room": partial(volume_stories.hardly_room, self),
            "for one pod": partial(volume_stories.for_one_pod, self),
            "in a zone": partial(volume_stories.in_a_zone, self),
            "a node is chosen": partial(volume_stories.node_chosen, self),
            "a shared disk": partial(volume_stories.shared_disk, self),
            "of an old type": partial(volume_stories.of_an_old_type, self),
        }
        stories[draft.one_of("the pending pod's volumes", tuple(stories), (8, 3, 2, 2, 2, 1, 3, 2))]()
        draft.extra["pvcs"] = self.claims
        draft.extra["pvs"] = self.volumes

    def _label(self, labels: JSON) -> None:
        rng = self.draft.rng
        form = self.draft.one_of(
            "zone labels of a node", ("general", "beta", "both", "none", "region alone"), (8, 1, 1, 3, 1)
        )
        zone = rng.choice(ZONES)
        if form in ("general", "both"):
            labels[ZONE_KEYS[0]], labels[REGION_KEYS[0]] = zone, zone[:-2]
        if form in ("beta", "both"):
            labels[ZONE_KEYS[1]], labels[REGION_KEYS[1]] = zone, zone[:-2]
        if form == "region alone":
            labels[REGION_KEYS[0]] = zone[:-2]
        for key in CSI_ZONES:
            if rng.random() < 0.4:
                labels[key] = zone if rng.random() < 0.8 else rng.choice(ZONES)

    # -- classes, drivers, nodes -----------------------------------------------------------------------------------

    def _class(self, name: str) -> JSON:
        draft = self.draft
        provisioner = {
            "local": "kubernetes.io/no-provisioner",
            "old": f"kubernetes.io/{draft.one_of('old provisioner', (*PLUGINS, 'azure-file', 'vsphere-volume'))}",
        }.get(name, draft.one_of("provisioner", DRIVERS[:3]))
        found: JSON = {"metadata": {"name": name}, "provisioner": provisioner}
        if name != "no-mode":
            found["volumeBindingMode"] = "Immediate" if name == "now" else "WaitForFirstConsumer"
        if name == "allowed" or draft.rng.random() < 0.05:
            found["allowedTopologies"] = draft.some("allowed topologies", 2, lambda: self._topology())
        return found

    def _topology(self) -> JSON:
        draft = self.draft
        keys = draft.some(
            "topology keys", 2, lambda: draft.one_of("topology key", (ZONE_KEYS[0], REGION_KEYS[0], CSI_ZONES[0]))
        )
        return filled(
            matchLabelExpressions=[
                {"key": key, "values": draft.rng.sample([*ZONES, "eu-west", "us-east"], k=draft.rng.randint(1, 3))}
                for key in dict.fromkeys(keys)
            ]
        )

    def _driver(self, name: str) -> JSON:
        spec: JSON = {}
        tracked = self.draft.one_of("storage capacity tracked", (None, True, False), (1, 2, 1))
        if tracked is not None:
            spec["storageCapacity"] = tracked
        if self.draft.chance("pods without the driver prevented", 0.2):
            spec["preventPodSchedulingIfMissing"] = True
        return {"metadata": {"name": name}, "spec": spec}

    def _csi_node(self, name: str) -> JSON:
        draft = self.draft
        drivers = []
        for driver in DRIVERS:
            if draft.rng.random() < 0.6:
                count = draft.one_of("limit", (None, 0, 1, 2, 3, 5), (2, 1, 3, 3, 2, 1))
                entry: JSON = {"name": driver, "nodeID": name}
                if count is not None:
                    entry["allocatable"] = {"count": count}
                elif draft.rng.random() < 0.3:
                    entry["allocatable"] = {}
                drivers.append(entry)
        found: JSON = {"metadata": {"name": name}, "spec": {"drivers": drivers}}
        if draft.chance("migrated plugins named", 0.6):
            named = [f"kubernetes.io/{p}" for p in PLUGINS if draft.rng.random() < 0.8]
            found["metadata"]["annotations"] = {"storage.alpha.kubernetes.io/migrated-plugins": ",".join(named)}
        return found

    def _capacity(self, number: int) -> JSON:
        draft = self.draft
        found: JSON = {
            "metadata": {"name": f"room-{number}", "namespace": "default"},
            "storageClassName": draft.one_of("class of capacity", ("wait", "roomy", "allowed", "old"), (3, 3, 1, 1)),
        }
        for field in ("capacity", "maximumVolumeSize"):
            if draft.chance(field, 0.6):
                found[field] = draft.one_of("room", ("0", "50Mi", "150Mi", "400Mi", "10Gi"))
        topology = draft.one_of("topology of capacity", ("none", "everywhere", "zone", "expression"), (1, 2, 3, 2))
        if topology != "none":
            found["nodeTopology"] = {}
        if topology == "zone":
            found["nodeTopology"] = {"matchLabels": {ZONE_KEYS[0]: draft.rng.choice(ZONES)}}
        elif topology == "expression":
            found["nodeTopology"] = {"matchExpressions": [self._expression()]}
        return found

    def _expression(self) -> JSON:
        draft = self.draft
        operator = draft.one_of("selector operator", ("In", "NotIn", "Exists", "DoesNotExist"))
        values = draft.rng.sample(ZONES, k=draft.rng.randint(1, 2)) if operator in ("In", "NotIn") else []
        return filled(key=draft.rng.choice((*ZONE_KEYS, REGION_KEYS[0])), operator=operator, values=values)

    def _attachment(self, number: int) -> JSON:
        draft = self.draft
        source: JSON = {"inlineVolumeSpec": {"nfs": {"server": "s", "path": "/"}, "capacity": {}}}
        if draft.rng.random() < 0.9:
            names = [volume["metadata"]["name"] for volume in self.volumes]
            source = {"persistentVolumeName": draft.rng.choice([*names, "gone"])}
        attached = [v for v in self.volumes if v["metadata"]["name"] == source.get("persistentVolumeName")]
        driver = attached[0]["spec"].get("csi", {}).get("driver", DRIVERS[0]) if attached else DRIVERS[0]
        if not draft.chance("attached by its driver", 0.9):
            driver = draft.rng.choice(DRIVERS)
        return {
            "metadata": {"name": f"attachment-{number}"},
            "spec": {"attacher": driver, "nodeName": draft.rng.choice(self.names), "source": source},
        }

    # -- claims ----------------------------------------------------------------------------------------------------

    def _claim(self, name: str, owner: JSON | None = None, namespace: str = "default") -> None:
        """A claim, and the volume that goes with its state."""
        draft, rng = self.draft, self.draft.rng
        state = draft.one_of(
            "a claim is",
            ("bound", "waiting", "waiting with a node", "waiting with a volume", "immediate", "reserved", "lost", "deleted", "missing"),
            (10, 12, 2, 3, 1, 1, 1, 1, 1),
        )  # fmt: skip
        if state == "missing":
            return
        immediate = state in ("immediate", "reserved")
        names = ("now", "no-mode", "gone", None, "") if immediate else CLASSES[:5]
        weights = (4, 1, 2, 1, 1) if immediate else (5, 10, 4, 3, 2)
        of_class = draft.one_of("class of an immediate claim" if immediate else "class of a claim", names, weights)
        meta: JSON = {"name": name, "namespace": namespace, "uid": f"{draft.name}/{namespace}/{name}"}
        spec: JSON = {
            "accessModes": self._modes("claim"),
            "resources": {"requests": {"storage": str(rng.choice((1, 60, 120, 240)) * MIB)}},
        }
        if of_class is not None and draft.chance("class by annotation", 0.05):
            meta["annotations"] = {"volume.beta.kubernetes.io/storage-class": of_class}
            if draft.rng.random() < 0.5:
                spec["storageClassName"] = "wait"
        elif of_class is not None:
            spec["storageClassName"] = of_class
        self._details(spec)
        claim: JSON = {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
        if owner is not None:
            meta["ownerReferences"] = [owner]
        self._state(claim, state, of_class or "")
        self.claims.append(claim)

    def _state(self, claim: JSON, state: str, of_class: str) -> None:
        draft, meta, spec = self.draft, claim["metadata"], claim["spec"]
        if state in ("bound", "reserved", "lost", "deleted"):
            spec["volumeName"] = f"of-{meta['namespace']}-{meta['name']}"
            if state != "reserved":
                meta.setdefault("annotations", {})["pv.kubernetes.io/bind-completed"] = "yes"
                claim["status"]["phase"] = "Bound"
            if state != "lost" and draft.chance("a claim's volume exists", 0.95):
                self._volume(spec["volumeName"], of_class, claim)
        if state == "lost":
            claim["status"]["phase"] = "Lost"
        elif state == "deleted":
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        elif state == "waiting with a node":
            node = draft.one_of("the selected node is", ("there", "gone"), (4, 1))
            chosen = draft.rng.choice(self.names) if node == "there" else "gone"
            meta.setdefault("annotations", {})["volume.kubernetes.io/selected-node"] = chosen
        elif state == "waiting with a volume":
            self._volume(f"for-{meta['namespace']}-{meta['name']}", of_class, claim)

    def _modes(self, whose: str) -> list[str]:
        form = self.draft.one_of(f"access modes of a {whose}", ("once", "one pod", "any"), (10, 2, 2))
        if form == "once":
            return [MODES[0]]
        return (
            [MODES[3]]
            if form == "one pod"
            else sorted(self.draft.rng.sample(MODES[:3], k=self.draft.rng.randint(1, 3)))
        )

    def _details(self, spec: JSON) -> None:
        """What a claim and a volume must have alike."""
        draft = self.draft
        if (mode := draft.one_of("volume mode", (None, "Filesystem", "Block"), (8, 16, 1))) is not None:
            spec["volumeMode"] = mode
        if (attributes := draft.one_of("attributes class", (None, "gold", ""), (32, 1, 1))) is not None:
            spec["volumeAttributesClassName"] = attributes
        if "resources" in spec and draft.chance("a claim selects volumes", 0.15):
            form = draft.one_of("selector of volumes", ("empty", "labels", "expression"))
            spec["selector"] = {}
            if form == "labels":
                spec["selector"] = {"matchLabels": {"tier": draft.rng.choice(("fast", "slow"))}}
            elif form == "expression":
                operator = draft.rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
                values = ["fast"] if operator in ("In", "NotIn") else []
                spec["selector"] = {"matchExpressions": [filled(key="tier", operator=operator, values=values)]}

    # -- volumes ---------------------------------------------------------------------------------------------------

    def _volume(self, name: str, of_class: str, claim: JSON | None = None) -> None:
        draft, rng = self.draft, self.draft.rng
        size = rng.choice((1, 60, 120, 240, 480)) * MIB + len(self.volumes)  # each of its own
        meta: JSON = {"name": name, "uid": f"{draft.name}/{name}"}
        spec: JSON = {"capacity": {"storage": str(size)}, "accessModes": self._modes("volume")}
        if claim is not None and rng.random() < 0.7:  # usually they suit each other
            for field in ("volumeMode", "volumeAttributesClassName"):
                if field in claim["spec"]:
                    spec[field] = claim["spec"][field]
            spec["capacity"]["storage"] = str(
                int(claim["spec"]["resources"]["requests"]["storage"]) + len(self.volumes)
            )
            spec["accessModes"] = claim["spec"]["accessModes"]
        else:
            self._details(spec)
        if of_class and draft.chance("class of a volume by annotation", 0.05):
            meta["annotations"] = {"volume.beta.kubernetes.io/storage-class": of_class}
        elif of_class:
            spec["storageClassName"] = of_class
        phase = draft.one_of(
            "phase of a volume", ("Available", "Bound", "Released", "Failed", "Pending", None), (12, 2, 1, 1, 1, 1)
        )
        if claim is not None:
            self.refer(spec, claim)
        elif draft.chance("a free volume is taken", 0.1):
            spec["claimRef"] = {
                "kind": "PersistentVolumeClaim",
                "namespace": "default",
                "name": "other",
                "uid": "other",
            }
        if draft.rng.random() < 0.4:
            meta["labels"] = {"tier": rng.choice(("fast", "slow"))}
        self._place(meta, spec)
        self._source(spec, name)
        if draft.chance("a volume is being deleted", 0.04):
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self.volumes.append({"metadata": meta, "spec": spec, "status": filled(phase=phase)})

    def refer(self, spec: JSON, claim: JSON) -> None:
        form = self.draft.one_of("a volume names its claim", ("with uid", "without", "another uid"), (6, 4, 1))
        meta = claim["metadata"]
        ref: JSON = {"kind": "PersistentVolumeClaim", "namespace": meta["namespace"], "name": meta["name"]}
        if form != "without":
            ref["uid"] = meta["uid"] if form == "with uid" else "another"
        spec["claimRef"] = ref

    def _place(self, meta: JSON, spec: JSON) -> None:
        """Where a volume can be reached from: by its node affinity and by its labels."""
        draft, rng = self.draft, self.draft.rng
        form = draft.one_of(
            "node affinity of a volume", ("none", "node", "zone", "anything", "fields"), (8, 4, 3, 3, 1)
        )
        terms: list[JSON] = []
        if form == "node":
            some = sorted({rng.choice(self.names) for _ in range(3)})
            terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": some}]}]
        elif form == "zone":
            zones = rng.sample(ZONES, k=rng.randint(1, 2))
            terms = [{"matchExpressions": [{"key": rng.choice(ZONE_KEYS), "operator": "In", "values": zones}]}]
            if rng.random() < 0.3:
                region = {"key": rng.choice(REGION_KEYS), "operator": "In", "values": ["eu-west", "us-east"]}
                terms[0]["matchExpressions"].append(region)
        elif form == "anything":
            terms = draft.some("terms of a volume", 2, self._term, least=1)
        elif form == "fields":
            operator = draft.one_of("operator of a field of a volume", ("In", "NotIn"))
            field = {"key": "metadata.name", "operator": operator, "values": [rng.choice(self.names)]}
            terms = [{"matchFields": [field], **(self._term() if rng.random() < 0.5 else {})}]
        if terms:
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        labels = meta.get("labels", {})
        labelled = draft.chance("zone labels of a volume", 0.45)
        for key in (*ZONE_KEYS, *REGION_KEYS):
            if labelled and rng.random() < 0.4:
                places: Sequence[str] = ZONES if key in ZONE_KEYS else ("eu-west", "us-east")
                joined = "__".join(rng.sample(places, k=rng.randint(1, 2)))
                odd = draft.chance("a zone label that cannot be read", 0.08)
                labels[key] = "eu-west-a__" if odd else joined
        if labels:
            meta["labels"] = labels

    def _term(self) -> JSON:
        expressions = self.draft.some("expressions of a volume", 2, self._node_expression)
        return filled(matchExpressions=expressions)

    def _node_expression(self) -> JSON:
        draft = self.draft
        operator = draft.one_of(
            "operator of a volume", ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"), (4, 2, 2, 1, 1, 1)
        )
        values: list[str] = []
        if operator in ("In", "NotIn"):
            values = draft.rng.sample(ZONES, k=draft.rng.randint(1, 3))
        elif operator in ("Gt", "Lt"):
            values = [draft.rng.choice(("1", "5", "x"))]
        keys = (*ZONE_KEYS, REGION_KEYS[0], *CSI_ZONES, "size")
        return filled(key=draft.rng.choice(keys), operator=operator, values=values)

    def _source(self, spec: JSON, name: str) -> None:
        draft = self.draft
        kind = draft.one_of(
            "a volume is",
            ("csi", "local", "nfs", "awsElasticBlockStore", "gcePersistentDisk", "azureDisk", "cinder", "portworxVolume",
             "azureFile", "vsphereVolume"),
            (8, 3, 1, 2, 2, 1, 1, 1, 1, 1),
        )  # fmt: skip
        if kind == "csi":
            spec["csi"] = {
                "driver": draft.one_of("driver of a volume", DRIVERS, (5, 2, 3, 1, 1, 1)),
                "volumeHandle": name,
            }
        else:
            spec[kind] = self.old(kind, of_volume=True)

    def old(self, kind: str, *, of_volume: bool) -> JSON:
        """A source of an in-tree type. Few identities, so that they meet."""
        draft, rng = self.draft, self.draft.rng
        disk = rng.choice(("d1", "d2"))
        match kind:
            case "local":
                return {"path": "/mnt"}
            case "nfs":
                return {"server": "s", "path": "/"}
            case "awsElasticBlockStore":
                form = draft.one_of("EBS id", ("bare", "with zone", "short", "odd"), (12, 4, 2, 1))
                ids = {"bare": f"vol-{disk}", "with zone": f"aws://eu-west-a/vol-{disk}", "short": f"aws:///vol-{disk}"}
                return filled(volumeID=ids.get(form, f"aws://eu-west-a/{disk}"), readOnly=rng.random() < 0.5)
            case "gcePersistentDisk":
                return filled(pdName=disk, readOnly=rng.random() < 0.5)
            case "iscsi":
                return filled(targetPortal="p", iqn=disk, lun=0, readOnly=rng.random() < 0.5)
            case "rbd":
                monitors = rng.sample(("m1", "m2", "m3"), k=rng.choice((1, 1, 2)))
                pool = rng.choice(("rbd", "rbd", "pool"))
                return filled(monitors=monitors, image=disk, pool=pool, readOnly=rng.random() < 0.4)
            case "azureDisk":
                made = draft.one_of("kind of an azure disk", ("Managed", "Shared", "managed"), (8, 1, 1))
                return {"diskName": disk, "diskURI": f"/subscriptions/{disk}", "kind": made}
            case "azureFile":
                return {"secretName": "s", "shareName": disk, **({"secretNamespace": "default"} if of_volume else {})}
            case "vsphereVolume":
                return {"volumePath": disk}
            case _:
                return filled(volumeID=disk, readOnly=rng.random() < 0.3)

    # -- pods ------------------------------------------------------------------------------------------------------

    def _use(self, pod: JSON) -> None:
        draft = self.draft
        pending = pod is draft.pod
        volumes = pod["spec"].setdefault("volumes", [])
        for i in range(draft.one_of("volumes of a pod", (0, 1, 2, 3, 4), (1, 5, 6, 3, 1))):
            kind = draft.one_of(
                "a pod's volume is",
                ("claim", "ephemeral", "csi", "emptyDir", "awsElasticBlockStore", "gcePersistentDisk", "iscsi", "rbd",
                 "azureDisk", "cinder", "portworxVolume", "azureFile", "vsphereVolume"),
                (24, 2, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 1),
            )  # fmt: skip
            volume: JSON = {"name": f"v{i}"}
            if kind == "claim":
                there = [c["metadata"]["name"] for c in self.claims if c["metadata"]["name"][1:].isdigit()]
                known = bool(there) and draft.chance("a claim exists", 0.96)
                name = draft.rng.choice(there) if known else f"c{draft.rng.randint(0, 3)}"
                volume["persistentVolumeClaim"] = {"claimName": self.named_for(pod, name)}
            elif kind == "ephemeral":
                volume["ephemeral"] = {"volumeClaimTemplate": {"spec": {}}}
                if not pending and draft.rng.random() < 0.2:
                    volumes.append(volume)
                    continue
                self._own(pod, f"{pod['metadata']['name']}-v{i}")
            elif kind == "csi":
                volume["csi"] = {"driver": EBS}
            elif kind == "emptyDir":
                volume["emptyDir"] = {}
            else:
                volume[kind] = self.old(kind, of_volume=False)
            volumes.append(volume)

    def named_for(self, pod: JSON, claim: str) -> str:
        """Of nominated pods upstream compares the names of claims alone: a deviation that is shown elsewhere."""
        elsewhere = pod["metadata"]["namespace"] != self.draft.pod["metadata"]["namespace"]
        return f"elsewhere-{claim}" if elsewhere and "nominatedNodeName" in pod["status"] else claim

    def _own(self, pod: JSON, name: str) -> None:
        """The claim of a pod's ephemeral volume."""
        meta = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"], "controller": True}
        form = self.draft.one_of(
            "owner of a claim", ("its pod", "another pod", "not a controller", "none"), (24, 1, 1, 1)
        )
        if form == "another pod":
            owner["uid"] = "another"
        elif form == "not a controller":
            owner["controller"] = False
        if not any(
            c["metadata"]["name"] == name and c["metadata"]["namespace"] == meta["namespace"] for c in self.claims
        ):
            self._claim(name, None if form == "none" else owner, meta["namespace"])
