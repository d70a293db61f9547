"""Whole lines to a file descriptor without ever making the caller wait.

A log pipe's reader can stall (a full disk behind the container runtime, a paused terminal). A blocking write would then stop
the loop that renews the lease; a non-blocking stderr would change the descriptor for every process that shares it. So one
daemon thread writes what has gathered since its last write, in one call; what does not fit into the bound is dropped, counted,
and said once the reader moves again. `put` costs under a microsecond.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_CHARS: Final = 4 * 1024 * 1024
"""How much may wait to be written: some 40,000 lines."""


class LineWriter:
    """`dropped_line(n)` makes the line that says that n lines were dropped."""

    def __init__(self, fd: int, dropped_line: Callable[[int], str], limit_chars: int = LIMIT_CHARS) -> None:
        self._fd = fd
        self._dropped_line = dropped_line
        self._limit_chars = limit_chars
        self._ready = threading.Condition()
        self._lines: list[str] = []
        self._chars = 0
        self._unsaid = 0
        self._closing = False
        self._broken = False
        self.dropped = 0
        """Lines dropped since the start."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queues one line (without its newline). From any thread."""
        with self._ready:
            if self._chars + len(line) > self._limit_chars or self._broken:
                self.dropped += 1
                self._unsaid += 1
                return
            self._lines.append(line)
            self._chars += len(line)
            if len(self._lines) == 1:
                self._ready.notify()

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what is queued and ends; gives up after `timeout_s` when the reader does not read."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._lines and not self._closing:
                    self._ready.wait()
                lines, self._lines, self._chars = self._lines, [], 0
                unsaid, self._unsaid = self._unsaid, 0
                closing = self._closing
            if unsaid:
                lines.append(self._dropped_line(unsaid))
            if lines and not self._write("\n".join(lines) + "\n"):
                with self._ready:
                    self._broken = True  # nobody reads any more, and there is no other place to say so
                return
            if closing:
                return

    def _write(self, text: str) -> bool:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else made the shared descriptor non-blocking
                select.select([], [self._fd], [], 1.0)
            except OSError:
                return False
        return True
