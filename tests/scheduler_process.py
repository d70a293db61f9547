"""The real `carbon-scheduler run` as a process of its own, with what a test wants to do to it and to know of it.

    process = start_scheduler(cluster.kubeconfig, "--leader-elect")     # fixture of tests/integration/conftest.py
    await process.ready()
    process.kill()

Children of this process: the kernel ends them when it dies, the fixture when its test is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from carbon_scheduler.sim.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MIB: Final = 1024 * 1024
_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")
_SERVING: Final = re.compile(r'metrics on (http://[^\s"]+)')
_OURS: Final = ("CARBON_SCHEDULER_", "ELECTRICITY_MAPS_", "DEFAULT_CARBON_ZONE", "KUBECONFIG")
_NO_SECRET: Final = "any-key-will-do"


class SchedulerProcess:
    """`carbon-scheduler run --kubeconfig KUBECONFIG ARGS`. Its whole output, of all its lives, is in `log`.

    Without `grid_url` it has no key: static values, and no request leaves the machine. `settings` are environment variables.
    `start` begins it; with `supervise` it is started again after each end, at once and then a second after the last start
    (a kubelet would, with longer waits), until `terminate` or `stop`. Needs a running loop.
    """

    def __init__(
        self,
        kubeconfig: Path,
        *args: str,
        folder: Path,
        name: str = "scheduler",
        grid_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        supervise: bool = False,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.exits: list[int] = []
        """How each of its earlier lives ended; negative: the signal. Of a supervised process all ends are here."""
        self.pids: list[int] = []
        """Of each life, the present one last."""
        self._argv = [sys.executable, "-m", "carbon_scheduler.cli", "run", "--kubeconfig", str(kubeconfig)]
        self._argv += ["--serve", "127.0.0.1:0", *args]
        env = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        if grid_url is not None:
            env |= {"ELECTRICITY_MAPS_API_KEY": _NO_SECRET, "ELECTRICITY_MAPS_URL": grid_url}
        for variable in ("NO_PROXY", "no_proxy"):
            env[variable] = ",".join(filter(None, [env.get(variable), "127.0.0.1"]))
        self._env = env | dict(settings or {})
        self._supervise = supervise
        self._supervisor: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._said_before = 0

    # What happens to it.

    def start(self) -> None:
        """A new life. The one before must have ended."""
        assert self._child is None or self._child.exit_code is not None, f"{self.name} is still running"
        if self._child is not None and not self._supervise:
            self.exits.append(self._child.exit_code or 0)
        self._begin()
        if self._supervise and self._supervisor is None:
            self._supervisor = asyncio.get_running_loop().create_task(self._restart_for_ever())

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.child.stop(0)

    def freeze(self) -> None:
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    async def terminate(self, within_s: float = 20.0) -> int:
        """SIGTERM, and no restart; its exit code once it has ended."""
        self._dismiss_supervisor()
        self.child.send_signal(signal.SIGTERM)
        return await self.ended(within_s)

    def stop(self) -> None:
        """Whatever it does, it is gone afterwards. Safe to call twice."""
        self._dismiss_supervisor()
        if self._child is not None:
            self._child.stop(0)

    # What is known of it.

    @property
    def child(self) -> Child:
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    @property
    def text(self) -> str:
        """All it has printed, in all its lives."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def last_words(self) -> str:
        """For the message of a failing test."""
        return self.child.tail(30) or f"  {self.name}: (it printed nothing)"

    async def ended(self, within_s: float = 20.0) -> int:
        """The exit code of this life, once it has one."""
        child = self.child
        await self._until(lambda: child.exit_code is not None, "has ended", within_s)
        return child.exit_code or 0

    async def said(self, words: str, within_s: float = 20.0) -> None:
        """Waits for words in the output of this life."""

        def there() -> bool:
            self._fail_if_ended(words)
            return words in self._present_text()

        await self._until(there, f"has said {words!r}", within_s)

    async def ready(self, within_s: float = 30.0) -> None:
        """Until /readyz says ok: it has seen the whole cluster. It may lead or not."""
        end = time.monotonic() + within_s
        while (answer := await self._get("/readyz"))[0] != 200:
            self._fail_if_ended("/readyz")
            if time.monotonic() > end:
                pytest.fail(f"{self.name} not ready within {within_s:g} s: {answer}\n{self.last_words}")
            await asyncio.sleep(0.05)

    async def answer(self, path: str) -> tuple[int, str]:
        """Status and body of what it serves at a path; status 0 when it does not serve."""
        return await self._get(path)

    async def metrics(self) -> dict[str, float]:
        """Its metrics now, e.g. `carbon_scheduler_binds_total{result="bound"}`, labels in the order of their names."""
        status, text = await self._get("/metrics")
        assert status == 200, f"{self.name}: /metrics: {status} {text}"
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    @property
    def memory_mib(self) -> float:
        """Resident memory now."""
        return self._status_kib("VmRSS") * 1024 / _MIB

    @property
    def peak_memory_mib(self) -> float:
        return self._status_kib("VmHWM") * 1024 / _MIB

    @property
    def cpu_s(self) -> float:
        """Processor time of this life so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_A_S

    # Inside.

    def _begin(self) -> None:
        self.log.touch()
        self._said_before = self.log.stat().st_size
        self._child = Child(self._argv, log=self.log, env=self._env, name=self.name)
        self.pids.append(self._child.pid)

    async def _restart_for_ever(self) -> None:
        while True:
            started_s = time.monotonic()
            while (code := self.child.exit_code) is None:  # noqa: ASYNC110  # a process tells nobody that it ended
                await asyncio.sleep(0.05)
            self.exits.append(code)
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - started_s)))
            self._begin()

    def _dismiss_supervisor(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            self._supervisor = None

    def _present_text(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._said_before)
            return file.read().decode(errors="replace")

    def _fail_if_ended(self, waited_for: str) -> None:
        if self._supervisor is None and not self.running:
            code = self.child.exit_code
            pytest.fail(f"{self.name} ended with {code} while {waited_for!r} was awaited\n{self.last_words}")

    async def _get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 when it does not serve (yet). The address is in its log, since any port is asked for."""
        if (found := _SERVING.search(self._present_text())) is None:
            return 0, "it has not said where it serves"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.get(found[1] + path) as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, str(error)

    def _status_kib(self, field: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1])

    async def _until(self, done: Callable[[], bool], what: str, within_s: float) -> None:
        end = time.monotonic() + within_s
        while not done():
            if time.monotonic() > end:
                pytest.fail(f"not within {within_s:g} s: {self.name} {what}\n{self.last_words}")
            await asyncio.sleep(0.05)


class GridProcess:
    """The stand-in of Electricity Maps as a process: synthetic data, any key will do. `url` once `start` has returned."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self._log = folder / "grid-data.log"
        self._child: Child | None = None

    def start(self, within_s: float = 30.0) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        argv = [sys.executable, "-m", "carbon_scheduler.sim.electricity_maps", "--port", "0"]
        self._child = Child(argv, log=self._log, env=env, name="grid data")
        end = time.monotonic() + within_s
        while not self.url:
            lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
            said: list[dict[str, Any]] = [json.loads(line) for line in lines if line[0] == "{" and line[-1] == "\n"]
            self.url = next((line["url"] for line in said), "")
            if not self.url and (self._child.exit_code is not None or time.monotonic() > end):
                pytest.fail(f"the grid data do not come up:\n{self._child.tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(0)
