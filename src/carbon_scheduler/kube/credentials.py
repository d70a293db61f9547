"""Who we are towards the API server: bearer tokens that may rotate, and client certificates that a plugin may hand out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from carbon_scheduler.errors import ApiUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.kube.clock import Clock

TOKEN_FILE_TTL_S = 60.0
"""client-go re-reads a token file each minute (transport/token_source.go)."""
EXEC_TIMEOUT_S = 60.0
EXEC_SKEW_S = 10.0
REAP_S = 5.0
"""How long a plugin that was killed may take to be gone."""
MAX_TOKEN_B = 64 * 1024
MAX_EXEC_OUTPUT_B = 1024 * 1024
EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class ClientCertificate:
    """A certificate chain and its key, PEM. The key is never shown."""

    __slots__ = ("chain_pem", "key_pem")

    def __init__(self, chain_pem: bytes, key_pem: bytes) -> None:
        self.chain_pem = chain_pem
        self.key_pem = key_pem


class Credentials(Protocol):
    """Asked before every request. `certificate` is what the plugin gave last, None for all that are not plugins."""

    certificate: ClientCertificate | None

    async def token(self) -> str | None:
        """The bearer token to send now, or None. Raises ApiUnreachable (`sent` False) when there should be one but is not."""
        ...

    async def refresh(self, refused: str | None) -> bool:
        """The server answered 401 to `refused`. Returns whether another attempt makes sense."""
        ...


class StaticToken:
    """A fixed token, or none at all."""

    certificate: ClientCertificate | None = None

    def __init__(self, token: str | None = None) -> None:
        self._token = token

    async def token(self) -> str | None:
        return self._token

    async def refresh(self, refused: str | None) -> bool:
        return self._token != refused


class TokenFile:
    """A token file that somebody rotates, re-read at most each minute and after a 401.

    When it cannot be read the last good token is used on, as client-go does: a projected volume is swapped, not locked.
    """

    certificate: ClientCertificate | None = None

    def __init__(self, path: Path, clock: Clock, fallback: str | None = None) -> None:
        self._path = path
        self._clock = clock
        self._token = fallback
        self._read_at: float | None = None

    async def token(self) -> str | None:
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at >= TOKEN_FILE_TTL_S:
            self._read()
        return self._token

    async def refresh(self, refused: str | None) -> bool:
        self._read()
        return self._token != refused

    def _read(self) -> None:
        problem: OSError | ValueError | None = None
        try:
            with self._path.open("rb") as file:
                token = file.read(MAX_TOKEN_B).decode("ascii").strip()
        except (OSError, ValueError) as error:
            token, problem = "", error
        if token and token.isprintable():
            self._token = token
            self._read_at = self._clock.monotonic()
        elif self._token is None:
            # The text of a decoding error shows bytes of the file: only its kind is told.
            why = problem.strerror if isinstance(problem, OSError) else "it holds no token"
            raise ApiUnreachable(
                f"token file {self._path}: {why}; expected a bearer token: check that it is mounted and readable",
                sent=False,
            )


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _Status | None = None


class ExecPlugin:
    """A credential plugin (`client.authentication.k8s.io/v1` and `v1beta1`).

    It runs without a terminal, for at most a minute, with our environment, the configured variables and
    KUBERNETES_EXEC_INFO; what it writes to standard error goes to ours, as kubectl does. Its answer is kept until it expires
    or the server refuses it.
    """

    def __init__(
        self,
        command: str,
        args: tuple[str, ...],
        env: Mapping[str, str],
        api_version: str,
        cluster: Mapping[str, object] | None,
        install_hint: str,
        environ: Mapping[str, str],
        clock: Clock,
        timeout_s: float = EXEC_TIMEOUT_S,
    ) -> None:
        self.certificate: ClientCertificate | None = None
        self._argv = (command, *args)
        self._api_version = api_version
        self._install_hint = install_hint
        spec: dict[str, object] = {"interactive": False}
        if cluster is not None:
            spec["cluster"] = cluster
        told = {"kind": "ExecCredential", "apiVersion": api_version, "spec": spec}
        self._environ = {**environ, **env, "KUBERNETES_EXEC_INFO": msgspec.json.encode(told).decode()}
        self._clock = clock
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._known = False
        self._expires_at: float | None = None

    async def token(self) -> str | None:
        if self._fresh():
            return self._token
        async with self._lock:
            if not self._fresh():
                await self._run()
        return self._token

    async def refresh(self, refused: str | None) -> bool:
        before = self.certificate
        async with self._lock:
            if self._token == refused and self.certificate is before:
                await self._run()
        return self._token != refused or self.certificate is not before

    def _fresh(self) -> bool:
        return self._known and (self._expires_at is None or self._clock.wall() < self._expires_at)

    async def _run(self) -> None:
        credential = self._parse(await self._output())
        status = credential.status
        if status is None or not (status.token or status.client_certificate_data):
            raise self._failed("its answer has neither status.token nor status.clientCertificateData")
        if status.token and not (status.token.isascii() and status.token.isprintable()):
            raise self._failed("its token holds characters that no header can carry")
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise self._failed("its answer has only one of status.clientCertificateData and status.clientKeyData")
        self._token = status.token or None
        if status.client_certificate_data and status.client_key_data:
            self.certificate = ClientCertificate(
                status.client_certificate_data.encode(), status.client_key_data.encode()
            )
        else:
            self.certificate = None
        self._expires_at = self._expiry(status.expiration_timestamp)
        self._known = True

    def _expiry(self, text: str | None) -> float | None:
        if not text:
            return None
        try:
            return datetime.fromisoformat(text).timestamp() - EXEC_SKEW_S
        except (ValueError, OverflowError) as error:
            raise self._failed(f"status.expirationTimestamp: got {text[:40]!r}, expected RFC 3339") from error

    def _parse(self, output: bytes) -> _ExecCredential:
        try:
            credential = msgspec.json.decode(output, type=_ExecCredential)
        except (ValueError, RecursionError):
            # Not chained: the decoder's text may show a piece of the answer, and the answer is a secret.
            raise self._failed("its answer is not an ExecCredential in JSON") from None
        if credential.api_version != self._api_version or credential.kind != "ExecCredential":
            raise self._failed(
                f"it answered {credential.kind[:40]!r} of {credential.api_version[:60]!r}, "
                f"expected 'ExecCredential' of {self._api_version!r}"
            )
        return credential

    async def _output(self) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                env=self._environ,
                start_new_session=True,
            )
        except OSError as error:
            hint = f" {self._install_hint}" if self._install_hint else ""
            raise self._failed(f"it cannot be started: {error.strerror or error}.{hint}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                output = await self._read(process)
                code = await process.wait()
        except TimeoutError:
            raise self._failed(f"it did not end within {self._timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                # Its own session: children that it left behind hold our pipe open and end with it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await _reap(process)
        if code != 0:
            raise self._failed(f"it ended with code {code}; its own message is above")
        return output

    async def _read(self, process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        parts: list[bytes] = []
        size_b = 0
        while part := await process.stdout.read(65536):
            parts.append(part)
            size_b += len(part)
            if size_b > MAX_EXEC_OUTPUT_B:
                raise self._failed(f"it wrote more than {MAX_EXEC_OUTPUT_B} bytes")
        return b"".join(parts)

    def _failed(self, why: str) -> ApiUnreachable:
        return ApiUnreachable(
            f"credential plugin {self._argv[0]}: {why}; run it by hand or log in again with your provider's tool",
            sent=False,
        )


async def _reap(process: asyncio.subprocess.Process) -> None:
    """After the kill. `wait` ends only with the pipe, and a pipe whose reader was full is not read to its end by itself."""
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError):  # a child in a session of its own may hold the pipe open
        async with asyncio.timeout(REAP_S):
            while await process.stdout.read(65536):
                pass
            await process.wait()
