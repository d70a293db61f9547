"""Which change wakes which waiting pod: one table, asked of the core, and of both schedulers on a real control plane.

A row is a small cluster in the API's own objects, a pod that waits there, what happens, and whether that is worth another
attempt. The rows are by hand from the hints of kube-scheduler v1.36.3 (each plugin's EventsToRegister and the functions named
there, eventhandlers.go, framework/events.go, scheduler.go's buildQueueingHintMap).
"""

from __future__ import annotations

from hints.node_rows import NODE_ROWS
from hints.pod_rows import POD_ROWS
from hints.row import Row, Step
from hints.volume_rows import VOLUME_ROWS

ROWS: dict[str, Row] = NODE_ROWS | POD_ROWS | VOLUME_ROWS
assert len(ROWS) == len(NODE_ROWS) + len(POD_ROWS) + len(VOLUME_ROWS), "two rows with one sentence"

__all__ = ["ROWS", "Row", "Step"]
