"""kube-scheduler's own plugins, asked through hack/control-plane/kubernetes/oracle."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, Self

from carbon_scheduler.sim.control_plane import find_binaries

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

JSON = dict[str, Any]


class Oracle:
    """A running oracle with these plugins alone, or with the profiles of a file; a context manager. `flags`: further ones of
    the program. Raises ControlPlaneMissing when it is not built."""

    def __init__(self, plugins: Collection[str], *flags: str, config: Path | None = None) -> None:
        which = ["-plugins", ",".join(plugins)] if config is None else ["-config", str(config)]
        command = [find_binaries(["oracle"])["oracle"], *which]
        info = json.loads(subprocess.run([*command, "-info"], capture_output=True, check=True, timeout=30).stdout)
        self.filters: list[str] = info["filters"]
        self.scores = [name for name in info["weights"] if name != "VolumeBinding"]  # which always skips by default
        self._process = subprocess.Popen([*command, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout
        self._process.stdout.close()

    def ask(self, case: JSON) -> JSON:
        """The answer to one case. Cost: about 0.2 ms."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(case).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the oracle ended with {self._process.wait(timeout=30)} on case {case['id']}")
        found: JSON = json.loads(line)
        return found
