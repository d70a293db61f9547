"""`carbon-scheduler demo`: the main job from nothing, on this machine alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from io import StringIO
from typing import TYPE_CHECKING, Final, Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from carbon_scheduler.errors import ApiStatusError
from carbon_scheduler.sim import demo_workload
from carbon_scheduler.sim.demo_report import Report, Row, report, sentence, undecided
from carbon_scheduler.sim.demo_stage import Stage

if TYPE_CHECKING:
    from types import FrameType

SCHEDULING_LIMIT_S: Final = 60.0
SYNTHETIC: Final = "synthetic: each zone's annual average (providers/tables/zones.csv) with a fixed daily shape"
LIVE: Final = "live, from Electricity Maps"
_PODS: Final = f"/api/v1/namespaces/{demo_workload.NAMESPACE}/pods"


@click.command()
@click.option(
    "--real", is_flag=True, help="On a real etcd and kube-apiserver (KUBEBUILDER_ASSETS or `make control-plane`)."
)
@click.option("--keep", is_flag=True, help="Leave everything up until Ctrl-C, to look at it with kubectl.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def demo(real: bool, keep: bool, output: str) -> int:
    """See the scheduler at work, from nothing: it starts a cluster's API server and a grid-data server on this machine,
    makes 24 nodes in eight grid zones and 60 pods, runs the real `carbon-scheduler run` against them, and shows where each
    pod went and where it would have gone without carbon data.

    With ELECTRICITY_MAPS_API_KEY set the intensities are live, otherwise synthetic. The table goes to stdout, all else
    to stderr.

    \b
    Examples:
      carbon-scheduler demo
      carbon-scheduler demo --real --keep
      carbon-scheduler demo -o json | jq .total
    """
    stderr = Console(stderr=True, highlight=False)
    with _Signals() as signals, Stage(real=real, environ=os.environ, interrupted=signals.check) as stage:
        try:
            grid_data = LIVE if stage.live_data else SYNTHETIC
            log = _LogView(stage, stderr)
            _schedule(stage, log, stderr, grid_data, real=real)
            shown = report(
                stage.request("GET", _PODS),
                scheduler=demo_workload.SCHEDULER,
                grid_data=grid_data,
                synthetic=not stage.live_data,
            )
            if output == "json":
                click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
            else:
                _print(shown)
            if keep:
                _keep(stage, log, stderr)
        finally:
            signals.no_more()
    return 0


def _schedule(stage: Stage, log: _LogView, stderr: Console, grid_data: str, *, real: bool) -> None:
    """Everything up to the last decision. Raises PartDied and what the API server answers."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def step(text: str, total: int | None = None, doing: str = "") -> None:
            progress.reset(task, description=doing or text, total=total)
            _narrate(stderr, text)

        step(f"Grid data: {grid_data}")
        step("Starting etcd and kube-apiserver" if real else "Starting the embedded API server")
        stage.start_servers()
        nodes, pods = demo_workload.nodes(), demo_workload.pods()
        step(f"Creating {len(nodes)} nodes in eight grid zones and {len(pods)} pods", len(nodes) + len(pods))
        for path, objects in (("/api/v1/nodes", nodes), (_PODS, pods)):
            for made in objects:
                _create(stage, path, made)
                progress.advance(task)
        step("Starting `carbon-scheduler run`; it says:", len(pods), doing="Scheduling")
        stage.start_scheduler()

        def decided() -> bool:
            log.show()
            waiting, ours = undecided(stage.request("GET", _PODS), scheduler=demo_workload.SCHEDULER)
            progress.update(task, total=ours, completed=ours - waiting)
            return waiting == 0

        in_time = stage.wait(decided, SCHEDULING_LIMIT_S)
        stage.wait(lambda: not log.show(), 1.0)  # its lines come a moment after what they tell
        if not in_time:
            _narrate(
                stderr, f"Warning: not all pods were decided within {SCHEDULING_LIMIT_S:.0f} s; this is what there is"
            )


class _Count(MofNCompleteColumn):
    """`12/84`, and nothing while there is nothing to count."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


def _narrate(stderr: Console, text: str) -> None:
    """Words wrap at a terminal's edge; off a terminal a line stays one."""
    stderr.print(Text(text, style="bold"), soft_wrap=not stderr.is_terminal)


def _create(stage: Stage, path: str, made: demo_workload.Object) -> None:
    """A namespace that a starting API server has not made yet answers 404 for a moment."""

    def created() -> bool:
        try:
            stage.request("POST", path, made)
        except ApiStatusError as error:
            if error.code != 404:
                raise
            return False
        return True

    if not stage.wait(created, 10.0):
        stage.request("POST", path, made)


class _LogView:
    """The scheduler's log lines as they come, letter for letter, on stderr."""

    def __init__(self, stage: Stage, stderr: Console) -> None:
        self._stage = stage
        self._stderr = stderr
        self._read_b = 0

    def show(self) -> bool:
        """Prints the whole lines that are new; whether there were any."""
        with self._stage.scheduler_log.open("rb") as file:
            file.seek(self._read_b)
            lines, newline, _ = file.read().rpartition(b"\n")
        if not newline:
            return False
        self._read_b += len(lines) + 1
        self._stderr.print(Text(lines.decode(errors="replace"), style="dim"), soft_wrap=True)
        return True


def _keep(stage: Stage, log: _LogView, stderr: Console) -> None:
    """Until a signal comes or a process dies."""
    overrides = '{"spec":{"schedulerName":"carbon-aware-scheduler"}}'
    stderr.print(
        Text(
            "\nEverything is still up. In another terminal:\n\n"
            f"  export KUBECONFIG={stage.kubeconfig}\n"
            "  kubectl get pods -o wide\n"
            "  kubectl run test-pod --image=nginx --restart=Never \\\n"
            f"    --overrides='{overrides}'\n"
            "  kubectl describe pod test-pod\n"
            "  kubectl get pods -w\n"
            "  kubectl delete pod test-pod\n\n"
            "The scheduler's log goes on below. Ctrl-C ends all of it."
        ),
        soft_wrap=True,
    )
    try:
        while True:
            log.show()
            stage.check()
            time.sleep(0.2)
    except KeyboardInterrupt:
        stderr.print("\nEnding everything.")


class _Signals:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that what was started is ended.

    Python drops an exception that a handler raises inside a callback of the interpreter, and there are such around a fork:
    while a process is being started the handler only remembers, and the next `check` raises.
    """

    _NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._got: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in self._NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises KeyboardInterrupt, or SystemExit with the signal's code, when one has come."""
        if self._got == signal.SIGINT:
            raise KeyboardInterrupt
        if self._got is not None:
            sys.exit(128 + self._got)

    def no_more(self) -> None:
        """From here on they are ignored: a second Ctrl-C must not cut the clearing up short (a few seconds at most)."""
        for number in self._NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.no_more()
        self._got = number
        while frame:
            if frame.f_globals.get("__name__") == "subprocess":
                return
            frame = frame.f_back
        self.check()


def _print(shown: Report) -> None:
    """The table. Off a terminal it is 120 columns wide, without colours and without blanks at the ends of its lines."""
    text = StringIO()
    stdout = Console(highlight=False) if sys.stdout.isatty() else Console(file=text, highlight=False, width=120)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("POD", no_wrap=True)
    table.add_column("NODE", no_wrap=True)
    table.add_column("GRID ZONE", no_wrap=True)
    table.add_column("G/KWH", justify="right", no_wrap=True)
    table.add_column("BLIND CHOICE", no_wrap=True)
    table.add_column("G/KWH", justify="right", no_wrap=True)
    table.add_column("DIFF.", justify="right", no_wrap=True)
    for row in (row for row in shown.pods if row.state == "placed"):
        table.add_row(*_cells(row))
    stdout.print(table)
    rest = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    rest.add_column("POD", no_wrap=True)
    rest.add_column("NODE", no_wrap=True)
    rest.add_column("WHY IT IS PENDING, OR NOT OURS")
    for row in (row for row in shown.pods if row.state != "placed"):
        rest.add_row(row.pod, row.node or "-", Text(row.why))
    stdout.print()
    stdout.print(rest)
    stdout.print()
    stdout.print(Text(sentence(shown.total), style="bold"))
    stdout.print(Text(f"Grid data are {shown.grid_data}."))
    click.echo("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()), nl=False)


def _cells(row: Row) -> tuple[str, str, str, str, str, str, Text]:
    difference = row.difference_g_per_kwh
    style = "" if not difference else "green" if difference < 0 else "red"
    remark = "" if row.quality in (None, "measured", "estimated") else f" ({row.quality})"
    return (
        row.pod,
        row.node or "-",
        (row.grid_zone or "-") + remark,
        _number(row.g_per_kwh),
        row.blind_node or "-",
        _number(row.blind_g_per_kwh),
        Text("-" if difference is None else f"{difference:+.1f}" if abs(difference) >= 0.05 else "0", style=style),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
