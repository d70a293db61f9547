"""`carbon-scheduler evaluate`: which nodes may one pod use, why not the others, and how does each score? Offline."""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from carbon_scheduler.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from carbon_scheduler.core.grid import GridZones
    from carbon_scheduler.core.model import GridZone
    from carbon_scheduler.kube.cases import Answer, Case, Judge
    from carbon_scheduler.kube.kinds import Kind
    from carbon_scheduler.kube.wire import Meta

    Intensity = Callable[[GridZone], float | None]

NO: Final = 1
USAGE: Final = 2
MAX_FILE_B: Final = 1 << 30


class _Command(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(
            "\nExamples:\n"
            "  kubectl get nodes,pods,ns,svc,rc,rs,sts,pdb,pvc,pv,sc,csinodes,csidrivers,csistoragecapacities,"
            "volumeattachments -A -o json > cluster.json\n"
            "  carbon-scheduler evaluate -f cluster.json --pod default/web-0 -o wide\n"
            "  carbon-scheduler evaluate --cases cases.jsonl | jq -c .totals\n"
            "\nExit code 1: no node is feasible, or the pod cannot be judged (with -f). 2: also when a line was not a case;\n"
            "the others are answered.\n"
        )


@click.command(cls=_Command)
@click.option("--cases", metavar="FILE", help="One case a line as JSON; - is standard input. Answers as JSON lines.")
@click.option(
    "-f",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A saved list of API objects, as `kubectl get -o json` prints it. Can be given more than once.",
)
@click.option("--pod", metavar="NAMESPACE/NAME", help="The pending pod among the objects of -f.")
@click.option("-o", "output", type=click.Choice(["table", "wide", "json", "yaml"]), help="With -f. Default: table.")
@click.option("--carbon", type=click.Path(path_type=Path), help="Recorded carbon intensity: a CSV file or a folder.")
@click.option("--at", metavar="TIME", help="The recorded hour to take, ISO 8601, e.g. 2022-07-01T12:00Z.")
@click.option("--default-carbon-zone", metavar="ZONE", help="Grid zone of nodes that do not say theirs.")
@click.option(
    "--kube-scheduler-config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File in kube-scheduler's own form: pods are judged by the profile of their scheduler name.",
)
def evaluate(
    cases: str | None,
    files: tuple[Path, ...],
    pod: str | None,
    output: str | None,
    carbon: Path | None,
    at: str | None,
    default_carbon_zone: str | None,
    kube_scheduler_config: Path | None,
) -> int:
    """Judge one pending pod over a saved cluster, with the reasons and scores of kube-scheduler's plugins.

    Nothing is asked of a cluster and nothing is changed. Carbon does not enter the scores: it is shown beside them.
    """
    from carbon_scheduler.config import profiles_of
    from carbon_scheduler.core.grid import UnknownGridZone
    from carbon_scheduler.kube.cases import Judge
    from carbon_scheduler.providers.tables import grid_zones

    if (cases is None) == (not files):
        raise click.UsageError("give either --cases FILE, or -f FILE with --pod NAMESPACE/NAME")
    if cases is not None and (pod or output):
        raise click.UsageError("--pod and -o go with -f; --cases names the pod in each line and prints JSON lines")
    if (carbon is None) != (at is None):
        raise click.UsageError("--carbon and --at go together: a record, and the hour of it to take")
    zones = grid_zones()
    intensity = None if carbon is None or at is None else _recorded(carbon, at, zones)
    default_zone = zones.resolve(default_carbon_zone) if default_carbon_zone else None
    if isinstance(default_zone, UnknownGridZone):
        near = did_you_mean(default_zone.text, default_zone.nearest)
        raise ConfigError(f"--default-carbon-zone: got {default_carbon_zone!r}, expected a grid zone such as DE.{near}")
    profiles = profiles_of(kube_scheduler_config) if kube_scheduler_config else ()
    judge = partial(Judge, zones, default_zone, profiles=profiles)

    if cases is not None:
        return _answer_cases(cases, judge, intensity)
    if not pod:
        raise click.UsageError("-f needs --pod NAMESPACE/NAME")
    return _answer_one(files, pod, output or "table", judge(), intensity)


def _answer_cases(name: str, judge_of: Callable[[], Judge], intensity: Intensity | None) -> int:
    from carbon_scheduler.kube.cases import answer_lines

    whole = True
    encode = msgspec.json.Encoder().encode
    with ExitStack() as files:
        try:
            stream = files.enter_context(click.open_file(name, "rb"))
        except OSError as error:
            raise ConfigError(f"--cases {name}: cannot be read: {error.strerror}; expected JSON lines") from error
        for answer, was_case in answer_lines(stream, judge_of, intensity):
            whole &= was_case
            sys.stdout.write(encode(answer).decode() + "\n")
    return 0 if whole else USAGE


def _answer_one(files: Sequence[Path], name: str, output: str, judge: Judge, intensity: Intensity | None) -> int:
    from carbon_scheduler.kube.cases import NoVerdict

    case = _collect(files, name)
    found = judge.ask(judge.load(case), msgspec.Raw(msgspec.json.encode(name)))
    if isinstance(found, NoVerdict):
        click.echo(f"pod {name} cannot be judged: {found.error}", err=True)
        return NO
    if intensity is not None:
        found.carbon = judge.carbon(intensity)
    if output in ("json", "yaml"):
        shown = msgspec.json.encode(found)
        if output == "json":
            click.echo(msgspec.json.format(shown, indent=2).decode())
        else:
            click.echo(msgspec.yaml.encode(msgspec.json.decode(shown)).decode(), nl=False)
    else:
        for row in _aligned(_table(found, wide=output == "wide")):
            click.echo(row)
        if found.message is not msgspec.UNSET:
            click.echo(found.message, err=True)
    return 0 if found.totals or any(node.code == "Success" for node in found.nodes.values()) else NO


# -- reading


class _Listed(msgspec.Struct):
    """An object or a list of objects."""

    kind: str | None = None
    items: list[msgspec.Raw] | None = None


def _collect(files: Sequence[Path], name: str) -> Case:
    """The objects of all files as one case. Raises ConfigError."""
    from carbon_scheduler.kube import wire
    from carbon_scheduler.kube.cases import Case
    from carbon_scheduler.kube.kinds import KINDS

    nodes: list[wire.Node | None] = []
    pods: list[wire.Pod | None] = []
    namespaces: list[wire.Namespace | None] = []
    others: dict[str, list[wire.Object]] = {kind.listed_as: [] for kind in KINDS}
    known: dict[str, Kind] = {kind.name: kind for kind in KINDS}
    for file in files:
        for kind, raw in _objects(file):
            try:
                if kind == "Node":
                    nodes.append(wire.NODES.one(raw))
                elif kind == "Pod":
                    pods.append(wire.PODS.one(raw))
                elif kind == "Namespace":
                    namespaces.append(wire.NAMESPACES.one(raw))
                elif other := known.get(kind):  # others are of no concern
                    others[other.listed_as].append(other.codec.one(raw))
            except ValueError as error:
                raise ConfigError(f"{file}: a {kind} cannot be read: {error}") from error
    asked = [p for p in pods if p is not None and p.metadata is not None and _key(p.metadata) == name]
    if not asked:
        waiting = [_key(p.metadata) for p in pods if p and p.metadata and not (p.spec and p.spec.node_name)]
        raise ConfigError(f"--pod {name}: not among the {len(pods)} pods of the files.{did_you_mean(name, waiting)}")
    (pod, *_) = asked
    if pod.spec is not None and pod.spec.node_name:
        raise ConfigError(f"--pod {name}: already runs on {pod.spec.node_name}, expected a pod without a node")
    case = Case(pod=pod, nodes=nodes, pods=pods, namespaces=namespaces)
    for name, found in others.items():
        setattr(case, name, found)
    return case


def _key(meta: Meta) -> str:
    return f"{meta.namespace or 'default'}/{meta.name}"


def _objects(file: Path) -> Iterator[tuple[str, bytes]]:
    """(kind, JSON) of each object of a file: a List, a PodList and the like, or a single object."""
    try:
        if file.stat().st_size > MAX_FILE_B:
            raise ConfigError(f"{file}: got {file.stat().st_size} bytes, expected at most {MAX_FILE_B}")
        body = file.read_bytes()
        whole = msgspec.json.decode(body, type=_Listed)
        if whole.items is None:
            yield whole.kind or "", body
        for item in whole.items or ():
            kind = msgspec.json.decode(item, type=_Listed).kind
            yield kind or (whole.kind or "").removesuffix("List"), bytes(item)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{file}: is not a list of API objects: {error}; expected what `kubectl get -o json` prints"
        ) from error


def _recorded(path: Path, at: str, zones: GridZones) -> Intensity:
    """The recorded intensity of each zone in the hour that holds `at`. Raises ConfigError."""
    from carbon_scheduler.sim.grid_data import Recorded, read_intensity
    from carbon_scheduler.units import S_PER_HOUR

    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise ConfigError(f"--at: got {at!r}, expected ISO 8601 such as 2022-07-01T12:00Z") from error
    at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    hours = read_intensity([path], zones)
    if not hours:
        raise ConfigError(f"--carbon {path}: holds no value, expected hourly carbon intensity")
    first_s, end_s = Recorded(hours).between()
    if not first_s <= at_s < end_s:
        between = " to ".join(datetime.fromtimestamp(s, UTC).isoformat() for s in (first_s, end_s))
        raise ConfigError(f"--at: got {at}, which --carbon {path} does not cover; expected a time in {between}")

    def value(zone: GridZone) -> float | None:
        record = hours.get(zone)
        index = -1 if record is None else math.floor((at_s - record.start_s) / S_PER_HOUR)
        if record is None or not 0 <= index < len(record.g_per_kwh):
            return None
        found = float(record.g_per_kwh[index])
        return None if math.isnan(found) else found

    return value


# -- printing


def _table(answer: Answer, *, wide: bool) -> list[list[str]]:
    """Feasible nodes first, the best first; then the others by name."""
    plugins = list(answer.scores) if wide else []
    carbon = answer.carbon if isinstance(answer.carbon, dict) else None
    head = ["NODE", "TOTAL", *plugins, *(["ZONE", "G/KWH"] if carbon is not None else []), "VERDICT", "REASONS"]
    rows = [head]
    for name in sorted(answer.nodes, key=lambda n: (answer.nodes[n].code != "Success", -answer.totals.get(n, 0), n)):
        node = answer.nodes[name]
        row = [name, str(answer.totals.get(name, "-"))]
        row += [str(answer.scores[plugin].get(name, "-")) for plugin in plugins]
        if carbon is not None:
            value = carbon[name].intensity_g_per_kwh
            row += [carbon[name].grid_zone or "-", "-" if value is None else f"{value:.0f}"]
        verdict = "feasible" if node.code == "Success" else node.plugin
        rows.append([*row, verdict, ", ".join(node.reasons) or "-"])
    return rows


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
