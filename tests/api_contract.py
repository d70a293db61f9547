"""One client for both API servers, the embedded and the real one, so that the same tests can be put to both."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carbon_scheduler.sim.apiserver import Faults

JSON = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class Answer(NamedTuple):
    status: int
    body: Any
    """The JSON, without managedFields (which the embedded server does not keep)."""
    headers: Any

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def metadata(self) -> JSON:
        return dict(self.body["metadata"])


class Api:
    """An API server and a namespace of the test's own in it. Use as an async context manager.

    `faults` is the embedded server's, None on the real one. `compact` makes both forget their history of events.
    """

    def __init__(self, url: str, namespace: str, *, token: str = "", ca_file: Path | None = None) -> None:
        self.url = url
        self.namespace = namespace
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.configmaps = f"/api/v1/namespaces/{namespace}/configmaps"
        self.events = f"/api/v1/namespaces/{namespace}/events"
        self.leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self.faults: Faults | None = None
        self.compact: Callable[[], None] = lambda: None
        self._token = token
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._session = aiohttp.ClientSession(
            self.url,
            headers=headers,
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        await self.ok("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self.call("DELETE", f"{self.pods}?gracePeriodSeconds=0")
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use `async with`"
        return self._session

    async def call(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json", **headers: str
    ) -> Answer:
        data = body if isinstance(body, bytes | str | None) else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            sent["Content-Type"] = content_type
        async with self.session.request(method, path, data=data, headers=sent) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            answer = _without_managers(json.loads(raw)) if is_json and raw else raw.decode()
            return Answer(response.status, answer, response.headers)

    async def ok(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> JSON:
        """The object that a call which must succeed answers."""
        answer = await self.call(method, path, body, content_type=content_type)
        assert answer.status < 300, f"{method} {path}: {answer.status}: {answer.body}"
        return dict(answer.body)

    async def pod(self, name: str, *, meta: JSON | None = None, **spec: Any) -> JSON:
        """A pod, created."""
        return await self.ok("POST", self.pods, pod(name, meta=meta, **spec))

    async def bind(self, name: str, node: str = "n1", **metadata: Any) -> Answer:
        body = {"metadata": {"name": name, **metadata}, "target": {"kind": "Node", "name": node}}
        return await self.call("POST", f"{self.pods}/{name}/binding", body)

    async def watch(
        self, path: str, *, events: int | None = None, timeout_s: int = 1, accept: str = "*/*"
    ) -> list[JSON]:
        """The first `events` events of a watch, or (None) all until the server ends it after `timeout_s`."""
        found: list[JSON] = []
        separator = "&" if "?" in path else "?"
        url = f"{path}{separator}watch=1&timeoutSeconds={timeout_s}"
        async with self.session.get(url, headers={"Accept": accept}) as response:
            assert response.status == 200, await response.text()
            while events is None or len(found) < events:
                async with asyncio.timeout(20):
                    line = await response.content.readline()
                if not line:
                    break
                found.append(_without_managers(json.loads(line)))
        return found


def pod(name: str, *, meta: JSON | None = None, **spec: Any) -> JSON:
    """The smallest pod that is valid."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(meta or {})},
        "spec": {"containers": [{"name": "c", "image": "x"}], **spec},
    }


def seen(events: list[JSON]) -> list[tuple[str, str]]:
    """(type, name) of each event."""
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def _without_managers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_managers(inner) for key, inner in value.items() if key != "managedFields"}
    if isinstance(value, list):
        return [_without_managers(inner) for inner in value]
    return value
