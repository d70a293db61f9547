"""`/livez`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and Prometheus. Read only, and cheap to refuse.

Readiness does not depend on leading: the replica that waits is ready too, or a rollout would stall.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from carbon_scheduler.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.typedefs import Handler

    from carbon_scheduler.observe.metrics import Metrics

MAX_CONNECTIONS: Final = 64
CONNECTION_S: Final = 10.0
"""How long a connection may last. Each carries one request: without the limit a few idle clients would shut out the kubelet."""
RENDER_EVERY_S: Final = 0.25
"""The metrics are rendered at most this often, so that a flood of scrapes costs a copy each and not the loop's time."""
_TEXT: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache, no-store"}


class HealthServer:
    """Serves until closed. A check answers at once: None when all is well, else the reason (anyone who reaches the port
    sees it: no secret in it).

    server = HealthServer(metrics, live={}, ready={"caches": lambda: None if synced else "the first lists are not in"})
    port = await server.start("0.0.0.0", 10259)
    ...
    await server.close()
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        live: Mapping[str, Callable[[], str | None]],
        ready: Mapping[str, Callable[[], str | None]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._now = now
        self._rendered: dict[str, tuple[float, bytes, str]] = {}
        app = web.Application(client_max_size=1, middlewares=[_close_after])
        for name, checks in {"livez": live, "healthz": live, "readyz": ready}.items():
            app.router.add_get(f"/{name}", _answering(name, checks))
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, max_line_size=4096, max_field_size=4096, lingering_time=0
        )
        self._server: asyncio.Server | None = None

    async def start(self, address: str, port: int) -> int | None:
        """Begins to listen; the port (of use when 0 was asked for), or None when `address` is "" and nothing is served.

        Raises ConfigError when it cannot listen there.
        """
        if not address:
            return None
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(self._accept, address, port, backlog=128)
        except (OSError, OverflowError, UnicodeError) as error:
            await self._runner.cleanup()
            number = getattr(error, "errno", None) or 0
            why = os.strerror(number) if number > 0 else str(error)  # asyncio's own text repeats the address
            raise ConfigError(
                f"serve: cannot listen on {address}:{port}: {why}; another program (or a second scheduler) may hold it: "
                "choose with --serve ADDRESS:PORT (port 0 takes any free one, an empty address serves nothing)"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        await self._runner.cleanup()

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Refuse()
        protocol = server()
        asyncio.get_running_loop().call_later(CONNECTION_S, _cut, protocol)
        return protocol

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        accept = "openmetrics" if "application/openmetrics-text" in request.headers.get("Accept", "") else "text"
        at, body, content_type = self._rendered.get(accept, (float("-inf"), b"", ""))
        if self._now() - at > RENDER_EVERY_S:
            body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
            self._rendered[accept] = (self._now(), body, content_type)
        return web.Response(body=body, headers={**_TEXT, "Content-Type": content_type})


def _answering(name: str, checks: Mapping[str, Callable[[], str | None]]) -> Handler:
    """In kube-apiserver's form: `ok`, or a line per check when one fails or `?verbose` asks for it."""

    async def answer(request: web.Request) -> web.Response:
        reasons = {check: ask() for check, ask in checks.items()}
        well = all(reason is None for reason in reasons.values())
        if well and "verbose" not in request.query:
            return web.Response(text="ok", headers=_TEXT)
        lines = [f"[+]{check} ok" if why is None else f"[-]{check} failed: {why}" for check, why in reasons.items()]
        lines.append(f"{name} check {'passed' if well else 'failed'}")
        return web.Response(status=200 if well else 503, text="\n".join(lines) + "\n", headers=_TEXT)

    return answer


@web.middleware
async def _close_after(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as refusal:
        refusal.force_close()
        raise
    response.force_close()
    return response


def _cut(protocol: asyncio.Protocol) -> None:
    transport = getattr(protocol, "transport", None)
    if transport is not None:
        transport.abort()


class _Refuse(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
