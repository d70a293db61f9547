"""`carbon-scheduler run`: the scheduler itself, until it is told to stop."""

from __future__ import annotations

import os
from functools import reduce
from pathlib import Path
from typing import Any

import click

from carbon_scheduler import config as configuration


def _key_list() -> str:
    """Every key of the configuration with its variable and default, for the end of `--help`."""
    defaults = configuration.Config()
    rows = [
        (".".join(path), variable, reduce(getattr, path, defaults)) for variable, path in configuration.keys().items()
    ]
    key_chars, variable_chars = (max(len(str(row[column])) for row in rows) for column in (0, 1))
    return "\n".join(
        f"  {key:<{key_chars}}  {variable:<{variable_chars}}  {'' if default is None else default}".rstrip()
        for key, variable, default in rows
    )


class _Run(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(
            "\nExamples:\n"
            "  carbon-scheduler run --kubeconfig ~/.kube/config --default-carbon-zone US-NY-NYIS\n"
            "  ELECTRICITY_MAPS_API_KEY_FILE=key carbon-scheduler run --config scheduler.yaml --log-format json\n"
            "\nConfiguration: a YAML file (--config), then the environment, then flags; the later wins.\n"
            "ELECTRICITY_MAPS_API_KEY, ELECTRICITY_MAPS_API_KEY_FILE, ELECTRICITY_MAPS_URL and DEFAULT_CARBON_ZONE are\n"
            "read too. Key in the file, variable, default:\n\n" + _key_list() + "\n"
        )


class _AddressPort(click.ParamType[tuple[str, int]]):
    """`ADDRESS:PORT`, `:PORT` for all addresses, `[IPv6]:PORT`; "" serves nothing."""

    name = "ADDRESS:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        if value == "":
            return "", 0
        address, colon, port = str(value).rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            self.fail(
                f"got {value!r}, expected ADDRESS:PORT with a port of 0 to 65535, e.g. 127.0.0.1:10259", param, ctx
            )
        return address.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


@click.command(cls=_Run)
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="Default: KUBECONFIG, else the cluster this runs in."
)
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file; its keys are listed below.")
@click.option(
    "--kube-scheduler-config",
    type=click.Path(path_type=Path),
    help="File in kube-scheduler's own form: its profiles are served, each under its scheduler name.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Default: text.")
@click.option("--leader-elect/--no-leader-elect", default=None, help="Default: in a cluster yes, with a kubeconfig no.")
@click.option("--default-carbon-zone", metavar="ZONE", help="Grid zone of nodes that do not say theirs.")
@click.option("--serve", type=_AddressPort(), help="Where /livez, /readyz and /metrics are. Default: 0.0.0.0:10259.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Write every event and decision to FILE, as JSON lines."
)
def run(
    kubeconfig: Path | None,
    config_file: Path | None,
    kube_scheduler_config: Path | None,
    log_format: str | None,
    leader_elect: bool | None,
    default_carbon_zone: str | None,
    serve: tuple[str, int] | None,
    record: Path | None,
) -> int:
    """Schedule a cluster's pods that name `carbon-aware-scheduler` as their scheduler.

    Without a kubeconfig it uses the ServiceAccount of the pod it runs in. It ends on SIGTERM or Ctrl-C with 0, and with 3
    when it has lost its lease or the cluster refuses it (14: it was stopped for longer than its lease).
    """
    address, port = serve or (None, None)
    config = configuration.load(
        config_file,
        os.environ,
        {
            ("kube_scheduler_config",): None if kube_scheduler_config is None else str(kube_scheduler_config),
            ("log_format",): log_format,
            ("leader_election", "enabled"): None if leader_elect is None else "on" if leader_elect else "off",
            ("carbon", "default_zone"): default_carbon_zone,
            ("serve", "address"): address,
            ("serve", "port"): port,
        },
    )
    from carbon_scheduler.live import run as until_told_to_stop

    return until_told_to_stop(config, kubeconfig=kubeconfig, environ=os.environ, record=record)
