"""The command lines of the control plane's programs: what a test needs switched on, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Admission = Literal["light", "upstream"]

_NEED_CONTROLLERS = "ServiceAccount,TaintNodesByCondition"


def key_file(folder: Path) -> Path:
    """The private key of the API server's certificate, which also signs the tokens of service accounts.

    It makes a self-signed certificate at its first start, before it reads the key files that its flags name: so this one
    key can serve for both, and no openssl is needed.
    """
    return folder / "certs/apiserver.key"


def ca_file(folder: Path) -> Path:
    """The self-signed chain that the API server made for itself."""
    return folder / "certs/apiserver.crt"


def etcd(folder: Path, port: int) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{port}",
        f"--advertise-client-urls=http://127.0.0.1:{port}",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--unsafe-no-fsync",  # the data live as long as the test
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def kube_apiserver(folder: Path, port: int, *, etcd_port: int, admission: Admission) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={key_file(folder).parent}",
        f"--service-account-key-file={key_file(folder)}",
        f"--service-account-signing-key-file={key_file(folder)}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--endpoint-reconciler-type=none",  # nobody looks for it in a Service; it would hold up the shutdown
        *([f"--disable-admission-plugins={_NEED_CONTROLLERS}"] if admission == "light" else []),
    ]


def controller(
    name: str, folder: Path, port: int, *, kubeconfig: Path, heartbeats: bool, stages: Path | None = None
) -> list[str]:
    """kube-controller-manager, kube-scheduler or kwok. `heartbeats`: something keeps the nodes' leases fresh."""
    if name == "kwok":
        return [
            f"--kubeconfig={kubeconfig}",
            f"--config={stages or Path(__file__).with_name('kwok-stages.yaml')}",
            "--manage-all-nodes=true",
            f"--server-address=127.0.0.1:{port}",
            "--node-lease-duration-seconds=40",
        ]
    flags = [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--cert-dir={folder / name}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
    ]
    if name == "kube-controller-manager":
        flags += [f"--service-account-private-key-file={key_file(folder)}", f"--root-ca-file={ca_file(folder)}"]
        if not heartbeats:
            flags.append("--controllers=*,-node-lifecycle-controller")  # it would taint every node
    return flags
