"""The end of a lease, kept by the kernel: a process that was stopped over it never runs on.

Looking at the clock before a write is not enough. Between the look and the system call that sends lie a turn of the event
loop (uvloop writes at its end) or the making of a connection; a process stopped there sends when it is continued, however
much later: dozens of Bindings under load, found in an API server's audit log. So a timer of the kernel's ends the process.
Its signal is handled before the process executes anything else, after SIGSTOP as after a freeze of its cgroup.
"""

from __future__ import annotations

import ctypes
import signal
from typing import Final

EXIT_CODE: Final = int(signal.SIGALRM)
"""14: the number of the signal, which is all that such an end can tell."""


class Fence:
    """The one timer of this process (ITIMER_REAL, on the monotonic clock), so make only one. From the main thread."""

    def __init__(self) -> None:
        # In C, since a handler in Python runs between two bytecodes, thus after the writes. Not the default action: the
        # kernel spares process 1 of a container from those. `void _exit(int)` happens to have a handler's signature.
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
        libc.signal.restype = ctypes.c_void_p
        libc.signal(signal.SIGALRM, ctypes.cast(libc._exit, ctypes.c_void_p))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    def arm(self, in_s: float) -> None:
        """The process ends with `EXIT_CODE` in so many seconds, unless this is called again before."""
        signal.setitimer(signal.ITIMER_REAL, max(in_s, 1e-6))

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
