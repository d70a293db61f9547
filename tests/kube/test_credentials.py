"""Token files that rotate and credential plugins."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_fakes import FakeClock

from carbon_scheduler.errors import ApiUnreachable
from carbon_scheduler.kube.access import access
from carbon_scheduler.kube.credentials import ExecPlugin, StaticToken, TokenFile
from carbon_scheduler.kube.endpoint import Access

JSON = dict[str, Any]
V1 = "client.authentication.k8s.io/v1"


async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("one\n")
    credentials = TokenFile(path, clock)
    assert await credentials.token() == "one"
    path.write_text("two")
    clock.advance(59)
    assert await credentials.token() == "one"
    clock.advance(1)
    assert await credentials.token() == "two"


async def test_a_token_file_is_read_again_after_a_401(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    credentials = TokenFile(path, FakeClock())
    assert await credentials.token() == "one"
    assert await credentials.refresh("one") is False, "the same token again would be refused again"
    path.write_text("two")
    assert await credentials.refresh("one") is True
    assert await credentials.token() == "two"


async def test_the_last_good_token_is_used_while_the_file_is_away(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("one")
    credentials = TokenFile(path, clock)
    await credentials.token()
    path.unlink()
    clock.advance(100)
    assert await credentials.token() == "one"
    path.write_text("two")
    assert await credentials.token() == "two", "looked for again at once"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"a\nb"])
async def test_a_token_file_without_a_token_is_certainly_not_sent(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ApiUnreachable, match="token file") as caught:
        await TokenFile(path, FakeClock()).token()
    assert caught.value.sent is False


async def test_a_fixed_token_cannot_be_renewed() -> None:
    assert await StaticToken("t").refresh("t") is False


# -- plugins: small Python programs


def plugin(folder: Path, program: str, **options: Any) -> tuple[ExecPlugin, Path]:
    """A plugin that counts its runs in a file; `program` may use `said(**status)` to answer."""
    runs = folder / "runs"
    script = folder / "plugin.py"
    script.write_text(
        "import json, os, sys, time\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"open({str(runs)!r}, 'a').write('x')\n"
        f"n = len(open({str(runs)!r}).read())\n"
        "def said(**status):\n"
        "    print(json.dumps({'kind': 'ExecCredential', 'apiVersion': info['apiVersion'], 'status': status}))\n"
        + program
    )
    made: JSON = {
        "command": sys.executable,
        "args": (str(script), "an arg"),
        "env": {"MINE": "yes"},
        "api_version": V1,
        "cluster": None,
        "install_hint": "",
        "environ": {"PATH": "/usr/bin:/bin"},
        "clock": FakeClock(),
        "timeout_s": 20.0,
        **options,
    }
    return ExecPlugin(**made), runs


async def test_a_plugin_gets_its_arguments_variables_and_info(tmp_path: Path) -> None:
    made, _ = plugin(
        tmp_path,
        "said(token=json.dumps([sys.argv[1:], os.environ['MINE'], info, sys.stdin.read()]).replace(' ', ''))",
        cluster={"server": "https://x"},
    )
    token = await made.token()
    assert token is not None
    assert json.loads(token) == [
        ["anarg"],
        "yes",
        {
            "kind": "ExecCredential",
            "apiVersion": V1,
            "spec": {"interactive": False, "cluster": {"server": "https://x"}},
        },
        "",
    ]


async def test_a_plugins_answer_is_kept_until_a_moment_before_it_expires(tmp_path: Path) -> None:
    clock = FakeClock()
    expires = datetime.fromtimestamp(clock.wall() + 100, tz=UTC).isoformat()
    made, runs = plugin(tmp_path, f"said(token=f't{{n}}', expirationTimestamp={expires!r})", clock=clock)
    assert [await made.token(), await made.token()] == ["t1", "t1"]
    clock.advance(89)
    assert await made.token() == "t1"
    clock.advance(2)
    assert await made.token() == "t2"
    assert runs.read_text() == "xx"


async def test_without_an_expiry_a_plugin_runs_again_only_on_a_401(tmp_path: Path) -> None:
    made, runs = plugin(tmp_path, "said(token=f't{n}')")
    assert await made.token() == "t1"
    assert await made.refresh("t1") is True
    assert await made.token() == "t2"
    assert await made.refresh("t1") is True, "renewed meanwhile: no further run"
    assert runs.read_text() == "xx"


async def test_a_plugin_may_hand_out_a_certificate(tmp_path: Path) -> None:
    made, _ = plugin(tmp_path, "said(clientCertificateData='CERT', clientKeyData='KEY')")
    assert await made.token() is None
    assert made.certificate is not None
    assert (made.certificate.chain_pem, made.certificate.key_pem) == (b"CERT", b"KEY")
    assert "KEY" not in repr(made.certificate)
    before = made.certificate
    assert await made.refresh(None) is True
    assert made.certificate is not before


FAILS: dict[str, tuple[str, JSON, str]] = {
    "it fails": ("sys.exit(3)", {}, "it ended with code 3"),
    "it says nothing": ("", {}, "not an ExecCredential in JSON"),
    "it says something else": ("print('SECRET')", {}, "not an ExecCredential in JSON"),
    "another kind": ('print(\'{"kind": "Pod"}\')', {}, "it answered 'Pod' of '', expected 'ExecCredential' of"),
    "another version": (
        "info['apiVersion'] = 'client.authentication.k8s.io/v1beta1'; said(token='SECRET')",
        {},
        "v1beta1', expected",
    ),
    "no status": (f'print(\'{{"kind": "ExecCredential", "apiVersion": "{V1}"}}\')', {}, "neither status.token nor"),
    "an empty status": ("said(token='')", {}, "neither status.token nor"),
    "half a certificate": ("said(clientCertificateData='SECRET')", {}, "only one of"),
    "a token with a line break": ("said(token='SECRET\\n')", {}, "no header can carry"),
    "an unreadable expiry": ("said(token='SECRET', expirationTimestamp='soon')", {}, "expirationTimestamp: got 'soon'"),
    "too much": ("print('SECRET' * 1000000)", {}, "wrote more than 1048576 bytes"),
    "too slow": ("time.sleep(60)", {"timeout_s": 0.2}, "did not end within 0.2 s"),
    "it closes its output and hangs": ("os.close(1); time.sleep(60)", {"timeout_s": 0.2}, "did not end within 0.2 s"),
    "it is not installed": (
        "",
        {"command": "no-such-plugin", "install_hint": "apt it."},
        r"cannot be started: .*\. apt it\.",
    ),
}


@pytest.mark.parametrize("case", FAILS)
async def test_a_plugin_that_fails_is_told_without_its_answer(case: str, tmp_path: Path) -> None:
    program, options, want = FAILS[case]
    made, _ = plugin(tmp_path, program, **options)
    with pytest.raises(ApiUnreachable, match=want) as caught:
        await made.token()
    assert caught.value.sent is False
    assert str(caught.value).startswith("credential plugin ")
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None or "SECRET" not in str(caught.value.__cause__)


async def test_plugins_that_write_too_much_never_hold_up_the_one_who_asked(tmp_path: Path) -> None:
    """Waiting for a killed process waits for its pipe, which nobody reads when the buffer was full: many at once meet that."""

    async def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        made, _ = plugin(folder, "print('SECRET' * 1000000)")
        with pytest.raises(ApiUnreachable, match="wrote more than"):
            await made.token()

    async with asyncio.timeout(30):
        await asyncio.gather(*(one(number) for number in range(24)))


async def test_a_plugin_of_a_kubeconfig_is_found_beside_it(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "plugin"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport json, os\ninfo = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "print(json.dumps({'kind': 'ExecCredential', 'apiVersion': info['apiVersion'],"
        " 'status': {'token': info['spec']['cluster']['server'] + os.environ['WHO']}}))\n"
    )
    script.chmod(0o755)
    tree = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
        "users": [
            {
                "name": "u",
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "./bin/plugin",
                        "env": [{"name": "WHO", "value": "#me"}],
                        "provideClusterInfo": True,
                    }
                },
            }
        ],
    }
    (tmp_path / "k").write_text(yaml.safe_dump(tree))
    made: Access = access(tmp_path / "k", {}, clock=FakeClock())
    assert await made.credentials.token() == "http://127.0.0.1:1#me"
