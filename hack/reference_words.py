"""The words of the reference pages that no code can tell: what names mean. `reference.py` refuses a name that is missing
here, or that is here and not in the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from carbon_scheduler.core.carbon import Quality

if TYPE_CHECKING:
    from collections.abc import Iterable


def listed(words: Iterable[str]) -> str:
    """`one`, `two`, ..."""
    return ", ".join(f"`{word}`" for word in words)


VARIABLES: Final = {
    "ELECTRICITY_MAPS_API_KEY": "The key of the Electricity Maps API. Empty counts as none.",
    "ELECTRICITY_MAPS_API_KEY_FILE": "A file with the key on one line, read again when it changes. Wins over the key itself.",
    "ELECTRICITY_MAPS_URL": "Base address of the API, for a proxy or a test. Wins over `electricity_maps.url`.",
    "DEFAULT_CARBON_ZONE": "Wins over `carbon.default_zone`. For `carbon-intensity`: the zone when none is given.",
    "KUBECONFIG": "Files of clusters and users, joined by `:`, when there is no `--kubeconfig`.",
    "KUBERNETES_SERVICE_HOST": "Set in every pod: the API server. Used when there is neither `--kubeconfig` nor `KUBECONFIG`.",
    "KUBERNETES_SERVICE_PORT": "Its port.",
    "POD_NAMESPACE": "In a cluster: our namespace when the ServiceAccount's folder does not say it.",
    "HOME": "`~/.kube/config` is the last place to look for a kubeconfig.",
    "HTTPS_PROXY": "Proxy to Electricity Maps, and to an API server from a kubeconfig (not to one found from inside a "
    "cluster). `HTTP_PROXY` for plain addresses; lower case works too.",
    "NO_PROXY": "Hosts that are reached without the proxy.",
    "REQUESTS_CA_BUNDLE": "PEM file of trusted certificates for Electricity Maps; `electricity_maps.ca_file` wins.",
}

EVENTS: Final = {
    "Scheduled": "The Binding was accepted. Note: `Successfully assigned NAMESPACE/POD to NODE`.",
    "FailedScheduling": "An attempt ended without a node, or with an error. The note counts the reasons, in kube-scheduler's "
    "words. Repeats count up one event.",
    "Preempted": "The pod was deleted to make room for one of higher priority. Note: `Preempted by pod UID on node NODE`; "
    "`related` is that pod.",
    "Overcommitted": "On a node, in the namespace `default`: the pods on it request more than it offers, since another "
    "scheduler or a pod that names its node was faster, or the node shrank. Once for each spell.",
    "InvalidAnnotation": "An annotation of ours on the pod has a value that is not known. It is ignored.",
}

ANNOTATIONS: Final = {
    "placement": "read, on a pod or its Namespace (the pod's wins): `carbon-first`, `weighted` or `off` instead of "
    "`placement.policy`",
    "decision": "written on a pod by its Binding: the decision as JSON, fields below",
    "grid-zone": "written on a pod by its Binding: the grid zone of the node; absent when it has none",
    "intensity": "written on a pod by its Binding: gCO2eq/kWh there at that moment, two decimals; absent without a value",
}

CONDITIONS: Final = {
    "Unschedulable": "No node fits. Cluster autoscalers act on it.",
    "SchedulerError": "The attempt failed: a part of the pod cannot be read, or the API server refused the Binding. Tried "
    "again by itself, but for a pod that cannot be read: that one waits until it changes.",
}

FIELDS: Final = {
    "seq": "orders decisions, also across restarts",
    "at": "when, RFC 3339 with microseconds",
    "node": "the node",
    "grid_zone": "its grid zone, or null",
    "intensity_g_per_kwh": "carbon intensity there, or null",
    "cleanest_g_per_kwh": "the lowest carbon intensity among the feasible nodes, or null",
    "quality": f"the rung of the ladder: {listed(get_args(Quality))}, or null",
    "source": "where the value comes from, or null",
    "feasible": "how many nodes could have run the pod",
    "policy": "the policy that chose",
    "blind": "the node that kube-scheduler's scores alone would have taken",
    "saved_g_per_kwh": "carbon intensity of `blind` minus the chosen one's: negative when ours is the dirtier; null when "
    "either has no value",
}

NEEDS: Final = {
    "spreading": "while a profile has `PodTopologySpread`",
    "volumes": "while a profile has `VolumeRestrictions`, `NodeVolumeLimits`, `VolumeBinding` or `VolumeZone`",
    "preemption": "while a profile has `DefaultPreemption`",
}
"""What further kinds are read for."""

PLUGINS: Final = {
    "NodeUnschedulable": "cordoned nodes are left out, unless the pod tolerates that",
    "NodeName": "a pod that names its node runs there or nowhere",
    "TaintToleration": "a taint that the pod does not tolerate keeps it away; the fewer `PreferNoSchedule` ones, the better",
    "NodeAffinity": "`nodeSelector` and required node affinity; preferred terms add their weights",
    "NodePorts": "no two pods of a node take the same host port",
    "NodeResourcesFit": "requests fit into what is left of the node; the emptier the node, the better",
    "VolumeRestrictions": "a disk that only one pod of a node may use, or a claim for one pod (`ReadWriteOncePod`), is free",
    "NodeVolumeLimits": "the node can attach the pod's volumes beside those it has, by the limits of its CSI drivers",
    "VolumeBinding": "the pod's volumes can be reached from the node, or there are free ones, or they can be made there",
    "VolumeZone": "the node lies in the zone and region that the labels of the pod's volumes name",
    "PodTopologySpread": "pods are spread over zones, nodes or other domains: strictly, or as well as possible; those without "
    "constraints of their own among the pods of their Services and their owner",
    "InterPodAffinity": "the pod runs near the pods, and far from the pods, that its terms ask for, and where no running pod's "
    "anti-affinity keeps it away; preferred terms of either side add their weights",
    "NodeResourcesBalancedAllocation": "CPU and memory of the node are used evenly",
    "ImageLocality": "nodes that have the pod's images already: the larger, and the more widespread, the better",
    "NodeDeclaredFeatures": "the kubelet declares what the pod's spec cannot do without",
}
ABSENT: Final = {
    "DynamicResources": "resource claims (DRA), and extended resources that only a DeviceClass offers",
}
"""Plugins of kube-scheduler's default profile that are not built."""

DEVIATIONS: Final = {
    "a node that offers more than 4 EiB of memory, or 2^62 units of another resource": "what is above that is not used, "
    "and its scores are those of a node that offers 4 EiB",
    "a hard spread constraint, and pods that are nominated to a node": "those that are being deleted are not counted, nor any "
    "under an empty selector: as pods that run; kube-scheduler counts nominated ones by another rule",
    "a `ReadWriteOncePod` claim, and a claim of the same name of a pod elsewhere that is nominated to a node": "are two; "
    "kube-scheduler goes by the name alone when the pod also has a disk of its own",
    "a pod that is rejected as a whole (a claim that does not exist)": "the message ends there; kube-scheduler adds a stray "
    "`. not found`",
    "preemption under a hard spread constraint, and a victim that is being deleted already": "is not counted, as a pod that "
    "runs; kube-scheduler takes it away from a sum that it was not part of, and chooses too few victims",
    "preemption for a `ReadWriteOncePod` claim that several pods have got, or a claim of the same name elsewhere": "all "
    "who use this very claim have to go; kube-scheduler counts them as one, and goes by the name alone",
    "preemption for a host port that several pods of a node have got": "all of them have to go; for kube-scheduler the port is "
    "free with the first",
    "preemption, and what kube-scheduler leaves to chance": "of pods with one priority and start the order of their UIDs "
    "decides, of nodes that are equally good the cleanest; the search begins at a place that the pod's UID tells",
    "an image that other nodes get or lose": "counts at once; kube-scheduler scores a node by the count of when something "
    "last changed on that node",
    "an attempt that ends in an error": "the same pods, with reason `SchedulerError`; what is wrong is said in plain words, "
    "where kube-scheduler names the Go function or plugin that failed",
    "the event `Preempted`": "has the pod that gets the room as `related`; kube-scheduler 1.36 means to, and leaves it out",
    "repeated events": "an event is counted up as long as it says the same; kube-scheduler's are kept apart by the "
    "resourceVersion of the pod (which ours do not name), and may go on counting under an earlier text",
    "a pod that is deleted before it has a node": "is dropped without an event; kube-scheduler writes `skip schedule deleting "
    "pod` if its turn still comes (only pods with finalizers live that long)",
    "a Binding whose answer is lost": "is settled by reading the pod and sent again; kube-scheduler looks for another node",
    "pods alike in a row, and clusters of more than 100 nodes": "every node is judged for every pod; kube-scheduler may go on "
    "through the list of the pod before (`OpportunisticBatching`), and stops looking when it has seen enough nodes",
    "a pod that asks for more than 59 different resources": "is rejected as a whole, kube-scheduler names each that is short",
}
"""Where something differs from kube-scheduler on purpose; tests/parity shows those that are about one answer."""
