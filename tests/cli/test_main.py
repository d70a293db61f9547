"""The program's face: exit codes, one line per error, options that become the configuration."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click
import pytest

import carbon_scheduler
from carbon_scheduler import __version__
from carbon_scheduler import config as configuration
from carbon_scheduler.cli import main as program
from carbon_scheduler.errors import ApiUnreachable, CarbonSchedulerError, ConfigError, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.config import Config


class FakeLive(ModuleType):
    """Stands where `carbon_scheduler.live` is: remembers how it was called, and ends as it is told."""

    def __init__(self, ends: int | BaseException = 0) -> None:
        super().__init__("carbon_scheduler.live")
        self.ends = ends
        self.config: Config | None = None
        self.kubeconfig: Path | None = None
        self.record: Path | None = None

    def run(
        self, config: Config, *, kubeconfig: Path | None, environ: Mapping[str, str], record: Path | None = None
    ) -> int:
        self.config, self.kubeconfig, self.record = config, kubeconfig, record
        if isinstance(self.ends, BaseException):
            raise self.ends
        return self.ends


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> FakeLive:
    fake = FakeLive()
    monkeypatch.setitem(sys.modules, "carbon_scheduler.live", fake)
    monkeypatch.setattr(carbon_scheduler, "live", fake, raising=False)
    for name in list(configuration.keys()):
        monkeypatch.delenv(name, raising=False)
    for name in ("DEFAULT_CARBON_ZONE", "ELECTRICITY_MAPS_URL", "ELECTRICITY_MAPS_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return fake


def run_main(*argv: str) -> int:
    with pytest.raises(SystemExit) as exited:
        program.main(argv)
    code = exited.value.code
    assert isinstance(code, int)
    return code


EXITS: dict[str, tuple[int | BaseException, int, str]] = {
    "done": (0, 0, ""),
    "the answer is no": (1, 1, ""),
    "the command's own code": (3, 3, ""),
    "configuration": (ConfigError("carbon.default_zone: got 'XX'"), 2, "Error: carbon.default_zone: got 'XX'\n"),
    "no API server": (ApiUnreachable("GET /api: refused", sent=False), 3, "Error: GET /api: refused\n"),
    "lease lost": (LeaseLost("another process leads"), 3, "Error: another process leads\n"),
    "any error of ours": (CarbonSchedulerError("odd"), 3, "Error: odd\n"),
    "interrupted": (KeyboardInterrupt(), 130, "\n"),  # the line of the terminal's ^C ends
    "aborted": (click.Abort(), 130, ""),
    "a signal that unwinds": (SystemExit(143), 143, ""),
}


@pytest.mark.parametrize("case", EXITS)
def test_exit_codes(case: str, live: FakeLive, capsys: pytest.CaptureFixture[str]) -> None:
    ends, code, said = EXITS[case]
    live.ends = ends
    assert run_main("run") == code
    assert capsys.readouterr() == ("", said)


def test_a_defect_is_not_the_answer_no(live: FakeLive, capsys: pytest.CaptureFixture[str]) -> None:
    live.ends = RuntimeError("a defect")
    assert run_main("run") == 3
    assert "RuntimeError: a defect" in capsys.readouterr().err


USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown command names the nearest": (("rum",), "there is no command 'rum'. Did you mean 'run'?"),
    "an unknown option": (("run", "--kubecfg", "x"), "No such option"),
    "a log format that is none": (("run", "--log-format", "xml"), "'xml' is not one of 'text', 'json'"),
    "an address without a port": (("run", "--serve", "localhost"), "expected ADDRESS:PORT"),
    "a port above 65535": (("run", "--serve", "localhost:65536"), "expected ADDRESS:PORT"),
    "a port in Arabic digits": (("run", "--serve", "localhost:١٢"), "expected ADDRESS:PORT"),
    "a file that is not there": (("run", "--config", "/nonexistent.yaml"), "/nonexistent.yaml: cannot be read"),
    "an argument too many": (("run", "now"), "unexpected extra argument"),
}


@pytest.mark.parametrize("case", USAGE)
def test_usage_errors_exit_with_2(case: str, live: FakeLive, capsys: pytest.CaptureFixture[str]) -> None:
    argv, said = USAGE[case]
    assert run_main(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert live.config is None


OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "nothing said": ((), {"log_format": "text", "leader_election.enabled": "auto", "serve.port": 10259}),
    "JSON": (("--log-format", "json"), {"log_format": "json"}),
    "election on": (("--leader-elect",), {"leader_election.enabled": "on"}),
    "election off": (("--no-leader-elect",), {"leader_election.enabled": "off"}),
    "a default zone": (("--default-carbon-zone", "US-NY-NYIS"), {"carbon.default_zone": "US-NY-NYIS"}),
    "an address": (("--serve", "127.0.0.1:0"), {"serve.address": "127.0.0.1", "serve.port": 0}),
    "all addresses": (("--serve", ":9000"), {"serve.address": "0.0.0.0", "serve.port": 9000}),
    "IPv6": (("--serve", "[::1]:9000"), {"serve.address": "::1", "serve.port": 9000}),
    "serving nothing": (("--serve", ""), {"serve.address": ""}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_become_the_configuration(case: str, live: FakeLive) -> None:
    argv, want = OPTIONS[case]
    assert run_main("run", "--kubeconfig", "some/file", *argv) == 0
    assert live.config is not None
    assert live.kubeconfig == Path("some/file")
    for path, value in want.items():
        got: Any = live.config
        for part in path.split("."):
            got = getattr(got, part)
        assert got == value, path


def test_flags_win_over_the_environment_over_the_file(
    live: FakeLive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("log_format: json\ncarbon: {default_zone: DE}\nbackoff: {max_s: 7}\n")
    monkeypatch.setenv("DEFAULT_CARBON_ZONE", "FR")
    assert run_main("run", "--config", str(file), "--log-format", "text") == 0
    assert live.config is not None
    assert (live.config.log_format, live.config.carbon.default_zone, live.config.backoff.max_s) == ("text", "FR", 7.0)


def test_without_a_kubeconfig_the_shell_decides(live: FakeLive) -> None:
    assert run_main("run") == 0
    assert live.kubeconfig is None
    assert live.record is None


def test_a_trace_is_recorded_on_request(live: FakeLive) -> None:
    assert run_main("run", "--record", "trace.jsonl") == 0
    assert live.record == Path("trace.jsonl")


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code = run_main(*argv)
    out, err = capsys.readouterr()
    assert code == (0 if argv else 2)
    for name in program.COMMANDS:
        assert f"\n  {name} " in out + err


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(command, "--help") == 0
    out = capsys.readouterr().out
    assert re.search(rf"^ +carbon-scheduler {command}", out, re.MULTILINE)


def test_help_of_run_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("run", "--help") == 0
    out = capsys.readouterr().out
    for variable, path in configuration.keys().items():
        assert variable in out
        assert ".".join(path) in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--version") == 0
    assert capsys.readouterr().out == f"carbon-scheduler {__version__}\n"


def test_as_a_plugin_of_kubectl_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-carbon"])
    assert run_main("--help") == 0
    assert capsys.readouterr().out.startswith("Usage: kubectl carbon ")


def test_help_imports_neither_numpy_nor_aiohttp_nor_rich() -> None:
    """What makes it quick; a time would depend on the machine."""
    code = (
        "import sys\nfrom carbon_scheduler.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numpy', 'aiohttp', 'rich', 'yaml', 'msgspec', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m carbon_scheduler.cli run --help | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "141"}


def test_once_the_log_has_begun_an_error_is_a_line_of_the_log() -> None:
    code = (
        "import sys, types, carbon_scheduler\nfrom carbon_scheduler.errors import LeaseLost\n"
        "from carbon_scheduler.observe import log\nfrom carbon_scheduler.cli.main import main\n"
        "def run(config, *, kubeconfig, environ, record):\n"
        "    log.start(config.log_format)\n    raise LeaseLost('another process leads')\n"
        "live = types.ModuleType('carbon_scheduler.live'); live.run = run\n"
        "sys.modules['carbon_scheduler.live'] = carbon_scheduler.live = live\nmain(['run', '--log-format', 'json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert '"level":"error","message":"another process leads"' in line
