"""HTTP GET as a source of data needs it: bounded in time and size, no redirects, no cookies, through the environment's proxy.

aiohttp's `trust_env` is not used: it would also send what ~/.netrc holds for the host, a password that nobody meant for it.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from carbon_scheduler import __version__
from carbon_scheduler.errors import ConfigError, ProviderUnavailable
from carbon_scheduler.observe.redact import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.providers.key import ApiKey

MAX_BODY_B: Final = 1024 * 1024
_CONNECTIONS: Final = 8


@dataclass(frozen=True)
class Answer:
    """What came back, whatever the status. `location` is the host a redirect leads to, "" without one."""

    status: int
    body: bytes
    content_type: str
    retry_after: str
    location: str


class Http:
    """GETs from one base address. Opened on first use, bound to the event loop of that moment; close it there.

    Raises ConfigError from the constructor for an address, proxy or CA file that cannot be used.
    """

    def __init__(self, url: str, *, timeout_s: float, ca_file: str, environ: Mapping[str, str]) -> None:
        self.base = _base(url)
        self.place = self.base.host_port_subcomponent or ""
        self._timeout_s = timeout_s
        self._proxy, self._proxy_headers = _proxy(self.base, environ)
        self._ssl = _ssl_context(ca_file or environ.get("REQUESTS_CA_BUNDLE", ""))
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self, path: str, query: Mapping[str, str], key: ApiKey | None, max_body_b: int = MAX_BODY_B
    ) -> Answer:
        """Raises ProviderUnavailable when there was no complete answer in time, or a larger one than `max_body_b`."""
        url = self.base.with_path(self.base.path.rstrip("/") + path).with_query(query)
        problem = ""
        try:
            # Waiting for a free connection does not count: slow answers of some zones must not time out the others.
            async with self._slots, asyncio.timeout(self._timeout_s):
                return await self._get(url, key, max_body_b)
        except TimeoutError:
            problem = f"no complete answer within {self._timeout_s:g} s"
        except _TooLarge:
            problem = f"the answer is larger than {max_body_b} bytes"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _describe(error, key)
        # Outside of `except`, so that the error is not even its context: aiohttp's errors carry the request with its headers.
        through = f" through the proxy {self._proxy.host}:{self._proxy.port}" if self._proxy else ""
        raise ProviderUnavailable(
            f"API request failed: {self.place}{path}{through}: {problem}; check the network, HTTPS_PROXY and NO_PROXY, and "
            "ELECTRICITY_MAPS_URL"
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, url: URL, key: ApiKey | None, max_body_b: int) -> Answer:
        session = self._open()
        headers = {"auth-token": key.reveal()} if key else {}
        tunnel = self.base.scheme == "https"
        if self._proxy_headers and not tunnel:  # without a tunnel the proxy reads the request itself
            headers |= self._proxy_headers
        async with session.get(
            url,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers if tunnel else None,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_body_b:
                    raise _TooLarge
            return Answer(
                status=response.status,
                body=bytes(body),
                content_type=response.headers.get("Content-Type", ""),
                retry_after=response.headers.get("Retry-After", ""),
                location=_host(response.headers.get("Location", "")),
            )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._ssl),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=None),
                headers={"Accept": "application/json", "User-Agent": f"carbon-aware-kube-scheduler/{__version__}"},
            )
        return self._session


class _TooLarge(Exception):
    pass


def _base(url: str) -> URL:
    try:
        base = URL(url)
    except ValueError:
        base = URL()
    if base.scheme not in ("http", "https") or not base.host:
        raise ConfigError(f"ELECTRICITY_MAPS_URL: got {printable(url, 128)!r}, expected https://HOST[:PORT][/PATH]")
    if base.user or base.password:
        raise ConfigError(
            f"ELECTRICITY_MAPS_URL: has a user or password before {base.host}; leave them out, the key is enough"
        )
    return base.with_query(None).with_fragment(None)


def _proxy(base: URL, environ: Mapping[str, str]) -> tuple[URL | None, dict[str, str] | None]:
    """HTTPS_PROXY and NO_PROXY (lower case first, as curl does) for this address."""
    bypass = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    name = f"{base.scheme}_proxy"
    text = environ.get(name) or environ.get(name.upper()) or ""
    if not text or _bypassed(base.host or "", base.port, bypass):
        return None, None
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise ConfigError(
            f"{name.upper()}: expected http://[USER:PASSWORD@]HOST:PORT (its value is not shown, it may hold a password)"
        )
    if not proxy.user:
        return proxy, None
    return proxy.with_user(None), {"Proxy-Authorization": aiohttp.encode_basic_auth(proxy.user, proxy.password or "")}


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether NO_PROXY covers a host: `*`, names with all that ends in them, each with or without a port."""
    for word in no_proxy.casefold().replace(" ", "").split(","):
        name, separator, wanted_port = word.rpartition(":") if word.count(":") == 1 else (word, "", "")
        name = name.removeprefix("*").strip(".[]") if name != "*" else name
        if not name or (separator and wanted_port != str(port)):
            continue
        if name == "*" or host.casefold() == name or host.casefold().endswith(f".{name}"):
            return True
    return False


def _ssl_context(ca_file: str) -> ssl.SSLContext:
    """Trusts `ca_file` alone when one is given, else the system's store (which OpenSSL moves with SSL_CERT_FILE)."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"CA bundle {ca_file}: cannot be used: {error}; expected certificates in PEM. It is named by the configuration's "
            "electricity_maps.ca_file or by REQUESTS_CA_BUNDLE"
        ) from error


def _host(location: str) -> str:
    try:
        return printable(URL(location).host or "", 128)
    except ValueError:
        return "an address that cannot be read"


def _describe(error: Exception, key: ApiKey | None) -> str:
    """Why there was no answer, in words that hold no header: never the error's repr."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = f"its certificate is not trusted ({error.certificate_error}); name your CA's bundle with SSL_CERT_FILE"
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = f"cannot connect ({error.os_error.strerror or error.os_error})"
    elif isinstance(error, aiohttp.ClientResponseError):
        text = f"status {error.status} {error.message}"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        text = "the connection was closed before an answer"
    elif isinstance(error, aiohttp.ClientPayloadError):
        text = "the answer broke off"
    else:
        text = f"{type(error).__name__} {error}"
    return printable(key.hide_in(text) if key else text, 300)
