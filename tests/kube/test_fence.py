"""The fence in processes of its own: it ends them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from carbon_scheduler.kube.fence import EXIT_CODE

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import os, sys, time
from carbon_scheduler.kube.fence import Fence
fence = Fence()
"""
ENDS: dict[str, tuple[str, int]] = {
    "the time has come": ("fence.arm(0.01); time.sleep(30)", EXIT_CODE),
    "the time has come long ago": ("fence.arm(-1); time.sleep(30)", EXIT_CODE),
    "armed again each time before it": ("\nfor _ in range(20): fence.arm(5); time.sleep(0.01)", 0),
    "disarmed": ("fence.arm(0.1); fence.disarm(); time.sleep(0.3)", 0),
    "no other exit code hides it": ("fence.arm(0.01); time.sleep(30); sys.exit(3)", EXIT_CODE),
    "never armed": ("pass", 0),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_process_ends_when(case: str) -> None:
    script, want = ENDS[case]
    assert subprocess.run([sys.executable, "-c", BEGIN + script], timeout=20, check=False).returncode == want


def test_stopped_over_its_time_a_process_executes_nothing_more(tmp_path: Path) -> None:
    """It writes as fast as it can: not one byte may follow its continuation."""
    file = tmp_path / "written"
    script = f"{BEGIN}\nfd = os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT)\nfence.arm(0.5)\nwhile True: os.write(fd, b'x')"
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        end = time.monotonic() + 20
        while not (file.exists() and file.stat().st_size) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.7)
        written = file.stat().st_size
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == EXIT_CODE
        assert file.stat().st_size == written > 0
    finally:
        process.kill()
        process.wait()
