"""`carbon-intensity`: the data client on the command line. Results on stdout, narration on stderr.

Exit codes: 0 done, 2 usage or configuration, 3 the service failed, 130 interrupted.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from carbon_scheduler import __version__
from carbon_scheduler.errors import CarbonSchedulerError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.providers.client import Average, CarbonIntensityClient
    from carbon_scheduler.providers.source import Series, ZoneAccess

USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130
UNIT: Final = "gCO₂eq/kWh"
_BARS: Final = "▁▂▃▄▅▆▇█"
_HORIZONS: Final = (6, 24, 48, 72)


class _Command(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(
            "\nExamples:\n"
            "  carbon-intensity --zone US-NY-NYIS --type latest\n"
            "  carbon-intensity --zone DE --type recent --hours 12\n"
            "  carbon-intensity --zone FR --type forecast --format json | jq '.points[0]'\n"
            "  carbon-intensity --type zones | grep -i texas\n"
            "\nThe key is read from --api-key-file, ELECTRICITY_MAPS_API_KEY_FILE or ELECTRICITY_MAPS_API_KEY, in this order.\n"
            "Without one, annual averages are shown and marked as static.\n"
        )


@click.command(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--zone", metavar="ZONE", help="Grid zone; usual other names are understood. Default: DEFAULT_CARBON_ZONE."
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["latest", "recent", "forecast", "zones"]),
    default="latest",
    show_default=True,
    help="The newest value; the last hours; the coming hours; all zones.",
)
@click.option("--hours", type=click.IntRange(1, 2400), help="How many, with recent and forecast. Default: 24.")
@click.option("--format", "form", type=click.Choice(["pretty", "json"]), default="pretty", show_default=True)
@click.option("--api-key-file", default="", metavar="FILE", help="File with the Electricity Maps key on one line.")
@click.version_option(__version__, message="carbon-intensity %(version)s")
def command(zone: str | None, kind: str, hours: int | None, form: str, api_key_file: str) -> None:
    """Carbon intensity of electricity in a grid zone, from Electricity Maps."""
    from carbon_scheduler.providers.client import CarbonIntensityClient

    zone = zone or os.environ.get("DEFAULT_CARBON_ZONE") or ""
    if not zone and kind != "zones":
        raise click.UsageError(f"--type {kind} needs --zone, e.g. --zone DE; --type zones lists them")
    if hours is not None and kind not in ("recent", "forecast"):
        raise click.UsageError(f"--hours goes with --type recent or forecast, not with {kind}")
    with CarbonIntensityClient(api_key_file=api_key_file) as client:
        match kind:
            case "latest":
                _note_no_key(client)
                _latest(client.latest(zone), form)
            case "recent":
                _note_no_key(client)
                _recent(client.history(zone, hours or 24), hours or 24, form)
            case "forecast":
                horizon_h = next((known for known in _HORIZONS if known >= (hours or 24)), _HORIZONS[-1])
                _forecast(client.forecast(zone, horizon_h), hours or 24, form)
            case _:
                _zones(client.zones().values(), form)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program and exits with its code."""
    sys.exit(_main(sys.argv[1:] if argv is None else list(argv)))


def _main(argv: list[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # a terminal that has no subscript two gets a question mark, not a traceback
    try:
        command.main(argv, prog_name="carbon-intensity", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CarbonSchedulerError as error:
        click.echo(f"Error: {error}", err=True)
        return USAGE if isinstance(error, ConfigError) else FAILED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    return 0


def _note_no_key(client: CarbonIntensityClient) -> None:
    from carbon_scheduler.providers.electricity_maps import NO_KEY

    if not client.has_key:
        click.echo(f"Note: {NO_KEY}", err=True)


def _latest(value: CarbonValue, form: str) -> None:
    if form == "json":
        _print_json(
            {
                "zone": value.grid_zone,
                "carbon_intensity_g_per_kwh": value.g_per_kwh,
                "quality": value.quality,
                "source": value.source,
                "signal": value.signal,
                "datetime": _iso(value.hour_s),
                "error_frac": value.error_frac,
            }
        )
        return
    remark = "" if value.quality == "measured" else f" ({value.quality})"
    of = "annual average" if value.quality == "static" else f"hour from {_iso(value.hour_s)}"
    console = _console()
    console.print(f"[bold]{value.grid_zone}[/]  [bold]{value.g_per_kwh:.0f}[/] {UNIT}{remark}")
    console.print(f"{of}, {value.source}, {value.signal}, give or take {value.error_frac:.0%}", style="dim")


def _recent(series: Series, hours: int, form: str) -> None:
    from carbon_scheduler.providers.client import average

    mean = average(series, hours, time.time())
    if form == "json":
        _print_json(_series_json(series) | {"average": _average_json(mean)})
        return
    console = _console()
    missing = f", {mean.missing_h} missing" if mean.missing_h else ""
    estimated = "annual average" if mean.static else f"{mean.estimated_h} estimated{missing}"
    console.print(f"[bold]{series.grid_zone}[/]  mean of {hours} h [bold]{mean.g_per_kwh:.0f}[/] {UNIT} ({estimated})")
    _draw(console, series)


def _forecast(series: Series, hours: int, form: str) -> None:
    from msgspec.structs import replace

    series = replace(series, points=series.points[: hours + 1])  # the API's horizons are coarser than ours
    if form == "json":
        _print_json(_series_json(series))
        return
    lowest = min(series.points, key=lambda point: point.g_per_kwh)
    console = _console()
    console.print(
        f"[bold]{series.grid_zone}[/]  lowest [bold]{lowest.g_per_kwh:.0f}[/] {UNIT} in the hour from {_iso(lowest.hour_s)}"
    )
    _draw(console, series)


def _zones(zones: Iterable[ZoneAccess], form: str) -> None:
    rows = sorted(zones, key=lambda zone: zone.grid_zone)
    if form == "json":
        _print_json(
            [
                {"zone": row.grid_zone, "name": row.name, "access": None if row.access is None else list(row.access)}
                for row in rows
            ]
        )
        return
    for row in rows:
        access = "" if row.access is None else "  " + (" ".join(row.access) or "not in your plan")
        click.echo(f"{row.grid_zone:<14} {row.name}{access}")


def _draw(console: Console, series: Series) -> None:
    """One bar per hour, a blank for a gap, and the scale below."""
    lowest, highest = (pick(point.g_per_kwh for point in series.points) for pick in (min, max))
    by_hour = {round(point.hour_s / 3600): point.g_per_kwh for point in series.points}
    steps = len(_BARS) - 1
    bars = "".join(
        _BARS[round((by_hour[hour] - lowest) / (highest - lowest) * steps) if highest > lowest else 0]
        if hour in by_hour
        else " "
        for hour in range(min(by_hour), max(by_hour) + 1)
    )
    console.print(bars, style="green")
    first, last = _iso(series.points[0].hour_s), _iso(series.points[-1].hour_s)
    console.print(f"{lowest:.0f} to {highest:.0f} {UNIT}, hours from {first} to {last}, {series.source}", style="dim")


def _series_json(series: Series) -> dict[str, object]:
    return {
        "zone": series.grid_zone,
        "source": series.source,
        "signal": series.signal,
        "points": [
            {
                "datetime": _iso(point.hour_s),
                "carbon_intensity_g_per_kwh": point.g_per_kwh,
                "quality": point.quality,
                "method": point.method or None,
            }
            for point in series.points
        ],
        "rejected": [{"reason": rejected.reason, "text": rejected.text} for rejected in series.rejected],
    }


def _average_json(mean: Average) -> dict[str, object]:
    return {
        "carbon_intensity_g_per_kwh": round(mean.g_per_kwh, 3),
        "hours": mean.hours,
        "missing_hours": mean.missing_h,
        "estimated_hours": mean.estimated_h,
        "static": mean.static,
        "from": _iso(mean.from_s),
        "to": _iso(mean.to_s),
    }


def _print_json(tree: object) -> None:
    click.echo(json.dumps(tree, ensure_ascii=False, indent=2))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


if __name__ == "__main__":
    main()
