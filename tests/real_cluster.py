"""A cluster to work on: the real API server behind a client that is quick to write with and quick to fill."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from carbon_scheduler.sim.control_plane import ControlPlane

JSON = dict[str, Any]
PATHS = {"Node": "nodes", "Pod": "pods", "Namespace": "namespaces"}


class Cluster:
    """An independent client of the API server (no code of the scheduler's), as the admin of a control plane.

    Use as an async context manager. `create` sends many objects over 32 connections: about 1,000 a second here.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self.plane.ca_file)
        self._session = aiohttp.ClientSession(
            self.plane.server_url,
            headers={"Authorization": f"Bearer {self.plane.admin_token}"},
            connector=aiohttp.TCPConnector(ssl=context, limit=32),
            timeout=aiohttp.ClientTimeout(total=60),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def call(self, method: str, path: str, body: object = None, *, want: int | None = None) -> JSON:
        """The answer's JSON. Any failure status is an AssertionError with the server's message, unless it is `want`."""
        assert self._session is not None, "use `async with Cluster(plane) as cluster`"
        headers = {"Content-Type": "application/strategic-merge-patch+json"} if method == "PATCH" else None
        async with self._session.request(method, path, json=body, headers=headers) as response:
            answer: JSON = await response.json()
            ok = response.status == want if want else response.status < 400
            assert ok, f"{method} {path}: {response.status}: {answer.get('message', answer)}"
            return answer

    async def create(self, objects: Iterable[JSON]) -> list[JSON]:
        """All of them at once, in any order; their stored form in the order given."""
        return list(await asyncio.gather(*(self.call("POST", _collection(one), one) for one in objects)))

    async def get(self, kind: str, name: str, namespace: str = "default") -> JSON:
        return await self.call("GET", f"{_path(kind, namespace)}/{name}")

    async def list(self, kind: str, namespace: str | None = None, **query: str) -> list[JSON]:
        """All of a kind, of all namespaces without one; `query` e.g. fieldSelector="spec.nodeName=a"."""
        filters = "&".join(f"{key}={value}" for key, value in query.items())
        path = _path(kind, namespace) if namespace or kind != "Pod" else "/api/v1/pods"
        items: list[JSON] = (await self.call("GET", f"{path}?{filters}"))["items"]
        return items

    async def watch(self, path: str, **query: str) -> AsyncIterator[JSON]:
        """The events of one watch until it ends. Raises aiohttp.ClientError when it cannot begin or is cut."""
        assert self._session is not None, "use `async with Cluster(plane) as cluster`"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._session.get(path, params={"watch": "1", **query}, timeout=limits) as response:
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def patch(self, kind: str, name: str, change: JSON, namespace: str = "default") -> JSON:
        """A strategic merge patch."""
        return await self.call("PATCH", f"{_path(kind, namespace)}/{name}", change)

    async def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        """At once: no grace period, since there is no kubelet to end it."""
        await self.call("DELETE", f"{_path(kind, namespace)}/{name}?gracePeriodSeconds=0")

    async def clear(self) -> None:
        """No pods and no nodes: what a test starts from on a shared control plane, whatever the test before left there."""
        for kind in ("Pod", "Node"):
            left = [one["metadata"] for one in await self.list(kind)]
            await asyncio.gather(*(self._remove(kind, meta) for meta in left))
            assert await self.list(kind) == [], f"a {kind} could not be removed"

    async def _remove(self, kind: str, meta: JSON) -> None:
        name, namespace = meta["name"], meta.get("namespace", "default")
        await self.delete(kind, name, namespace)
        if meta.get("finalizers"):
            await self.patch(kind, name, {"metadata": {"finalizers": None}}, namespace)


def _path(kind: str, namespace: str | None) -> str:
    plural = PATHS[kind]
    return f"/api/v1/namespaces/{namespace}/{plural}" if kind == "Pod" else f"/api/v1/{plural}"


def _collection(one: JSON) -> str:
    return _path(one["kind"], one["metadata"].get("namespace", "default"))


async def eventually(
    check: Callable[[], Awaitable[object]], what: str, *, within_s: float = 30.0, every_s: float = 0.1
) -> None:
    """Waits until `check` returns something true. Fails with `what` and the last value after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (last := await check()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what} (last: {last!r})")
        await asyncio.sleep(every_s)
