"""`python -m carbon_scheduler.sim.apiserver`: the embedded API server as a process of its own.

It prints one JSON line `{"url":...,"kubeconfig":...,"pid":...}` when it listens. It ends on SIGTERM or SIGINT, and with its
parent: the kernel sends SIGTERM when the parent dies (prctl PR_SET_PDEATHSIG), which needs no pipe to be kept open and
works after `kill -9`. `--stay` keeps it for a shell that puts it in the background.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import uvloop
import yaml

from carbon_scheduler.sim.apiserver.failures import Failure
from carbon_scheduler.sim.apiserver.kubelet import duration_s
from carbon_scheduler.sim.apiserver.server import EmbeddedApiServer

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def _seconds(ctx: click.Context, option: click.Parameter, written: str | None) -> float | None:
    """A duration given on the command line, in seconds. Raises BadParameter."""
    seconds = None if written is None else duration_s(written)
    if written is not None and seconds is None:
        raise click.BadParameter(f"got {written!r}, expected a duration such as 500ms, 1s or 1m30s", ctx, option)
    return seconds


@click.command(context_settings={"show_default": True})
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 takes any free one.")
@click.option("--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), help="Write a kubeconfig for it there.")
@click.option(
    "--kubelet-delay",
    callback=_seconds,
    metavar="DURATION",
    help="Play the kubelets: a bound pod runs after this (e.g. 1s).",
)
@click.option(
    "--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Require this bearer token."
)
@click.option("--token", help="The same, given openly; for tests.")
@click.option(
    "--load",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Create the objects of a JSON or YAML file first.",
)
@click.option("--seed", type=int, default=0, help="For uids, generated names and random faults.")
@click.option("--stay", is_flag=True, help="Outlive the parent process.")
def main(
    port: int,
    kubeconfig: Path | None,
    kubelet_delay: float | None,
    token_file: Path | None,
    token: str | None,
    files: Sequence[Path],
    seed: int,
    stay: bool,
) -> None:
    """A stand-in for kube-apiserver on loopback.

    Example: python -m carbon_scheduler.sim.apiserver --kubeconfig /tmp/kubeconfig --kubelet-delay 1s
    """
    if not stay:
        _die_with_parent()
    if token_file is not None:
        token = token_file.read_text(encoding="utf-8").strip()
    server = EmbeddedApiServer(port=port, token=token, kubelet_delay_s=kubelet_delay, seed=seed)
    for file in files:
        try:
            server.load(document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document)
        except (Failure, yaml.YAMLError, UnicodeDecodeError) as error:
            raise click.ClickException(f"--load {file}: {error}") from error
    try:
        uvloop.run(_serve(server, kubeconfig))
    except OSError as error:
        raise click.ClickException(f"cannot listen on 127.0.0.1:{port}: {error}; choose another --port") from error


async def _serve(server: EmbeddedApiServer, kubeconfig: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        if kubeconfig is not None:
            write_kubeconfig(kubeconfig, server.url, server.token)
        announced = {"url": server.url, "kubeconfig": str(kubeconfig) if kubeconfig else None, "pid": os.getpid()}
        sys.stdout.write(json.dumps(announced) + "\n")
        sys.stdout.flush()
        await stop.wait()


def write_kubeconfig(file: Path, url: str, token: str | None) -> None:
    """Write a kubeconfig that reaches `url`, readable by its owner only, whole or not at all."""
    name = "embedded"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": {"token": token} if token else {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    part.replace(file)


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent ends, and end at once when it already has."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise click.ClickException(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}; use --stay")
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
