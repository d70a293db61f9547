"""The real API server's own record of who wrote what and when: evidence that does not come from the scheduler."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "Request",
            "verbs": ["create"],
            "resources": [{"group": "", "resources": ["pods/binding"]}],
        },
        {"level": "Metadata"},
    ],
}


class Request(NamedTuple):
    """One request that the API server has answered. `resource` e.g. "pods/binding"; `body` of Bindings only."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    received: datetime
    body: dict[str, Any]

    @property
    def writes(self) -> bool:
        return self.verb not in ("get", "list", "watch")


class AuditLog:
    """Give `arguments` to kube-apiserver before its start; `requests` reads what it has recorded since `forget`."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "audit.log"
        self._policy = folder / "audit-policy.json"
        self._policy.write_text(json.dumps(_POLICY))
        self._read_from = 0

    @property
    def arguments(self) -> dict[str, list[str]]:
        """ControlPlane's `extra_args`."""
        return {
            "kube-apiserver": [
                f"--audit-policy-file={self._policy}",
                f"--audit-log-path={self._log}",
                "--audit-log-maxsize=1000",
            ]
        }

    def forget(self) -> None:
        self._read_from = self._log.stat().st_size

    def requests(self, *users: str) -> list[Request]:
        """Of these users, or of all, in the order of their arrival."""
        with self._log.open("rb") as file:
            file.seek(self._read_from)
            whole_lines = file.read().split(b"\n")[:-1]
        found = [_request(json.loads(line)) for line in whole_lines]
        return sorted((one for one in found if not users or one.user in users), key=lambda one: one.received)

    def bindings(self, *users: str) -> list[Request]:
        """The Bindings that succeeded."""
        return [one for one in self.requests(*users) if one.resource == "pods/binding" and one.code == 201]


def _request(event: dict[str, Any]) -> Request:
    at = event.get("objectRef") or {}
    return Request(
        user=event["user"]["username"],
        verb=event["verb"],
        resource="/".join(filter(None, [at.get("resource"), at.get("subresource")])) or event["requestURI"],
        namespace=at.get("namespace", ""),
        name=at.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        body=event.get("requestObject") or {},
    )
