"""The configuration: what the core is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_scheduler.config import MAX_FILE_B, Config, ElectricityMapsConfig, load
from carbon_scheduler.errors import ConfigError
from carbon_scheduler.providers.electricity_maps_body import SIGNALS, FactorType


@pytest.mark.parametrize("factor_type", SIGNALS)
def test_what_the_source_delivers_is_what_decides(factor_type: FactorType) -> None:
    """Were they different kinds, every live value would count as none, and nobody would be told."""
    config = Config(electricity_maps=ElectricityMapsConfig(emission_factor_type=factor_type))
    assert config.settings(None).signal == SIGNALS[factor_type]


def test_the_later_place_wins(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text("placement: {policy: weighted, carbon_weight: 3}\nserve: {port: 1}\n")
    config = load(
        file,
        {"CARBON_SCHEDULER_PLACEMENT_CARBON_WEIGHT": "4", "CARBON_SCHEDULER_SERVE_PORT": "2"},
        {("serve", "port"): 3},
    )
    assert (config.placement.policy, config.placement.carbon_weight, config.serve.port) == ("weighted", 4, 3)


def test_preemption_is_on_until_it_is_switched_off(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text("preemption: false\n")
    assert load(None, {}, {}).settings(None).preemption
    assert not load(file, {}, {}).settings(None).preemption
    assert not load(None, {"CARBON_SCHEDULER_PREEMPTION": "false"}, {}).settings(None).preemption
    assert load(file, {"CARBON_SCHEDULER_PREEMPTION": "true"}, {}).settings(None).preemption


def test_the_users_own_variables() -> None:
    environ = {"DEFAULT_CARBON_ZONE": "DE", "ELECTRICITY_MAPS_URL": "http://x", "ELECTRICITY_MAPS_API_KEY_FILE": "/k"}
    config = load(None, environ, {})
    assert (config.carbon.default_zone, config.electricity_maps.url, config.electricity_maps.api_key_file) == (
        "DE",
        "http://x",
        "/k",
    )


def test_an_empty_variable_of_the_users_counts_as_none() -> None:
    assert load(None, {"DEFAULT_CARBON_ZONE": "", "ELECTRICITY_MAPS_URL": ""}, {}) == Config()


def test_what_the_kubelet_adds_for_a_service_of_our_name_is_not_ours() -> None:
    links = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_10259_TCP", "PORT_10259_TCP_ADDR")
    environ = {f"CARBON_SCHEDULER_{link}": "tcp://10.0.0.1:10259" for link in links}
    environ["CARBON_SCHEDULER_METRICS_SERVICE_HOST"] = "10.0.0.2"
    assert load(None, environ, {}) == Config()


REFUSED: dict[str, tuple[str, dict[str, str], str]] = {
    "a typo in a variable": (
        "",
        {"CARBON_SCHEDULER_PLACEMENT_POLICI": "off"},
        "'carbon_scheduler_placement_policy'",
    ),
    "a typo in the file": ("placment: {policy: off}", {}, "did you mean 'placement'"),
    "a word that is not allowed": (
        "",
        {"CARBON_SCHEDULER_PLACEMENT_POLICY": "greenest"},
        "carbon_scheduler_placement_policy",
    ),
    "a number out of range": ("serve: {port: 70000}", {}, "serve.port"),
    "no number": ("", {"CARBON_SCHEDULER_SERVE_PORT": "http"}, "carbon_scheduler_serve_port"),
    "Norway, read as false by YAML 1.1": ("carbon: {default_zone: NO}", {}, "carbon.default_zone"),
    "a lease of half seconds": (
        "leader_election: {lease_duration_s: 15.9, renew_deadline_s: 15.5}",
        {},
        "the lease would say 15",
    ),
    "a lease shorter than its renewal": ("leader_election: {lease_duration_s: 5}", {}, "two schedulers could lead"),
    "a first backoff above the last": ("backoff: {initial_s: 20}", {}, "initial <= max"),
    "a list": ("- a", {}, "expected keys"),
    "not YAML": ("a: [", {}, "not yaml"),
}


@pytest.mark.parametrize(("text", "environ", "want"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_its_place(
    text: str, environ: dict[str, str], want: str, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(file, environ, {})
    assert want in str(error.value).lower()


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml", {}, {})
    (tmp_path / "big.yaml").write_text("a" * (MAX_FILE_B + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(tmp_path / "big.yaml", {}, {})
