"""Which grid zone a text or a node means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_scheduler.core.grid import MAX_TEXT, GridZones, StaticAverage, UnknownGridZone, Zone, cloud_provider
from carbon_scheduler.core.model import GridZone
from carbon_scheduler.providers.tables import grid_zones

REGION = "topology.kubernetes.io/region"


def make_zone(key: str, **fields: object) -> Zone:
    return Zone(GridZone(key), f"name of {key}", "country", StaticAverage(100.0, "owid", 2023), **fields)  # type: ignore[arg-type]


RESOLVED = {
    "a key": ("DE", "DE"),
    "lower case": ("us-ny-nyis", "US-NY-NYIS"),
    "underscores, blanks and a line break": (" us_ny nyis\n", "US-NY-NYIS"),
    "the documents' key of California": ("US-CA-CISO", "US-CAL-CISO"),
    "the documents' key of the Midwest": ("US-MISO", "US-MIDW-MISO"),
    "an operator's short name": ("NYISO", "US-NY-NYIS"),
    "an alias in lower case": ("us-caiso", "US-CAL-CISO"),
    "a wrong middle with a balancing authority's code": ("US-EAST-PJM", "US-MIDA-PJM"),
    "an ISO alpha-3 code": ("deu", "DE"),
    "a retired zone": ("US-HI-OA", "US-HI"),
    "Norway, which YAML reads as false": ("NO", "NO"),
}
UNKNOWN = {
    "a misspelled key": ("US-NY-NYISS", "US-NY-NYIS"),
    "a misspelled country": ("Germny", "DE"),
    "a retired zone without a successor": ("US-SW-DEAA", None),
    "YAML's false": ("False", None),
    "nothing": ("", None),
    "a name of Python's": ("__proto__", None),
    "a Turkish dotless i, whose upper case is ASCII": ("ıt", None),
    "full-width letters": ("ＤＥ", None),
    "a code of no balancing authority": ("US-XX-YYY", None),
    "a balancing authority outside the US": ("DE-PJM", None),
    "an address": ("https://evil.example/?zone=DE", None),
}


@pytest.mark.parametrize(("text", "want"), RESOLVED.values(), ids=RESOLVED)
def test_understands(text: str, want: str) -> None:
    assert grid_zones().resolve(text) == want


@pytest.mark.parametrize(("text", "near"), UNKNOWN.values(), ids=UNKNOWN)
def test_does_not_guess(text: str, near: str | None) -> None:
    found = grid_zones().resolve(text)
    assert isinstance(found, UnknownGridZone)
    assert found.text == text
    assert len(found.nearest) <= 3
    if near:
        assert near in found.nearest


def test_a_code_that_two_zones_share_stays_unknown() -> None:
    zones = GridZones([make_zone("US-A-SAME"), make_zone("US-B-SAME"), make_zone("US-C-SOLE")])
    assert isinstance(zones.resolve("US-X-SAME"), UnknownGridZone)
    assert zones.resolve("US-X-SOLE") == "US-C-SOLE"


def test_an_alias_that_leads_nowhere_is_a_defect_of_the_table() -> None:
    with pytest.raises(ValueError, match="'OLD' leads to 'NEW'"):
        GridZones([make_zone("DE")], aliases={"OLD": "NEW"})


def test_a_long_text_is_cut() -> None:
    found = grid_zones().resolve("D" * 100_000)
    assert found == UnknownGridZone("D" * MAX_TEXT, ())


def test_memory_of_texts_is_bounded() -> None:
    zones = GridZones([make_zone("DE")])
    for number in range(3000):
        zones.resolve(f"x{number}")
    assert len(zones._memo) <= 1024
    assert zones.resolve("de") == "DE"


@given(st.text(max_size=80))
def test_any_text_gives_a_zone_that_exists_or_unknown(text: str) -> None:
    found = grid_zones().resolve(text)
    assert isinstance(found, UnknownGridZone) or found in grid_zones()
    assert grid_zones().resolve(text) == found


NODES = {
    "label carbon-zone": ({"carbon-zone": "nyiso"}, "", "DE", ("US-NY-NYIS", "label carbon-zone")),
    "label with our prefix": ({"carbon-scheduler.io/zone": "FR"}, "", "DE", ("FR", "label carbon-scheduler.io/zone")),
    "carbon-zone before the label with our prefix": (
        {"carbon-zone": "GB", "carbon-scheduler.io/zone": "FR"},
        "",
        None,
        ("GB", "label carbon-zone"),
    ),
    "a label before the cloud region": (
        {"carbon-zone": "GB", REGION: "eu-west-1"},
        "aws:///eu-west-1a/i-0",
        None,
        ("GB", "label carbon-zone"),
    ),
    "an AWS region": ({REGION: "eu-west-1"}, "aws:///eu-west-1a/i-0", "DE", ("IE", "region")),
    "the same region name at Alibaba is London": (
        {REGION: "eu-west-1"},
        "alicloud://eu-west-1.i-0",
        "DE",
        ("GB", "region"),
    ),
    "Council Bluffs is in SWPP": (
        {REGION: "us-central1"},
        "gce://project/us-central1-a/vm",
        None,
        ("US-CENT-SWPP", "region"),
    ),
    "Azure writes regions in any case": ({REGION: "WestEurope"}, "azure:///subscriptions/x", None, ("NL", "region")),
    "a region that the table lacks": ({REGION: "mars-1"}, "aws:///mars-1a/i-0", "DE", ("DE", "default")),
    "a region without a provider": ({REGION: "eu-west-1"}, "", "DE", ("DE", "default")),
    "OpenStack does not name the vendor": ({REGION: "GRA"}, "openstack:///x", None, (None, "none")),
    "an empty label is none": ({"carbon-zone": ""}, "", "DE", ("DE", "default")),
    "nothing at all": ({}, "kind://docker/kind/node", None, (None, "none")),
}


@pytest.mark.parametrize(("labels", "provider_id", "default", "want"), NODES.values(), ids=NODES)
def test_zone_of_a_node(
    labels: dict[str, str], provider_id: str, default: str | None, want: tuple[str | None, str]
) -> None:
    found = grid_zones().of_node(labels, provider_id, GridZone(default) if default else None)
    assert (found.grid_zone, found.where) == want
    assert found.problem is None


def test_a_misspelled_label_is_unknown_and_not_the_default_zone() -> None:
    found = grid_zones().of_node({"carbon-zone": "US-NY-NYISS", REGION: "eu-west-1"}, "aws:///x/i-0", GridZone("DE"))
    assert found.grid_zone is None
    assert found.where == "label carbon-zone"
    assert found.problem is not None
    assert found.problem.text == found.text == "US-NY-NYISS"
    assert found.problem.nearest[0] == "US-NY-NYIS"


@given(st.dictionaries(st.sampled_from(["carbon-zone", "carbon-scheduler.io/zone", REGION]), st.text()), st.text())
def test_any_node_gives_a_zone_that_exists_or_none(labels: dict[str, str], provider_id: str) -> None:
    found = grid_zones().of_node(labels, provider_id, None)
    assert found.grid_zone is None or found.grid_zone in grid_zones()
    assert len(found.text) <= MAX_TEXT or found.grid_zone is None


PROVIDERS = {
    "aws:///us-east-1a/i-0": "aws",
    "gce://p/z/n": "gcp",
    "AZURE:///subscriptions": "azure",
    "hcloud://1": "hetzner",
    "oci://ocid1.instance": "oci",
    "ocid1.instance.oc1..aaa": "oci",
    "openstack:///x": "",
    "": "",
    "no scheme": "",
}


@pytest.mark.parametrize(("provider_id", "want"), PROVIDERS.items())
def test_provider_of_a_node(provider_id: str, want: str) -> None:
    assert cloud_provider(provider_id) == want


def test_packaged_tables_are_whole() -> None:
    zones = grid_zones()
    assert len(zones) == 379
    for key in zones:
        assert zones.resolve(key) == key
        average = zones.average(key)
        assert average is not None
        assert 0 < average.g_per_kwh <= 1500
        assert all(part in zones for part in zones[key].sub_zones)
    assert zones.average(GridZone("ZZ")) is None
    assert zones[GridZone("DE")].average.label == "em-annual-mean 2024"
