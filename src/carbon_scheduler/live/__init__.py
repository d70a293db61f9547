"""The live shell: `run` schedules a real cluster until it is told to stop. `shell.py` is the file to read first."""

from carbon_scheduler.live.shell import run

__all__ = ["run"]
