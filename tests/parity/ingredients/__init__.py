"""What each plugin looks at, in as many forms as it has. To add a plugin's: a module with a function, and a line at the
end of the list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.ingredients import affinity, features, images, peers, ports, resources, spread, taints, volumes

if TYPE_CHECKING:
    from collections.abc import Callable

    from parity.draft import Draft


@dataclass(frozen=True)
class Ingredient:
    """`plugin` must be in the profile; the ingredient is then part of a case with this probability."""

    plugin: str
    probability: float
    add: Callable[[Draft], None]


INGREDIENTS = (
    Ingredient("NodeResourcesFit", 0.9, resources.add),
    Ingredient("TaintToleration", 0.35, taints.add),
    Ingredient("NodeUnschedulable", 0.25, taints.cordon),
    Ingredient("NodeAffinity", 0.45, affinity.add),
    Ingredient("NodePorts", 0.3, ports.add),
    Ingredient("PodTopologySpread", 0.5, spread.add),
    Ingredient("VolumeBinding", 0.5, volumes.add),
    Ingredient("ImageLocality", 0.4, images.add),
    Ingredient("NodeDeclaredFeatures", 0.25, features.add),
    Ingredient("InterPodAffinity", 0.5, peers.add),
)
