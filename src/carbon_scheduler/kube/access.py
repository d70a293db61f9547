"""Which API server, and who we are there: from a kubeconfig or from inside the cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_scheduler.errors import ConfigError
from carbon_scheduler.kube import kubeconfig as files
from carbon_scheduler.kube.clock import SystemClock
from carbon_scheduler.kube.credentials import TokenFile
from carbon_scheduler.kube.endpoint import Access, Tls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.kube.clock import Clock

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def access(
    kubeconfig: Path | None,
    environ: Mapping[str, str],
    *,
    context: str | None = None,
    service_account: Path = SERVICE_ACCOUNT,
    clock: Clock | None = None,
) -> Access:
    """The API server to use: the given kubeconfig, else KUBECONFIG's list, else the cluster we run in, else ~/.kube/config.

    Reads files, asks no network. Raises ConfigError saying what was looked for, and where.
    """
    clock = clock or SystemClock()
    if kubeconfig is not None:
        return files.load((kubeconfig,), environ, clock, context=context, explicit=True)
    if listed := [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]:
        return files.load(tuple(dict.fromkeys(listed)), environ, clock, context=context)
    if environ.get("KUBERNETES_SERVICE_HOST") and environ.get("KUBERNETES_SERVICE_PORT"):
        return in_cluster(environ, service_account, clock)
    home = Path(environ.get("HOME") or "~").expanduser() / ".kube" / "config"
    if home.exists():
        return files.load((home,), environ, clock, context=context, explicit=True)
    raise ConfigError(
        f"no Kubernetes cluster: no --kubeconfig, KUBECONFIG is not set, this is not a pod (KUBERNETES_SERVICE_HOST is not "
        f"set) and {home} does not exist; give --kubeconfig FILE"
    )


def in_cluster(environ: Mapping[str, str], folder: Path, clock: Clock) -> Access:
    """The cluster this pod runs in, with its service account's rotating token.

    A proxy from the environment is not used here, unlike client-go: HTTPS_PROXY is set for the carbon data, and the API
    server's service address means nothing outside the cluster.
    """
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    token, ca = folder / "token", folder / "ca.crt"
    if not token.exists():
        raise ConfigError(
            f"in-cluster configuration: {token} does not exist; set automountServiceAccountToken: true for this pod's "
            "service account, or give --kubeconfig FILE"
        )
    try:
        namespace = (folder / "namespace").read_text(encoding="utf-8").strip() or "default"
    except OSError:
        namespace = environ.get("POD_NAMESPACE", "default")
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        credentials=TokenFile(token, clock),
        tls=Tls(ca=ca, where="in-cluster configuration", clock=clock),
        namespace=namespace,
        origin="in-cluster configuration",
        in_cluster=True,
    )
