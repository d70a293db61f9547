"""Host ports: every protocol, addresses that do and do not clash, sidecars, init containers that take none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parity.draft import JSON, filled

if TYPE_CHECKING:
    from parity.draft import Draft


def add(draft: Draft) -> None:
    for pod in draft.all_pods:
        if pod is draft.pod or draft.rng.random() < 0.5:
            pod["spec"]["containers"][0]["ports"] = draft.some("ports", 3, lambda: _port(draft))
            if draft.chance("a further container with ports", 0.15):
                pod["spec"]["containers"].append({"name": "c-ports", "image": "app", "ports": [_port(draft)]})
            if draft.chance("an init container with ports", 0.2):
                init: JSON = {"name": "i-ports", "image": "app", "ports": [_port(draft)]}
                if draft.chance("it is a sidecar", 0.5):
                    init["restartPolicy"] = "Always"
                pod["spec"].setdefault("initContainers", []).append(init)


def _port(draft: Draft) -> JSON:
    port = draft.one_of("host port", (None, 80, 8080, 65535), (1, 4, 3, 1))
    return filled(
        containerPort=port or 80,
        hostPort=port,
        hostIP=draft.one_of("host IP", ("", "0.0.0.0", "127.0.0.1", "10.0.0.1", "::", "::1"), (4, 1, 2, 2, 1, 1)),
        protocol=draft.one_of("protocol", ("TCP", "UDP", "SCTP"), (4, 2, 1)),
    )
