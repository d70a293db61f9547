"""One frozen, validated `Config`, from a YAML file, then environment variables, then flags (the later wins).

The variable of a key is `CARBON_SCHEDULER_` and its path in upper case, e.g. `CARBON_SCHEDULER_PLACEMENT_POLICY=weighted`.
Four names of the user's own come before those: `ELECTRICITY_MAPS_API_KEY`, `ELECTRICITY_MAPS_API_KEY_FILE`,
`ELECTRICITY_MAPS_URL` and `DEFAULT_CARBON_ZONE`. The key itself is never part of a Config: only where to find it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from carbon_scheduler.core.model import GridZone
from carbon_scheduler.core.settings import Placement, Profile, Settings
from carbon_scheduler.errors import ConfigError, did_you_mean
from carbon_scheduler.kubescheduler import read

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "CARBON_SCHEDULER_"
_SERVICE_LINK = re.compile(
    PREFIX + r"(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What the kubelet puts into a pod's environment for a Service named `carbon-scheduler` or `carbon-scheduler-...`."""
MAX_FILE_B = 1024 * 1024

Fraction = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class PlacementConfig(_Section, frozen=True):
    """Where a pod goes."""

    policy: Literal["carbon-first", "weighted", "off"] = "carbon-first"
    """carbon-first: among the cleanest nodes the best by kube-scheduler's scores. weighted: carbon is one more score.
    off: without carbon."""
    tolerance_frac: Fraction = 0.05
    """carbon-first: nodes within this fraction of the cleanest count as equally clean, ..."""
    tolerance_g_per_kwh: Annotated[float, Meta(ge=0, le=1500)] = 5.0
    """... and at least within this many gCO2eq/kWh of it. The larger of the two holds."""
    carbon_weight: Annotated[int, Meta(ge=0, le=1000)] = 10
    """weighted: the weight of carbon's 0..100; kube-scheduler's own scores weigh 1 to 3 each."""


class ElectricityMapsConfig(_Section, frozen=True):
    """The data source. `requests_per_hour` is our own budget, for all zones together."""

    url: str = "https://api.electricitymaps.com"
    """Base address of the API; a `/v3` or `/v4` at its end wins over `version`."""
    version: Literal["v3", "v4"] = "v4"
    """The API's version."""
    emission_factor_type: Literal["lifecycle", "direct"] = "lifecycle"
    """Whether values count the whole life cycle of a power plant or only what leaves its chimney."""
    api_key_file: str = ""
    """File with the key on one line, read again when it changes; "" takes ELECTRICITY_MAPS_API_KEY."""
    timeout_s: Seconds = 10.0
    """One request, from the connection to the last byte."""
    requests_per_hour: Count = 60
    """Our own limit of requests in any 60 minutes, for all zones together."""
    ca_file: str = ""
    """PEM file of certificates to trust instead of the system's (a proxy that inspects TLS)."""


class CarbonConfig(_Section, frozen=True):
    """The ladder's last rungs. `default_g_per_kwh` None: a zone without any value stays without one."""

    default_zone: str = ""
    """Grid zone of nodes that name none and whose cloud region is not known; "" leaves them without carbon data."""
    default_g_per_kwh: Annotated[float, Meta(gt=0, le=1500)] | None = None
    """The last rung: the value of a zone that has no other."""
    max_stale_s: Seconds = 3 * 3600.0
    """How old the last live value of a zone may be before its static average stands in."""
    first_data_wait_s: Annotated[float, Meta(ge=0, le=60)] = 5.0
    """How long decisions wait for the first answer of a zone; 0 does not wait."""


class LeaderElectionConfig(_Section, frozen=True):
    """`enabled` "auto": on in a cluster, off with a kubeconfig. Times are kube-scheduler's."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """auto, or on or off."""
    lease_name: str = "carbon-aware-scheduler"
    """Name of the Lease. The Role in deploy/k8s.yaml names it too."""
    namespace: str = ""
    """"" is the namespace this runs in, `kube-system` outside a cluster."""
    lease_duration_s: Seconds = 15.0
    """How long others wait after the last renewal before they take over. In whole seconds: a Lease has no others."""
    renew_deadline_s: Seconds = 10.0
    """A leader that could not renew for so long ends. Less than `lease_duration_s`."""
    retry_period_s: Seconds = 2.0
    """Time between renewals."""


class ServeConfig(_Section, frozen=True):
    """`/livez`, `/readyz`, `/metrics`. Port 0 takes any free one, an empty address serves nothing."""

    address: str = "0.0.0.0"
    """Address to listen on."""
    port: Port = 10259
    """TCP port."""


class ApiConfig(_Section, frozen=True):
    """How hard the API server is used."""

    bind_concurrency: Count = 48
    """Bindings under way at once."""
    timeout_s: Seconds = 30.0
    """One request; watches have their own limit."""
    page_size: Count = 500
    """Objects per page of a list."""


class BackoffConfig(_Section, frozen=True):
    """podInitialBackoffSeconds, podMaxBackoffSeconds, --pod-max-in-unschedulable-pods-duration of kube-scheduler."""

    initial_s: Seconds = 1.0
    """The first wait after an attempt without a node or with an error; each further one doubles."""
    max_s: Seconds = 10.0
    """The longest such wait."""
    flush_unschedulable_s: Seconds = 300.0
    """A pod that no node fits is tried again after this even when nothing changed."""


class Config(_Section, frozen=True):
    """Everything an operator can set."""

    scheduler_name: str = "carbon-aware-scheduler"
    """Pods whose `spec.schedulerName` is this are ours."""
    kube_scheduler_config: str = ""
    """File in kube-scheduler's own form (KubeSchedulerConfiguration): its profiles are served instead of `scheduler_name`."""
    log_format: Literal["text", "json"] = "text"
    """text: sentences. json: one object a line, one line per decision."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    preemption: bool = True
    """Whether a pod for which there is no room may have pods of lower priority evicted. Off: none is, PodDisruptionBudgets are
    not read, and the right to delete pods is not needed."""
    placement: PlacementConfig = PlacementConfig()
    carbon: CarbonConfig = CarbonConfig()
    electricity_maps: ElectricityMapsConfig = ElectricityMapsConfig()
    leader_election: LeaderElectionConfig = LeaderElectionConfig()
    serve: ServeConfig = ServeConfig()
    api: ApiConfig = ApiConfig()
    backoff: BackoffConfig = BackoffConfig()
    profiles: tuple[Profile, ...] = ()
    """Those of `kube_scheduler_config`; none: the default profile under `scheduler_name`."""

    @property
    def scheduler_names(self) -> tuple[str, ...]:
        """Whose pods are ours."""
        return tuple(profile.scheduler_name for profile in self._profiles)

    @property
    def _profiles(self) -> tuple[Profile, ...]:
        return self.profiles or (Profile(self.scheduler_name),)

    def settings(self, default_grid_zone: GridZone | None) -> Settings:
        """The core's part. The caller has resolved `carbon.default_zone`."""
        return Settings(
            profiles=self._profiles,
            placement=Placement(**msgspec.structs.asdict(self.placement)),
            default_grid_zone=default_grid_zone,
            # The kind that the source delivers is the kind that decides: values of another one would count as none.
            signal="average-direct" if self.electricity_maps.emission_factor_type == "direct" else "average-lifecycle",
            initial_backoff_s=self.backoff.initial_s,
            max_backoff_s=self.backoff.max_s,
            flush_unschedulable_s=self.backoff.flush_unschedulable_s,
            preemption=self.preemption,
            first_data_wait_s=self.carbon.first_data_wait_s,
        )


_PROFILES = ("profiles",)
"""The one field of Config that no key sets."""


def keys(section: type[msgspec.Struct] = Config, path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Every key of the configuration: environment variable -> path, in the order of declaration."""
    found: dict[str, tuple[str, ...]] = {}
    for field in msgspec.structs.fields(section):
        here = (*path, field.name)
        if here == _PROFILES:
            continue
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
    if misplaced := next((key for key in ("profiles", "kind") if key in tree), None):
        raise ConfigError(
            f"{file}: {misplaced}: this is a part of kube-scheduler's configuration; give such a file by "
            "--kube-scheduler-config, or by the key kube_scheduler_config of this one"
        )
    try:
        if tree:
            msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_explain(error)}") from error
    known = keys()
    origin: dict[tuple[str, ...], str] = {}
    for name, value in environ.items():
        path = known.get(name)
        if path is None and name.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(name):
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
        config = msgspec.convert(tree, Config, strict=False)
        if config.kube_scheduler_config:
            config = _with_profiles(tree, Path(config.kube_scheduler_config))
        return _consistent(config)
    except msgspec.ValidationError as error:
        where = next(
            (name for path, name in origin.items() if ".".join(path) in str(error)), str(file or "configuration")
        )
        raise ConfigError(f"{where}: {_explain(error)}") from error


def profiles_of(file: Path) -> tuple[Profile, ...]:
    """The profiles of kube-scheduler's `file`. Raises ConfigError that names all that cannot be served."""
    return read(_read(file), str(file)).profiles


def _with_profiles(tree: dict[str, Any], file: Path) -> Config:
    """The configuration with the profiles and settings of kube-scheduler's `file`; what `tree` sets wins."""
    if "scheduler_name" in tree:
        raise ConfigError(
            f"scheduler_name: got {tree['scheduler_name']!r} beside kube_scheduler_config {file}, expected one of the two: the "
            "names are those of the file's profiles; remove scheduler_name"
        )
    found = read(_read(file), str(file))
    whole: dict[str, Any] = {}
    for path, value in found.settings.items():
        _put(whole, path, value)
    for key, value in tree.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    config = msgspec.convert(whole, Config, strict=False)
    return msgspec.structs.replace(config, profiles=found.profiles)


def _consistent(config: Config) -> Config:
    """Checks what concerns several keys at once. The rule of the three times is client-go's (leaderelection.go)."""
    lease = config.leader_election
    if not lease.retry_period_s * 1.2 < lease.renew_deadline_s < lease.lease_duration_s:
        raise ConfigError(
            f"leader_election: got retry_period_s {lease.retry_period_s:g}, renew_deadline_s {lease.renew_deadline_s:g}, "
            f"lease_duration_s {lease.lease_duration_s:g}; expected 1.2 x retry period < renew deadline < lease duration, "
            "as the defaults 2, 10, 15: else two schedulers could lead at once"
        )
    if lease.lease_duration_s % 1:
        raise ConfigError(
            f"leader_election: got lease_duration_s {lease.lease_duration_s:g}, expected whole seconds: the Lease would say "
            f"{int(lease.lease_duration_s)}, and others would take over before our time is up"
        )
    if config.backoff.initial_s > config.backoff.max_s:
        raise ConfigError(
            f"backoff: got initial_s {config.backoff.initial_s:g} and max_s {config.backoff.max_s:g}; expected initial <= max"
        )
    return config


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
