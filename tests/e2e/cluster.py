"""The cluster that upstream's end-to-end tests run on: a whole control plane, four nodes played by kwok, one scheduler.

    with EndToEndCluster("ours", folder) as cluster:
        ... cluster.kubeconfig ...

Whichever scheduler it is, it serves `default-scheduler` and the other one is not there. Ours has the rights of
deploy/k8s.yaml and no more; all nodes lie in one grid zone, so that carbon decides nothing and kube-scheduler's scores all.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import pytest
import yaml

from api_objects import make_node
from carbon_scheduler.errors import ClusterError
from carbon_scheduler.sim.control_plane import ControlPlane
from scheduler_process import SchedulerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carbon_scheduler.sim.child import Child

Scheduler = Literal["kube-scheduler", "ours"]
NODES: Final = 4
"""In two zones. More make the specs slower (they fill every node), fewer leave nothing to choose."""
_PROFILES: Final = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
  - schedulerName: default-scheduler
"""
_MANIFEST: Final = Path(__file__).parents[2] / "deploy/k8s.yaml"
_STAGES: Final = Path(__file__).with_name("kubelet.yaml")
_ACCOUNT: Final = "carbon-aware-scheduler"
_SYSTEM_PODS: Final = ("kube-proxy", "fluentd-elasticsearch", "node-problem-detector")
"""On each node of the cluster that upstream's tests were first written for. Several specs wait a minute for them, each time."""
_READY_S: Final = 60.0
_PLURALS: Final = {
    "ServiceAccount": "/api/v1/namespaces/kube-system/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings",
}


class EndToEndCluster:
    """A context manager; ready, after about 10 s, when nodes and scheduler are and the system's DaemonSets run on each node.

    The log of our scheduler goes to `folder`. Raises ControlPlaneMissing, or ClusterError when a part does not come up.
    """

    def __init__(self, which: Scheduler, folder: Path) -> None:
        self.folder = folder
        self._which = which
        self._plane = ControlPlane(
            admission="upstream",
            controller_manager=True,
            scheduler=which == "kube-scheduler",
            kwok=True,
            kwok_stages=_STAGES,
        )
        self._ours: SchedulerProcess | None = None
        self._exits = ExitStack()

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""
        return self._plane.kubeconfig

    @property
    def scheduler(self) -> Child:
        """The process that serves `default-scheduler`."""
        return self._ours.child if self._ours else self._plane.children["kube-scheduler"]

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            exits.enter_context(self._plane)
            for node in nodes():
                self._plane.request("POST", "/api/v1/nodes", node)
            self._await("/api/v1/nodes", _unready_node, NODES)
            if self._which == "ours":
                self._ours = self._start_ours()
                exits.callback(self._ours.stop)
                _await_ready(self._ours)
            for name in _SYSTEM_PODS:
                self._plane.request("POST", "/apis/apps/v1/namespaces/kube-system/daemonsets", _daemon_set(name))
            self._await("/api/v1/namespaces/kube-system/pods", _unready_pod, NODES * len(_SYSTEM_PODS))
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _start_ours(self) -> SchedulerProcess:
        for one in _rights():
            self._plane.request("POST", _PLURALS[one["kind"]], one)
        kubeconfig = self._plane.service_account_kubeconfig("kube-system", _ACCOUNT, expiration_s=6 * 3600)
        profiles = self.folder / "profiles.yaml"
        profiles.write_text(_PROFILES)
        arguments = ("--kube-scheduler-config", str(profiles))
        process = SchedulerProcess(kubeconfig, *arguments, folder=self.folder, name="carbon-scheduler")
        process.start()
        return process

    def _await(self, path: str, unready: Callable[[dict[str, Any]], bool], count: int) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            found = self._plane.request("GET", path)["items"]
            waiting = [one["metadata"]["name"] for one in found if unready(one)]
            if len(found) == count and not waiting:
                return
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{path}: {len(found)} of {count} there after {_READY_S:.0f} s, not ready: {', '.join(waiting) or 'none'}; "
                    f"they need kwok, kube-controller-manager and {self._which}"
                )
            time.sleep(0.1)


def _await_ready(process: SchedulerProcess) -> None:
    try:
        asyncio.run(process.ready())
    except pytest.fail.Exception as failed:  # it is made for tests, and this may be none
        raise ClusterError(str(failed)) from failed


def _unready_node(node: dict[str, Any]) -> bool:
    """kwok has not made it Ready, or the controllers have not taken the taint away that it got when it was not."""
    return bool(node["spec"].get("taints")) or node["status"].get("phase") != "Running"


def _unready_pod(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["phase"] != "Running")


def nodes() -> Iterator[dict[str, Any]]:
    """As a kubelet registers them: not Ready yet, with the labels and the address that the tests look for."""
    for number in range(NODES):
        name = f"node-{number}"
        zone = f"zone-{'ab'[number % 2]}"
        labels = {
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/region": "region",
            "topology.kubernetes.io/zone": zone,
        }
        node = make_node(name, cpu="8", memory="16Gi", carbon_zone="DE", labels=labels)
        node["status"] = {
            "addresses": [
                {"type": "InternalIP", "address": f"10.1.0.{number + 1}"},
                {"type": "Hostname", "address": name},
            ],
            "capacity": {**node["status"]["capacity"], "ephemeral-storage": "100Gi"},
        }
        yield node


def _rights() -> list[dict[str, Any]]:
    """The account of deploy/k8s.yaml and what it may do, without the Deployment: its pods would run on our nodes."""
    return [one for one in yaml.safe_load_all(_MANIFEST.read_text()) if one and one["kind"] in _PLURALS]


def _daemon_set(name: str) -> dict[str, Any]:
    labels = {"k8s-app": name}
    container = {"name": name, "image": "registry.k8s.io/pause:3.10"}
    spec = {
        "containers": [container],
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
