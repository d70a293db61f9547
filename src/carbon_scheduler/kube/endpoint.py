"""One API server as it is reached: address, credentials, TLS, proxy."""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from carbon_scheduler.errors import ConfigError
from carbon_scheduler.kube.clock import SystemClock
from carbon_scheduler.kube.credentials import ClientCertificate, Credentials, StaticToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.kube.clock import Clock

MAX_PEM_B = 4 * 1024 * 1024
RELOAD_S = 60.0


class Tls:
    """The TLS context for a server, built anew when one of its files or the plugin's certificate changed.

    Files are looked at (not read) at most each minute, like client-go's certificate rotation.
    """

    def __init__(
        self,
        *,
        ca: Path | bytes | None = None,
        certificate: ClientCertificate | tuple[Path, Path] | None = None,
        insecure: bool = False,
        server_name: str | None = None,
        where: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.server_name = server_name
        self.insecure = insecure
        self._ca = ca
        self._certificate = certificate
        self._where = where
        self._clock = clock or SystemClock()
        self._context: ssl.SSLContext | None = None
        self._state: tuple[object, ...] = ()
        self._looked_at = 0.0
        self._files: tuple[float, ...] = ()

    def context(self, plugin: ClientCertificate | None = None) -> ssl.SSLContext:
        """The context to connect with. The same object as long as nothing changed: pools key their connections by it.

        Raises ConfigError when a file cannot be used.
        """
        now = self._clock.monotonic()
        if self._context is None or now - self._looked_at >= RELOAD_S:
            self._files = self._stamps()
            self._looked_at = now
        state = (self._files, plugin)
        if self._context is None or state != self._state:
            self._context = self._build(plugin)
            self._state = state
        return self._context

    def _stamps(self) -> tuple[float, ...]:
        paths = [self._ca] if isinstance(self._ca, Path) else []
        if isinstance(self._certificate, tuple):
            paths += self._certificate
        try:
            return tuple(path.stat().st_mtime for path in paths)
        except OSError as error:
            raise ConfigError(f"{self._where}: {error.filename}: {error.strerror}; correct the path") from error

    def _build(self, plugin: ClientCertificate | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Go's rules, by which clusters are made: any certificate of the bundle is an anchor, and a CA needs no key
        # identifiers (Python 3.13 would refuse those; PROTOCOL_TLS_CLIENT by itself does not set VERIFY_X509_STRICT).
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._ca is None:
            context.load_default_certs()
        else:
            self._load_ca(context, self._ca)
        mine = plugin or self._certificate
        if isinstance(mine, tuple):
            mine = ClientCertificate(read_pem(mine[0], self._where), read_pem(mine[1], self._where))
        if mine is not None:
            self._load_chain(context, mine)
        return context

    def _load_ca(self, context: ssl.SSLContext, ca: Path | bytes) -> None:
        pem = read_pem(ca, self._where) if isinstance(ca, Path) else ca
        try:
            context.load_verify_locations(cadata=pem.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            name = str(ca) if isinstance(ca, Path) else "certificate-authority-data"
            raise ConfigError(f"{self._where}: {name}: not a certificate in PEM form; correct it") from error

    def _load_chain(self, context: ssl.SSLContext, mine: ClientCertificate) -> None:
        # The ssl module reads chains from files only. A memory file leaves no key on any disk and works on a read-only root.
        fd = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(mine.chain_pem.rstrip() + b"\n" + mine.key_pem)
            context.load_cert_chain(f"/proc/self/fd/{fd}", password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"{self._where}: client certificate and key do not load ({error}); expected a PEM certificate and its "
                "own key without a password"
            ) from error
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API server. `server` has no trailing slash; `proxy` may hold a password and is not shown."""

    server: str
    credentials: Credentials = field(default_factory=StaticToken, repr=False)
    tls: Tls | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    namespace: str = "default"
    origin: str = ""
    in_cluster: bool = False
    impersonate: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    compress: bool = True


def read_pem(path: Path, where: str) -> bytes:
    """A file of the operator's, up to 4 MiB. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM_B + 1)
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}; correct the path") from error
    if len(content) > MAX_PEM_B:
        raise ConfigError(f"{where}: {path}: more than {MAX_PEM_B} bytes, expected a certificate or key in PEM form")
    return content


def proxy_from(environ: Mapping[str, str], server: str) -> str | None:
    """The proxy that the environment names for this server, by the rules of Go's httpproxy: never for loopback; NO_PROXY
    holds names (with their subdomains), addresses, networks (10.0.0.0/8) or `*`."""
    parts = urlsplit(server)
    host = (parts.hostname or "").lower()
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name)
    if not proxy or host == "localhost":
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and address.is_loopback:
        return None
    for entry in (environ.get("NO_PROXY") or environ.get("no_proxy") or "").lower().split(","):
        rule = entry.strip()
        if rule and _bypasses(rule, host, parts.port, address):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _bypasses(
    rule: str, host: str, port: int | None, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if rule == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            pass
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdigit():
        if port != int(wanted):
            return False
        rule = name
    rule = rule.removeprefix("*")
    return host.endswith(rule) if rule.startswith(".") else host == rule or host.endswith("." + rule)
