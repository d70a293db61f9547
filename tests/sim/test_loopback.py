"""Ports for servers that go away and come back."""

from __future__ import annotations

import socket
from itertools import chain, count
from pathlib import Path

import pytest

from carbon_scheduler.errors import ClusterError
from carbon_scheduler.sim import loopback


def test_a_port_is_never_one_that_a_client_could_be_given() -> None:
    """Else a client that reconnects while the server is away could connect to itself on it."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first_ephemeral < 32_000:
        pytest.skip(f"this machine hands out ports from {first_ephemeral} on to clients")
    assert all(loopback.free_port() < first_ephemeral for _ in range(50))


def test_ports_in_use_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        draws = chain([0, 0], count(1))
        monkeypatch.setattr(loopback, "_FIRST_PORT", port)
        monkeypatch.setattr("secrets.randbelow", lambda _: next(draws))
        assert loopback.free_port() > port


def test_without_a_free_port_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(loopback, "_FIRST_PORT", taken.getsockname()[1])
        monkeypatch.setattr(loopback, "_PORTS", 1)
        with pytest.raises(ClusterError, match="expected a free one"):
            loopback.free_port()
