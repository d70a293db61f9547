"""One frozen, validated `Config`, from a YAML file, then environment variables, then flags (the later wins).

The variable of a key is `CARBON_SCHEDULER_` and its path in upper case, e.g. `CARBON_SCHEDULER_PLACEMENT_POLICY=weighted`.
Four names of the user's own come before those: `ELECTRICITY_MAPS_API_KEY`, `ELECTRICITY_MAPS_API_KEY_FILE`,
`ELECTRICITY_MAPS_URL` and `DEFAULT_CARBON_ZONE`. The key itself is never part of a Config: only where to find it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.core.settings import Placement, Settings
from carbon_scheduler.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "CARBON_SCHEDULER_"
MAX_FILE_B = 1024 * 1024

Fraction = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class PlacementConfig(_Section, frozen=True):
    """Where a pod goes (design section 3)."""

    policy: Literal["carbon-first", "weighted", "off"] = "carbon-first"
    tolerance_frac: Fraction = 0.05
    tolerance_g_per_kwh: Annotated[float, Meta(ge=0, le=1500)] = 5.0
    carbon_weight: Annotated[int, Meta(ge=0, le=1000)] = 10


class ElectricityMapsConfig(_Section, frozen=True):
    """The data source. `requests_per_hour` is our own budget, for all zones together."""

    url: str = "https://api.electricitymaps.com"
    version: Literal["v3", "v4"] = "v4"
    emission_factor_type: Literal["lifecycle", "direct"] = "lifecycle"
    api_key_file: str = ""
    timeout_s: Seconds = 10.0
    requests_per_hour: Count = 60
    ca_file: str = ""


class CarbonConfig(_Section, frozen=True):
    """The ladder's last rungs. `default_g_per_kwh` None: a zone without any value stays without one."""

    default_zone: str = ""
    default_g_per_kwh: Annotated[float, Meta(gt=0, le=1500)] | None = None
    max_stale_s: Seconds = 3 * 3600.0
    first_data_wait_s: Annotated[float, Meta(ge=0, le=60)] = 5.0


class LeaderElectionConfig(_Section, frozen=True):
    """`enabled` "auto": on in a cluster, off with a kubeconfig. Times are kube-scheduler's."""

    enabled: Literal["auto", "on", "off"] = "auto"
    lease_name: str = "carbon-aware-scheduler"
    namespace: str = ""
    """"" is the namespace this runs in, `kube-system` outside a cluster."""
    lease_duration_s: Seconds = 15.0
    renew_deadline_s: Seconds = 10.0
    retry_period_s: Seconds = 2.0


class ServeConfig(_Section, frozen=True):
    """`/livez`, `/readyz`, `/metrics`. Port 0 takes any free one, an empty address serves nothing."""

    address: str = "0.0.0.0"
    port: Port = 10259


class ApiConfig(_Section, frozen=True):
    """How hard the API server is used."""

    bind_concurrency: Count = 48
    timeout_s: Seconds = 30.0
    page_size: Count = 500


class BackoffConfig(_Section, frozen=True):
    """podInitialBackoffSeconds, podMaxBackoffSeconds, --pod-max-in-unschedulable-pods-duration of kube-scheduler."""

    initial_s: Seconds = 1.0
    max_s: Seconds = 10.0
    flush_unschedulable_s: Seconds = 300.0


class Config(_Section, frozen=True):
    """Everything an operator can set."""

    scheduler_name: str = "carbon-aware-scheduler"
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    placement: PlacementConfig = PlacementConfig()
    carbon: CarbonConfig = CarbonConfig()
    electricity_maps: ElectricityMapsConfig = ElectricityMapsConfig()
    leader_election: LeaderElectionConfig = LeaderElectionConfig()
    serve: ServeConfig = ServeConfig()
    api: ApiConfig = ApiConfig()
    backoff: BackoffConfig = BackoffConfig()

    def settings(self, default_grid_zone: GridZone | None) -> Settings:
        """The core's part. The caller has resolved `carbon.default_zone`."""
        return Settings(
            scheduler_names=(self.scheduler_name,),
            placement=Placement(**msgspec.structs.asdict(self.placement)),
            default_grid_zone=default_grid_zone,
            initial_backoff_s=self.backoff.initial_s,
            max_backoff_s=self.backoff.max_s,
            flush_unschedulable_s=self.backoff.flush_unschedulable_s,
            first_data_wait_s=self.carbon.first_data_wait_s,
        )


def keys(section: type[msgspec.Struct] = Config, path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Every key of the configuration: environment variable -> path, in the order of declaration."""
    found: dict[str, tuple[str, ...]] = {}
    for field in msgspec.structs.fields(section):
        here = (*path, field.name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= keys(field.type, here)
        else:
            found[PREFIX + "_".join(here).upper()] = here
    return found


_ALIASES = {
    "ELECTRICITY_MAPS_API_KEY_FILE": ("electricity_maps", "api_key_file"),
    "ELECTRICITY_MAPS_URL": ("electricity_maps", "url"),
    "DEFAULT_CARBON_ZONE": ("carbon", "default_zone"),
}


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[tuple[str, ...], Any]) -> Config:
    """The configuration of a run. `flags` maps key paths to values given on the command line.

    Raises ConfigError naming the key, the value, what is allowed and the place it came from.
    """
    tree: dict[str, Any] = _read(file) if file else {}
    try:
        if tree:
            msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_explain(error)}") from error
    known = keys()
    origin: dict[tuple[str, ...], str] = {}
    for name, value in environ.items():
        path = known.get(name)
        if path is None and name.startswith(PREFIX):
            raise ConfigError(
                f"environment: {name} is not a setting of this program.{did_you_mean(name, known)} "
                "`carbon-scheduler run --help` lists them; unset it or correct its name"
            )
        if path:
            _put(tree, path, value)
            origin[path] = name
    for name, path in _ALIASES.items():
        if environ.get(name):
            _put(tree, path, environ[name])
            origin[path] = name
    for path, value in flags.items():
        if value is not None:
            _put(tree, path, value)
            origin[path] = "--" + path[-1].replace("_", "-")
    try:
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        where = next(
            (name for path, name in origin.items() if ".".join(path) in str(error)), str(file or "configuration")
        )
        raise ConfigError(f"{where}: {_explain(error)}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_FILE_B:
            raise ConfigError(f"{file}: larger than {MAX_FILE_B} bytes; a configuration file is a few lines of YAML")
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}; check the path given with --config") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: got a {type(tree).__name__} at the top, expected keys such as `placement:`")
    return tree


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"configuration: {part}: got {inner!r}, expected keys below it")
        tree = inner
    tree[path[-1]] = value


def _explain(error: msgspec.ValidationError) -> str:
    text = str(error)
    if "unknown field" in text:
        word = text.split("`")[1] if "`" in text else ""
        text += did_you_mean(word, {part for path in keys().values() for part in path})
    return text
