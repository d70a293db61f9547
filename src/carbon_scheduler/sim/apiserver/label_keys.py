"""`matchLabelKeys` and `mismatchLabelKeys` of a new pod, written into the selectors that schedulers read.

Source: pkg/registry/core/pod/strategy.go of release 1.36.3 (mutatePodAffinity, mutateTopologySpreadConstraints).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon_scheduler.sim.apiserver.documents import Document, items, mapping, objects

if TYPE_CHECKING:
    from collections.abc import Iterator


def merge(document: Document) -> None:
    """Appends one expression for each key that the pod carries, where there is a selector to append to."""
    labels = mapping(document, "metadata", "labels")
    for part in _parts(document):
        selector = part.get("labelSelector")
        if not isinstance(selector, dict):
            continue
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            merged = [
                {"key": key, "operator": operator, "values": [labels[key]]}
                for key in items(part, field)
                if isinstance(key, str) and key in labels
            ]
            if merged:
                selector["matchExpressions"] = [*items(selector, "matchExpressions"), *merged]


def _parts(document: Document) -> Iterator[Document]:
    for field in ("podAffinity", "podAntiAffinity"):
        found = mapping(document, "spec", "affinity", field)
        yield from objects(found, "requiredDuringSchedulingIgnoredDuringExecution")
        for weighted in objects(found, "preferredDuringSchedulingIgnoredDuringExecution"):
            yield mapping(weighted, "podAffinityTerm")
    yield from objects(document, "spec", "topologySpreadConstraints")
