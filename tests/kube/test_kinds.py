"""What is followed beside pods, nodes and namespaces: what some profile's plugins read, nothing else."""

from __future__ import annotations

import pytest

from carbon_scheduler.core.settings import PluginSet, Profile
from carbon_scheduler.kube.kinds import KINDS, needs
from carbon_scheduler.sim.apiserver.kinds import BY_PATH

ALL = {"spreading", "volumes", "preemption"}


def without(*names: str, point: str = "multiPoint") -> Profile:
    return Profile(plugins={point: PluginSet(disabled=names)})


VOLUMES = ("VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone")
NEEDS: dict[str, tuple[tuple[Profile, ...], set[str]]] = {
    "the default profile: all": ((Profile(),), ALL),
    "without preemption": ((without("DefaultPreemption"),), ALL - {"preemption"}),
    "without any plugin of volumes": ((without(*VOLUMES),), ALL - {"volumes"}),
    "one of them is enough": ((without(*VOLUMES[1:]),), ALL),
    "without spreading": ((without("PodTopologySpread"),), ALL - {"spreading"}),
    "spreading that only scores reads as much": ((without("PodTopologySpread", point="filter"),), ALL),
    "what one profile has switched off another may need": ((without("DefaultPreemption", *VOLUMES), Profile()), ALL),
    "two that need different things": (
        (without("DefaultPreemption", *VOLUMES), without("DefaultPreemption", "PodTopologySpread")),
        {"spreading", "volumes"},
    ),
}


@pytest.mark.parametrize("sentence", NEEDS)
def test_what_the_profiles_need(sentence: str) -> None:
    profiles, want = NEEDS[sentence]
    assert needs(profiles) == want
    assert needs(profiles, preemption=False) == want - {"preemption"}


def test_each_kind_is_where_the_api_has_it() -> None:
    for kind in KINDS:
        *_, group, version, resource = ("", *kind.path.strip("/").split("/"))
        served = BY_PATH["" if group == "api" else group, version, resource]
        assert (served.kind, served.namespaced) == (kind.name, kind.namespaced)
