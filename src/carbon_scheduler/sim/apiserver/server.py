"""The embedded API server: a faithful stand-in for kube-apiserver 1.36, for tests, demos and offline work.

async with EmbeddedApiServer() as server:
    server.url, server.faults, server.registry
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from aiohttp import web

from carbon_scheduler.sim.apiserver.bodies import MAX_BODY_B
from carbon_scheduler.sim.apiserver.documents import copied, mapping, objects, present, text
from carbon_scheduler.sim.apiserver.failures import bad_request
from carbon_scheduler.sim.apiserver.faults import Faults
from carbon_scheduler.sim.apiserver.http import BOOKMARK_S, Handler
from carbon_scheduler.sim.apiserver.kinds import KINDS, NAMESPACES
from carbon_scheduler.sim.apiserver.kubelet import KubeletStandIn
from carbon_scheduler.sim.apiserver.registry import Registry
from carbon_scheduler.sim.apiserver.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from carbon_scheduler.sim.apiserver.documents import Document


def _utc_now() -> datetime:
    return datetime.now(tz=UTC)


class EmbeddedApiServer:
    """Plain HTTP on loopback, in the running event loop.

    `port` 0 takes a free one. `kubelet_delay_s` not None turns the kubelet stand-in on. With `token` every request must
    carry it. `seed` makes uids, names and random faults repeatable. Not enforced: RBAC, quotas, webhooks.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        token: str | None = None,
        kubelet_delay_s: float | None = None,
        seed: int = 0,
        bookmark_s: float = BOOKMARK_S,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.port = port
        self.store = Store()
        self.registry = Registry(self.store, now, seed)
        self.faults = Faults(seed, self.store.compact)
        self.token = token
        self._kubelet_delay_s = kubelet_delay_s
        self._kubelet: KubeletStandIn | None = None
        self._handler = Handler(
            self.registry, self.faults, now=now, token=token, refuse=self.refuse, seed=seed, bookmark_s=bookmark_s
        )
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self._server: web.Server | None = None
        self._return: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = web.Server(self._handler, request_factory=_request, handler_cancellation=True)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        if self._kubelet_delay_s is not None:
            self._kubelet = KubeletStandIn(self.registry, self._kubelet_delay_s)

    async def stop(self) -> None:
        """End all watches, close all connections, stop listening."""
        if self._return is not None:
            self._return.cancel()
            with suppress(asyncio.CancelledError):
                await self._return
        if self._kubelet is not None:
            self._kubelet.stop()
        self.faults.clear()
        self.faults.close_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    async def refuse(self, seconds: float) -> None:
        """Close every connection and refuse new ones for so long, then listen on the same port again."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._return = asyncio.create_task(self._listen_again(seconds))

    def load(self, documents: Iterable[Document]) -> int:
        """Create objects given as manifests, Lists unfolded, before or after the start; returns how many.

        Namespaces that they name are made. Raises Failure for an object that the API would refuse.
        """
        count = 0
        for document in documents:
            inner = list(objects(document, "items"))
            if text(document, "kind").endswith("List") and "items" in document:
                count += self.load(inner)
            else:
                self._load(document)
                count += 1
        return count

    def _load(self, document: Document) -> None:
        group, _, version = text(document, "apiVersion").rpartition("/")
        kind = next(
            (
                each
                for each in KINDS
                if (each.group, each.version, each.kind) == (group, version, text(document, "kind"))
            ),
            None,
        )
        if kind is None:
            raise bad_request(
                f"load: got apiVersion {text(document, 'apiVersion')!r}, kind {text(document, 'kind')!r}; expected one of "
                + ", ".join(f"{each.api_version} {each.kind}" for each in KINDS)
            )
        namespace = (text(document, "metadata", "namespace") or "default") if kind.namespaced else ""
        if namespace and ("", namespace) not in self.store.collection(NAMESPACES.storage).objects:
            self.registry.create(NAMESPACES, "", {"metadata": {"name": namespace}})
        metadata = {key: value for key, value in mapping(document, "metadata").items() if key != "resourceVersion"}
        status = document.get("status")
        stored = self.registry.create(kind, namespace, copied({**document, "metadata": metadata}))
        if kind.status and present(status) and status != stored.document.get("status"):
            patch = {"status": copied(status)}
            content_type = "application/merge-patch+json"
            self.registry.patch(kind, *stored.key, content_type, patch, subresource="status")

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=512)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def _listen_again(self, after_s: float) -> None:
        await asyncio.sleep(0.01)  # the answer to whoever asked for this goes out first
        if self._server is not None:
            for connection in list(self._server.connections):
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()
        await asyncio.sleep(after_s)
        await self._listen()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: object,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(
        message,
        payload,
        protocol,
        writer,  # type: ignore[arg-type]
        task,
        asyncio.get_running_loop(),
        client_max_size=MAX_BODY_B,
    )
