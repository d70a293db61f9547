"""Selectors of the API as the core's requirements.

Sources: apimachinery v0.36.3 pkg/apis/meta/v1/helpers.go (LabelSelectorAsSelector), component-helpers v0.36.3
scheduling/corev1/nodeaffinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbon_scheduler.core import model
from carbon_scheduler.kube.refusal import MAX_LABELS, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carbon_scheduler.kube import wire_parts as parts


def label_selector(found: parts.LabelSelector | None, refusal: Refusal) -> model.Selector:
    """A label selector: None for a missing one (matches nothing), () for an empty one (matches everything).

    Labels come first, sorted by key, so that equal selectors are equal values. Whether it can be parsed is judged where it is
    used (`core.selectors.fault`): upstream says other words in each place.
    """
    if found is None:
        return None
    labels = found.match_labels or {}
    expressions = refusal.bounded(found.match_expressions, "matchExpressions")
    if len(labels) > MAX_LABELS:
        refusal.add(f"matchLabels: got {len(labels)}, expected at most {MAX_LABELS}")
    made = [model.Requirement(key, "In", (value or "",)) for key, value in sorted(labels.items())[:MAX_LABELS]]
    made += [_requirement(part) for part in expressions]
    return tuple(made)


def map_selector(found: parts.Words | None) -> tuple[tuple[str, str], ...] | None:
    """A selector that is a plain map of labels (of Services and ReplicationControllers), sorted by key."""
    return None if found is None else tuple(sorted((key, value or "") for key, value in found.items()))


def node_term(found: parts.NodeSelectorTerm | None, refusal: Refusal) -> model.NodeSelectorTerm:
    """A term of node affinity. Its expressions are not judged here: a bad one counts only where it decides."""
    if found is None:
        return model.NodeSelectorTerm()
    return model.NodeSelectorTerm(
        _requirements(refusal.bounded(found.match_expressions, "matchExpressions")),
        _requirements(refusal.bounded(found.match_fields, "matchFields")),
    )


def _requirements(found: Iterable[parts.Requirement]) -> tuple[model.Requirement, ...]:
    return tuple([_requirement(part) for part in found])


def _requirement(found: parts.Requirement) -> model.Requirement:
    return model.Requirement(
        found.key or "", found.operator or "", tuple([value or "" for value in found.values or ()])
    )
