"""Ports and small blocking requests on this machine, for starting real servers and asking whether they are up."""

from __future__ import annotations

import http.client
import secrets
import socket
import ssl
from typing import TYPE_CHECKING, Final

from carbon_scheduler.errors import ApiUnreachable, ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FIRST_PORT: Final = 20_000
_PORTS: Final = 12_000
"""Below Linux' ephemeral ports (32768 and up). While a server with an ephemeral port is away, a client that tries to
reconnect can be given that very port, connect to itself, and keep the server from coming back."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment; another process may take it before the caller does."""
    for _ in range(200):
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ClusterError(
        f"127.0.0.1: 200 ports between {_FIRST_PORT} and {_FIRST_PORT + _PORTS - 1} were all in use, expected a free one; "
        "look for servers that were left running"
    )


def exchange(
    method: str,
    port: int,
    path: str,
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    ca_file: Path | None = None,
    timeout_s: float = 30.0,
) -> tuple[int, bytes]:
    """Status and body of one HTTPS request to 127.0.0.1, on a connection of its own. Without `ca_file` the certificate is
    not checked: then send no secret. Raises ApiUnreachable.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else ssl._create_unverified_context()
        return _ask(
            http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=context),
            method,
            path,
            body,
            headers,
        )
    except (OSError, http.client.HTTPException) as error:
        raise ApiUnreachable(f"{method} https://127.0.0.1:{port}{path}: {error}", sent=True) from error


def unwell(port: int, path: str, *, tls: bool) -> str | None:
    """None when a health endpoint says 200, else what it said or why it could not be asked."""
    try:
        if tls:
            status, answer = exchange("GET", port, path, timeout_s=5.0)
        else:
            status, answer = _ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5.0), "GET", path, None, None)
    except (OSError, http.client.HTTPException, ApiUnreachable) as error:
        return str(error)
    return None if status == 200 else f"{status} {answer[:500].decode(errors='replace')}"


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None, headers: Mapping[str, str] | None
) -> tuple[int, bytes]:
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
