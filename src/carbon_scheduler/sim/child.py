"""A child process that never outlives this one.

The kernel kills it when the thread that started it ends (PR_SET_PDEATHSIG), so neither a crash nor `kill -9` of the parent
leaves a server behind. Start children from a thread that lives as long as they shall: normally the main one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)  # loaded before any fork: the child may not import


class Child:
    """A running program whose output goes to a file.

    `name` stands before its last words (default: the program's). `stop` is idempotent. Raises OSError from the constructor
    when the program cannot be executed.
    """

    def __init__(self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str], name: str = "") -> None:
        self.name = name or os.path.basename(argv[0])  # noqa: PTH119 - str or Path
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops its children in order
                preexec_fn=_die_with(os.getpid()),
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def stop(self, grace_s: float = 5.0) -> None:
        """Ask it to end (SIGTERM), kill it after `grace_s`; 0 kills at once. Returns when it is gone and reaped."""
        if self._process.poll() is None and grace_s > 0:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT freeze and thaw it."""
        self._process.send_signal(number)

    def tail(self, lines: int = 15) -> str:
        """The end of its output, each line with the program's name before it. Reads at most 64 KiB."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - 65536))
            text = stream.read().decode(errors="replace")
        return "\n".join(f"  {self.name}: {line[:400]}" for line in text.splitlines()[-lines:])


class _die_with:  # noqa: N801 - used as a function
    """Runs in the child between fork and exec. It checks the parent after the call: it may have died before it."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def __call__(self) -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0 or os.getppid() != self._parent:
            os._exit(127)
