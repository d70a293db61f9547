"""TLS on loopback: who is trusted, who we are, and files that change."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kube_fakes import FakeClock

from carbon_scheduler.errors import ApiUnreachable
from carbon_scheduler.kube.credentials import ClientCertificate
from carbon_scheduler.kube.endpoint import Access, Tls
from carbon_scheduler.kube.transport import AiohttpTransport, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PEMS = Path(__file__).parent / "tls"


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """An HTTPS server that answers with the name in the client's certificate; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEMS / "server.crt", PEMS / "server.key")
    context.load_verify_locations(PEMS / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                certificate = writer.get_extra_info("peercert") or {}
                name = next((v for part in certificate.get("subject", ()) for k, v in part if k == "commonName"), "-")
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    listening = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


class Plugin:
    """Credentials as an exec plugin's: a certificate that may change."""

    def __init__(self) -> None:
        self.certificate: ClientCertificate | None = None

    async def token(self) -> str | None:
        return None

    async def refresh(self, refused: str | None) -> bool:
        return False


async def ask(transport: AiohttpTransport) -> str:
    return (await transport.send(Request("GET", "/"), 1000)).body.decode()


async def ask_once(address: str, tls: Tls) -> str:
    transport = AiohttpTransport(Access(address, tls=tls))
    try:
        return await ask(transport)
    finally:
        await transport.close()


def certificate(name: str) -> ClientCertificate:
    return ClientCertificate((PEMS / f"{name}.crt").read_bytes(), (PEMS / f"{name}.key").read_bytes())


async def test_a_server_without_key_identifiers_is_trusted_by_its_authority() -> None:
    async with server() as address:
        assert await ask_once(address, Tls(ca=PEMS / "ca.crt")) == "-"
        assert await ask_once(address, Tls(ca=(PEMS / "ca.crt").read_bytes())) == "-"


async def test_the_servers_own_certificate_may_be_the_anchor_as_in_go() -> None:
    async with server() as address:
        assert await ask_once(address, Tls(ca=PEMS / "server.crt")) == "-"


UNTRUSTED = {
    "another authority": Tls(ca=PEMS / "other-ca.crt"),
    "the system's authorities": Tls(),
    "another name": Tls(ca=PEMS / "ca.crt", server_name="other.test"),
}


@pytest.mark.parametrize("case", UNTRUSTED)
async def test_a_server_that_is_not_trusted_is_certainly_not_sent_to(case: str) -> None:
    async with server() as address:
        with pytest.raises(ApiUnreachable, match="its certificate is not trusted") as caught:
            await ask_once(address, UNTRUSTED[case])
    assert caught.value.sent is False


async def test_the_expected_name_can_be_given_and_trust_be_waived() -> None:
    async with server() as address:
        assert await ask_once(address, Tls(ca=PEMS / "ca.crt", server_name="kube.test")) == "-"
        assert await ask_once(address, Tls(insecure=True)) == "-"


async def test_client_certificates_as_data_and_as_files() -> None:
    async with server() as address:
        assert await ask_once(address, Tls(ca=PEMS / "ca.crt", certificate=certificate("client"))) == "admin"
        paths = (PEMS / "client.crt", PEMS / "client.key")
        assert await ask_once(address, Tls(ca=PEMS / "ca.crt", certificate=paths)) == "admin"


async def test_a_plugins_certificate_wins_and_a_new_one_takes_a_new_connection() -> None:
    plugin = Plugin()
    async with server() as address:
        tls = Tls(ca=PEMS / "ca.crt", certificate=certificate("client"))
        transport = AiohttpTransport(Access(address, plugin, tls))
        assert await ask(transport) == "admin"
        plugin.certificate = certificate("client2")
        assert await ask(transport) == "second"
        await transport.close()


async def test_files_that_change_are_noticed_within_a_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    for name in ("crt", "key"):
        (tmp_path / name).write_bytes((PEMS / f"client.{name}").read_bytes())
    tls = Tls(ca=PEMS / "ca.crt", certificate=(tmp_path / "crt", tmp_path / "key"), clock=clock)
    async with server() as address:
        transport = AiohttpTransport(Access(address, tls=tls))
        assert await ask(transport) == "admin"
        for name in ("crt", "key"):
            (tmp_path / name).write_bytes((PEMS / f"client2.{name}").read_bytes())
            os.utime(tmp_path / name, (2e9, 2e9))
        assert await ask(transport) == "admin", "not looked at again yet"
        clock.advance(60)
        assert await ask(transport) == "second"
        await transport.close()


async def test_a_file_that_is_gone_later_is_certainly_not_sent(tmp_path: Path) -> None:
    clock = FakeClock()
    (tmp_path / "ca.crt").write_bytes((PEMS / "ca.crt").read_bytes())
    tls = Tls(ca=tmp_path / "ca.crt", where="kubeconfig", clock=clock)
    tls.context()
    (tmp_path / "ca.crt").unlink()
    clock.advance(60)
    with pytest.raises(ApiUnreachable, match=r"kubeconfig: .*ca\.crt: No such file") as caught:
        await ask_once("https://127.0.0.1:1", tls)
    assert caught.value.sent is False


def test_the_same_context_as_long_as_nothing_changes() -> None:
    clock = FakeClock()
    tls = Tls(ca=PEMS / "ca.crt", clock=clock)
    first = tls.context()
    clock.advance(1000)
    assert tls.context() is first
