"""The demo's processes: an API server (embedded or real), grid data, the scheduler, and what must be said to them.

Each is a child of this process that the kernel ends together with it (see `child.py`). Everything listens on loopback.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from carbon_scheduler.errors import ApiStatusError, ApiUnreachable, ClusterError
from carbon_scheduler.sim.child import Child
from carbon_scheduler.sim.control_plane import ControlPlane
from carbon_scheduler.sim.demo_workload import DEFAULT_ZONE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_LIMIT_S: Final = 30.0
MAX_ANSWER_B: Final = 64 * 1024 * 1024
KUBELET_DELAY: Final = "1s"
_NO_SECRET: Final = "synthetic-data-need-no-key"
_KEYS: Final = ("ELECTRICITY_MAPS_API_KEY", "ELECTRICITY_MAPS_API_KEY_FILE")


class PartDied(ClusterError):
    """A process of the demo ended by itself. The message ends in the last lines of its output."""


class _Hello(msgspec.Struct):
    """The one line that a server prints when it listens."""

    url: str
    kubeconfig: str | None = None


class Stage:
    """A context manager; `start_servers`, then fill the cluster with `request`, then `start_scheduler`.

    `environ` is the user's: a key of Electricity Maps in it means live data, and goes to the scheduler alone. Every call
    that waits raises PartDied when a process has ended, with its last words; it also calls `interrupted`, which raises when
    the user wants no more.
    """

    def __init__(
        self, *, real: bool, environ: Mapping[str, str], interrupted: Callable[[], None] = lambda: None
    ) -> None:
        self._real = real
        self._interrupted = interrupted
        self._plane: ControlPlane | None = None
        self._api: _Api | None = None
        self._environ = dict(environ)
        self._children: dict[str, Child] = {}
        self._grid_url = ""
        self.live_data = any(environ.get(key) for key in _KEYS)
        self.folder = Path(tempfile.mkdtemp(prefix="carbon-demo-"))
        self.kubeconfig = self.folder / "kubeconfig"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """All processes end together; whichever does not within 3 s is killed. The folder goes too."""
        for child in self._children.values():
            child.send_signal(signal.SIGTERM)
        for child in reversed(self._children.values()):
            child.stop(3.0)
        if self._plane:
            self._plane.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_servers(self) -> None:
        """Returns when the API server and the grid data answer. Raises PartDied, and ConfigError without the binaries."""
        kubeconfig = ("--kubeconfig", str(self.kubeconfig))
        if not self.live_data:
            self._start("grid data", "carbon_scheduler.sim.electricity_maps", "--port", "0")
        if self._real:
            self._plane = ControlPlane().start()
            shutil.copyfile(self._plane.kubeconfig, self.kubeconfig)
            self.kubeconfig.chmod(0o600)
            self._start("kubelet", "carbon_scheduler.sim.kubelet", *kubeconfig, "--delay", KUBELET_DELAY)
        else:
            args = ("--port", "0", *kubeconfig, "--kubelet-delay", KUBELET_DELAY)
            self._start("API server", "carbon_scheduler.sim.apiserver", *args)
            self._api = _Api(self._hello("API server").url)
        if not self.live_data:
            self._grid_url = self._hello("grid data").url

    def start_scheduler(self) -> None:
        """The real program, as a user would start it: `carbon-scheduler run --kubeconfig ...`."""
        env = self._clean_environ()
        env["DEFAULT_CARBON_ZONE"] = self._environ.get("DEFAULT_CARBON_ZONE") or DEFAULT_ZONE
        if self.live_data:
            env |= {key: value for key, value in self._environ.items() if key.startswith("ELECTRICITY_MAPS_")}
        else:
            env |= {"ELECTRICITY_MAPS_API_KEY": _NO_SECRET, "ELECTRICITY_MAPS_URL": self._grid_url}
        args = ("run", "--kubeconfig", str(self.kubeconfig), "--log-format", "text", "--serve", "127.0.0.1:0")
        self._start("scheduler", "carbon_scheduler.cli", *args, env=env)

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request to the API server. Raises ApiStatusError, ApiUnreachable, PartDied."""
        self.check()
        if self._plane:
            return self._plane.request(method, path, body)
        if self._api is None:
            raise PartDied("demo: the API server was not started; call start_servers() first")
        return self._api.request(method, path, body)

    def check(self) -> None:
        """Raises PartDied when a process has ended, and what `interrupted` raises."""
        self._interrupted()
        plane = self._plane.children if self._plane else {}
        for name, child in {**plane, **self._children}.items():
            if (code := child.exit_code) is not None:
                how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
                last_words = child.tail() or "  (it printed nothing)"
                raise PartDied(f"demo: the {name} {how} before its time; its last lines:\n{last_words}")

    def wait(self, done: Callable[[], bool], limit_s: float, poll_s: float = 0.1) -> bool:
        """Whether `done` came true within `limit_s`. Raises PartDied when a process ends meanwhile."""
        end = time.monotonic() + limit_s
        while not done():
            self.check()
            if time.monotonic() > end:
                return False
            time.sleep(poll_s)
        return True

    @property
    def scheduler_log(self) -> Path:
        return self.folder / "scheduler.log"

    def _start(self, name: str, module: str, *args: str, env: Mapping[str, str] | None = None) -> None:
        log = self.folder / f"{name.replace(' ', '-')}.log"
        log.touch()
        self._children[name] = Child(
            [sys.executable, "-m", module, *args],
            log=log,
            env=self._clean_environ() if env is None else env,
            name=name,
        )

    def _clean_environ(self) -> dict[str, str]:
        """The user's environment without settings that would change the demo, without any key, and with loopback direct."""
        dropped = ("CARBON_SCHEDULER_", "ELECTRICITY_MAPS_", "KUBECONFIG", "DEFAULT_CARBON_ZONE")
        env = {key: value for key, value in self._environ.items() if not key.startswith(dropped)}
        for name in ("NO_PROXY", "no_proxy"):
            env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1", "localhost"]))
        return env | {"PYTHONUNBUFFERED": "1"}

    def _hello(self, name: str) -> _Hello:
        child, found = self._children[name], list[_Hello]()

        def listens() -> bool:
            whole_lines = child.log.read_bytes()[:65536].split(b"\n")[:-1]
            said = next((line for line in whole_lines if line.startswith(b"{")), None)
            if said is not None:
                found.append(msgspec.json.decode(said, type=_Hello))
            return bool(found)

        try:
            in_time = self.wait(listens, START_LIMIT_S, poll_s=0.03)
        except msgspec.MsgspecError as error:
            raise PartDied(f"demo: the {name} said something unexpected ({error}):\n{child.tail()}") from error
        if not in_time:
            raise PartDied(
                f"demo: the {name} did not answer within {START_LIMIT_S:.0f} s; its last lines:\n{child.tail()}"
            )
        return found[0]


class _Api:
    """JSON over one kept HTTP connection to the embedded API server, which needs no credentials."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=30)

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        text = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", **({} if text is None else {"Content-Type": "application/json"})}
        try:
            self._connection.request(method, path, text, headers)
            response = self._connection.getresponse()
            raw = response.read(MAX_ANSWER_B)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ApiUnreachable(
                f"{method} {path}: no answer from the demo's API server: {error}", sent=True
            ) from error
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = {"message": raw[:300].decode(errors="replace")}
        if response.status >= 400 or not isinstance(answer, dict):
            message = answer.get("message") if isinstance(answer, dict) else "not an object"
            raise ApiStatusError(f"{method} {path}: status {response.status}: {message}", code=response.status)
        return answer
