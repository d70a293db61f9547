"""Which policy a pod goes by: its annotation, else its namespace's, else its profile's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carbon_scheduler.core.decision import PodWarning
from carbon_scheduler.units import LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carbon_scheduler.core.model import Namespace, Pod
    from carbon_scheduler.core.settings import Policy, Settings

_PLACEMENT: Final = LABEL_PREFIX + "placement"
_POLICIES: Final[tuple[Policy, ...]] = ("carbon-first", "weighted", "off")


class Policies:
    """`namespaces` are the cluster's."""

    def __init__(self, settings: Settings, namespaces: Mapping[str, Namespace]) -> None:
        self._of = {one.scheduler_name: one.policy or settings.placement.policy for one in settings.profiles}
        self._namespaces = namespaces

    def of(self, pod: Pod) -> Policy:
        """An unknown word counts as none."""
        namespace = self._namespaces.get(pod.namespace)
        for given in (pod.annotations, namespace.annotations if namespace else ()):
            if given:
                word = next((value for key, value in given if key == _PLACEMENT), None)
                for policy in _POLICIES:
                    if word == policy:
                        return policy
        return self._of[pod.scheduler_name]


def unknown(pod: Pod) -> PodWarning | None:
    """What to say of a pod's own annotation that names no policy."""
    for key, value in pod.annotations:
        if key == _PLACEMENT and value not in _POLICIES:
            text = f"{_PLACEMENT}: got {value[:64]!r}, expected one of {', '.join(_POLICIES)}; ignored"
            return PodWarning(pod.uid, pod.namespace, pod.name, "InvalidAnnotation", text, pod.scheduler_name)
    return None
