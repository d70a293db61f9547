"""Everything that is followed in the cluster: one reflector a kind, each change an event of the core."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from carbon_scheduler.core import events
from carbon_scheduler.core.model import NodeName, PodUid
from carbon_scheduler.kube import watch
from carbon_scheduler.kube.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from carbon_scheduler.core.model import Namespace, Node, Pod
    from carbon_scheduler.core.objects import AnyObject
    from carbon_scheduler.kube.client import ApiClient
    from carbon_scheduler.kube.convert import Converter
    from carbon_scheduler.kube.kinds import Kind, Need
    from carbon_scheduler.kube.watch import Change, Reflector, Resource

    Times = tuple[float, float]
    """(monotonic, wall)"""
    Told = Callable[[Iterable[events.Event]], None]

MOST_STREAMS: Final = 3 + len(KINDS)
"""Connections that watches may hold open at the same time."""


class Following:
    """`tell` gets the events of each piece that arrives, in order, synchronously. `needs`: what is followed beside pods, nodes
    and namespaces (`kube.kinds`)."""

    def __init__(
        self,
        client: ApiClient,
        converter: Converter,
        needs: Collection[Need],
        tell: Told,
        now: Callable[[], Times],
        *,
        page_size: int,
    ) -> None:
        self._tell = tell
        self._now = now
        self.reflectors: list[Reflector[Any, Any]] = []
        self._decisive: list[Reflector[Any, Any]] = []

        def follow(resource: Resource[Any, Any], event: Callable[[Change[Any], float, float], events.Event]) -> None:
            self.reflectors.append(watch.Reflector(client, resource, self._sink(event), page_size=page_size))

        follow(watch.pods(converter), _pod)
        follow(watch.nodes(converter), _node)
        follow(watch.namespaces(converter), _namespace)
        self._decisive += self.reflectors
        for kind in KINDS:
            if kind.need in needs:
                follow(watch.others(kind), _object(kind))
                if kind.need != "spreading":
                    self._decisive.append(self.reflectors[-1])

    @property
    def deaf(self) -> bool:
        """A watch has failed and is not back: what others bound, claimed or forbade meanwhile is not known.

        Services and owners are left out: they only tell how pods without constraints are best spread.
        """
        return any(reflector.problem for reflector in self._decisive)

    def run(self, group: asyncio.TaskGroup) -> None:
        """Begins to follow, in tasks of their own."""
        for reflector in self.reflectors:
            group.create_task(reflector.run())

    async def synced(self) -> None:
        """Returns when all first lists are in."""
        for reflector in self.reflectors:
            await reflector.synced.wait()

    async def relist(self) -> None:
        """Lists everything afresh; returns when all of it was told."""
        await asyncio.gather(*(reflector.relist() for reflector in self.reflectors))

    def _sink(self, event: Callable[[Change[Any], float, float], events.Event]) -> Callable[[list[Change[Any]]], None]:
        def take(changes: list[Change[Any]]) -> None:
            at, wall = self._now()
            self._tell(event(change, at, wall) for change in changes)

        return take


def _pod(change: Change[Pod], at: float, wall: float) -> events.Event:
    if isinstance(change, watch.Changed):
        return events.PodChanged(at, wall, change.obj)
    return events.PodGone(at, wall, PodUid(change.uid))


def _node(change: Change[Node], at: float, wall: float) -> events.Event:
    if isinstance(change, watch.Changed):
        return events.NodeChanged(at, wall, change.obj)
    return events.NodeGone(at, wall, NodeName(change.name))


def _namespace(change: Change[Namespace], at: float, wall: float) -> events.Event:
    if isinstance(change, watch.Changed):
        return events.NamespaceChanged(at, wall, change.obj)
    return events.NamespaceGone(at, wall, change.name)


def _object(kind: Kind) -> Callable[[Change[AnyObject], float, float], events.Event]:
    def event(change: Change[AnyObject], at: float, wall: float) -> events.Event:
        if isinstance(change, watch.Changed):
            return events.ObjectChanged(at, wall, change.obj)
        key = f"{change.namespace}/{change.name}" if kind.namespaced else change.name
        return events.ObjectGone(at, wall, kind.name, key)

    return event
