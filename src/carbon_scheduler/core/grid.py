"""Which grid zone a text or a node means. Pure: built from rows, answers from dictionaries.

A grid zone is a zone key of Electricity Maps. People write it in many ways (`us-ny-nyis`, `NYISO`, `US_NY`, `DEU`), and a key
that does not exist must never reach the source of carbon data: it costs a request and answers 400.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal

from carbon_scheduler.core.model import GridZone, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ZONE_LABELS: Final = ("carbon-zone", "carbon-scheduler.io/zone")
REGION_LABEL: Final = "topology.kubernetes.io/region"
MAX_TEXT: Final = 64
"""Label values have at most 63 characters; of anything longer this much is kept for the message."""
NEAREST: Final = 3
_MEMO: Final = 1024

Where = Literal["label carbon-zone", "label carbon-scheduler.io/zone", "region", "default", "none"]
StaticSource = Literal["em-annual-mean", "owid", "owid-country", "world-default"]

_PROVIDERS: Final = {
    "aws": "aws",
    "gce": "gcp",
    "azure": "azure",
    "alicloud": "alibaba",
    "digitalocean": "digitalocean",
    "exoscale": "exoscale",
    "hcloud": "hetzner",
    "ibm": "ibm",
    "linode": "linode",
    "oci": "oci",
    "scaleway": "scaleway",
    "vultr": "vultr",
}
"""Scheme of spec.providerID -> provider of the table of cloud regions. `openstack` is missing on purpose: it does not name the
vendor, and regions of different vendors share names, so a guess would be a wrong place."""


class StaticAverage(Struct, frozen=True):
    """A zone's average over a year, the last rung but one of the ladder. `year` None: not of one year.

    `source`: em-annual-mean (the zone's own, Electricity Maps, rounded to 5 g), owid (its country, Our World in Data),
    owid-country (a part of a country takes the country's), world-default (nothing is known of the zone).
    """

    g_per_kwh: float
    source: StaticSource
    year: int | None = None

    @property
    def label(self) -> str:
        """For people: `em-annual-mean 2024`."""
        return f"{self.source} {self.year}" if self.year else self.source


class Zone(Struct, frozen=True):
    """What is known of one grid zone. `sub_zones` is not empty for a country that is also served in parts;
    `timezone` is an IANA name."""

    grid_zone: GridZone
    name: str
    country: str
    average: StaticAverage
    sub_zones: tuple[GridZone, ...] = ()
    timezone: str = "UTC"


class UnknownGridZone(Struct, frozen=True):
    """A text that names no grid zone, cut to `MAX_TEXT` characters, and up to three keys that may have been meant."""

    text: str
    nearest: tuple[GridZone, ...] = ()


class NodeZone(Struct, frozen=True):
    """The grid zone of a node, where that was found, and the text found there.

    `problem` is set when the place that decides holds a text that is no grid zone; `grid_zone` is None then.
    """

    grid_zone: GridZone | None
    where: Where
    text: str = ""
    problem: UnknownGridZone | None = None


class GridZones:
    """All grid zones, their aliases and the cloud regions in them.

    `aliases` maps upper-case texts to keys, `cloud_regions` (provider, region) to a key, `countries` ISO 3166-1 alpha-3 codes
    to alpha-2. Rows that lead to a key which does not exist raise ValueError: they would be a defect of the table.
    """

    def __init__(
        self,
        zones: Iterable[Zone],
        aliases: Mapping[str, str] | None = None,
        cloud_regions: Mapping[tuple[str, str], str] | None = None,
        countries: Mapping[str, str] | None = None,
    ) -> None:
        self._zones = {zone.grid_zone: zone for zone in zones}
        self._aliases = {alias: self._known(key, alias) for alias, key in (aliases or {}).items()}
        self._regions = {
            (provider, region.casefold()): self._known(key, f"{provider} {region}")
            for (provider, region), key in (cloud_regions or {}).items()
        }
        self._alpha2 = dict(countries or {})
        self._us_suffixes: dict[str, GridZone | None] = {}
        for key in self._zones:
            parts = key.split("-")
            if parts[0] == "US" and len(parts) == 3:
                # None marks a suffix that two zones share: such a text stays unknown
                self._us_suffixes[parts[2]] = None if parts[2] in self._us_suffixes else key
        self._words: dict[str, GridZone] = {zone.name.upper(): zone.grid_zone for zone in self._zones.values()}
        self._words |= self._aliases | {key: key for key in self._zones}
        self._memo: dict[str, GridZone | UnknownGridZone] = {}

    def __contains__(self, grid_zone: object) -> bool:
        return grid_zone in self._zones

    def __iter__(self) -> Iterator[GridZone]:
        return iter(self._zones)

    def __len__(self) -> int:
        return len(self._zones)

    def __getitem__(self, grid_zone: GridZone) -> Zone:
        """Raises KeyError for a key that does not exist."""
        return self._zones[grid_zone]

    def average(self, grid_zone: GridZone) -> StaticAverage | None:
        """The static average of a zone, life-cycle, or None when the zone does not exist. One lookup."""
        zone = self._zones.get(grid_zone)
        return zone.average if zone else None

    def resolve(self, text: str) -> GridZone | UnknownGridZone:
        """The grid zone that a text means. One lookup for a key, an alias or a text seen before; a new unknown one ~2 ms.

        In this order: (1) trimmed, upper case, `_` and blanks as `-`, exactly a key; (2) the table of aliases;
        (3) `US-...-CODE` with the code of one balancing authority; (4) an ISO alpha-3 country code whose alpha-2 code is a
        zone; (5) else unknown.
        Only ASCII is folded: `ı`.upper() is `I`, and a look-alike must not become a country.
        """
        known = self._zones.get(GridZone(text))
        if known is not None:
            return known.grid_zone
        if len(text) > MAX_TEXT:
            return UnknownGridZone(text[:MAX_TEXT])
        found = self._memo.get(text)
        if found is None:
            found = self._search(text)
            if len(self._memo) >= _MEMO:  # texts come from tenants: bounded, and starting over only costs time
                self._memo.clear()
            self._memo[text] = found
        return found

    def of_node(self, labels: Mapping[str, str], provider_id: str, default: GridZone | None) -> NodeZone:
        """The grid zone of a node: three lookups in the usual case.

        In this order: label `carbon-zone`; label `carbon-scheduler.io/zone`; the cloud region (provider from
        spec.providerID, region from `topology.kubernetes.io/region`); `default`; none. An empty label counts as absent.

        A label that names no zone ends the search: the node then has no zone, and not the next rule's. Somebody has said
        where this node is and it is not understood; the default zone could be far from the truth, in either direction, and
        nobody would see it. A node without a value ranks last and the problem is said, which is both safe and visible.
        """
        for label in ZONE_LABELS:
            text = labels.get(label, "").strip()
            if text:
                where: Where = "label carbon-zone" if label == "carbon-zone" else "label carbon-scheduler.io/zone"
                zone = self.resolve(text)
                if isinstance(zone, UnknownGridZone):
                    return NodeZone(None, where, zone.text, zone)
                return NodeZone(zone, where, text)
        region = labels.get(REGION_LABEL, "")
        if region and provider_id:
            here = self._regions.get((cloud_provider(provider_id), region.casefold()))
            if here is not None:
                return NodeZone(here, "region", region[:MAX_TEXT])
        if default is not None:
            return NodeZone(default, "default", default)
        return NodeZone(None, "none")

    def _known(self, key: str, row: str) -> GridZone:
        zone = GridZone(key)
        if zone not in self._zones:
            raise ValueError(f"table row {row!r} leads to {key!r}, which is not a key of the table of zones")
        return zone

    def _search(self, text: str) -> GridZone | UnknownGridZone:
        if not text.isascii():
            return self._unknown(text, text.strip().upper())
        word = "-".join(text.strip().upper().replace("_", " ").split())
        if word in self._zones:
            return GridZone(word)
        if word in self._aliases:
            return self._aliases[word]
        parts = word.split("-")
        if parts[0] == "US" and len(parts) > 1:
            authority = self._us_suffixes.get(parts[-1])
            if authority is not None:
                return authority
        alpha2 = GridZone(self._alpha2.get(word, ""))
        return alpha2 if alpha2 in self._zones else self._unknown(text, word)

    def _unknown(self, text: str, word: str) -> UnknownGridZone:
        """Searches keys, aliases and names, so that `Germny` leads to DE."""
        near: list[GridZone] = []
        for match in get_close_matches(word, self._words, n=2 * NEAREST, cutoff=0.6):
            if self._words[match] not in near:
                near.append(self._words[match])
        return UnknownGridZone(text, tuple(near[:NEAREST]))


def cloud_provider(provider_id: str) -> str:
    """The provider in the table of cloud regions that a spec.providerID names, or "".

    Oracle's is `oci://ocid1...` or the bare identifier.
    """
    scheme, separator, _ = provider_id.partition("://")
    if not separator:
        return "oci" if provider_id.startswith("ocid1.") else ""
    return _PROVIDERS.get(scheme.casefold(), "")
