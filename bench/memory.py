"""What the core's state takes: nodes and bound pods as a running scheduler keeps them.

    python bench/memory.py                      # 5,000 nodes, 50,000 bound pods
    python bench/memory.py --nodes 500 --pods 5000 --format json

Counted are Python's allocations (tracemalloc, which numpy takes part in) from an empty scheduler on. The objects come as JSON
from the API server would and go through decoding and conversion, so that what they share is shared, and no more than that.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tracemalloc
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from carbon_scheduler.core.events import NodeChanged, PodChanged
from carbon_scheduler.core.scheduler import Scheduler
from carbon_scheduler.core.settings import Settings
from carbon_scheduler.kube import wire
from carbon_scheduler.kube.convert import Converter
from carbon_scheduler.providers.tables import grid_zones

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKLOADS = 500
MIB = 2**20


@dataclass(frozen=True)
class Memory:
    nodes: int
    pods: int
    nodes_mib: float
    pods_mib: float

    @property
    def pod_b(self) -> float:
        """Bytes a pod."""
        return self.pods_mib * MIB / max(self.pods, 1)


def node(number: int) -> dict[str, Any]:
    name = f"node-{number:05}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "m7g.4xlarge",
        "topology.kubernetes.io/region": "eu-west-1",
        "topology.kubernetes.io/zone": f"eu-west-1{'abc'[number % 3]}",
    }
    room = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"}
    return {
        "metadata": {"name": name, "uid": f"{number:08x}-5a4f-4e59-9a75-2c3d6a1b7e90", "labels": labels},
        "spec": {"providerID": f"aws:///eu-west-1{'abc'[number % 3]}/i-{number:017x}"},
        "status": {"allocatable": room},
    }


def pod(number: int, nodes: int) -> dict[str, Any]:
    """One of a Deployment's, with labels, requests and annotations as they usually are."""
    workload = f"service-{number % WORKLOADS}"
    return {
        "metadata": {
            "name": f"{workload}-7d4b9c8f5-{number:05x}",
            "namespace": f"team-{number % WORKLOADS % 20}",
            "uid": f"{number:08x}-c1f2-4d0a-8b1e-6f0e9d2c4a11",
            "resourceVersion": str(10_000_000 + number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": workload, "pod-template-hash": "7d4b9c8f5"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{workload}-7d4b9c8f5",
                    "uid": workload,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "nodeName": f"node-{number % nodes:05}",
            "schedulerName": "carbon-aware-scheduler",
            "containers": [
                {
                    "name": "main",
                    "image": f"registry.example/{workload}:1.4.2",
                    "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
                }
            ],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:05Z"},
    }


def measure(nodes: int, pods: int) -> Memory:
    """What that many nodes and pods take."""
    scheduler, convert = Scheduler(Settings(), grid_zones()), Converter()
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(nodes):
            raw = json.dumps(node(number)).encode()
            scheduler.apply(NodeChanged(0.0, 0.0, convert.node(wire.NODES.one(raw))))
        after_nodes = tracemalloc.get_traced_memory()[0]
        for number in range(pods):
            raw = json.dumps(pod(number, nodes)).encode()
            scheduler.apply(PodChanged(0.0, 0.0, convert.pod(wire.PODS.one(raw))))
        gc.collect()
        after_pods = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return Memory(nodes, pods, after_nodes / MIB, (after_pods - after_nodes) / MIB)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--format", choices=["markdown", "json"], default="markdown")
    options = parser.parse_args(argv)
    if options.nodes < 1 or options.pods < 0:
        parser.error(
            f"got {options.nodes} nodes and {options.pods} pods, expected at least one node and no fewer than 0 pods"
        )
    found = measure(options.nodes, options.pods)
    if options.format == "json":
        print(json.dumps(asdict(found)))
    else:
        print("| nodes | bound pods | nodes MiB | pods MiB | bytes a pod |\n| ---: | ---: | ---: | ---: | ---: |")
        print(
            f"| {found.nodes:,} | {found.pods:,} | {found.nodes_mib:.1f} | {found.pods_mib:.1f} | {found.pod_b:.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
