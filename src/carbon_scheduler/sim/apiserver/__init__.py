"""A stand-in for kube-apiserver 1.36 in one process: see EmbeddedApiServer and Faults."""

from carbon_scheduler.sim.apiserver.faults import CloseWatches, Command, Faults, Rule
from carbon_scheduler.sim.apiserver.server import EmbeddedApiServer

__all__ = ["CloseWatches", "Command", "EmbeddedApiServer", "Faults", "Rule"]
