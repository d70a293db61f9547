"""`carbon-scheduler COMMAND`, and the same program as `kubectl carbon COMMAND`.

Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 a service failed (or a defect), 130 interrupted.
Results go to stdout, narration to stderr. A command's module is imported when the command is used, so `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from carbon_scheduler import __version__
from carbon_scheduler.errors import CarbonSchedulerError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

NO: Final = 1
USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130

COMMANDS: Final = {
    "run": "Schedule the pods of a cluster that ask for it.",
    "evaluate": "Judge one pod over a saved cluster: which nodes, why not the others, and the scores.",
    "demo": "See the scheduler work, from nothing: a cluster, grid data and pods on this machine.",
}
"""Command -> its line in the list. It lives in `carbon_scheduler.cli.COMMAND` under its own name."""


class _Lazy(click.Group):
    """Knows its commands by name, and imports one only to use it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"carbon_scheduler.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"carbon_scheduler.cli.{cmd_name}: {cmd_name} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: `carbon-scheduler demo` shows it at work within a minute. Each command has a --help with an example.",
)
@click.version_option(__version__, message="carbon-scheduler %(version)s")
def cli() -> None:
    """A Kubernetes scheduler that decides where and when a pod runs by the carbon intensity of the electricity."""


def exit_code(error: CarbonSchedulerError) -> int:
    return USAGE if isinstance(error, ConfigError) else FAILED


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program and exits with its code."""
    sys.exit(_main(sys.argv[1:] if argv is None else list(argv)))


def _main(argv: list[str]) -> int:
    plugin = Path(sys.argv[0]).name.startswith("kubectl-carbon")
    try:
        done = cli.main(argv, prog_name="kubectl carbon" if plugin else "carbon-scheduler", standalone_mode=False)
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CarbonSchedulerError as error:
        _say(str(error))
        return exit_code(error)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (
        BrokenPipeError
    ):  # the reader of our output (`| head`) has left: nothing more to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception:  # noqa: BLE001  # the hook prints or logs it with its traceback; 1 would mean "the answer is no"
        sys.excepthook(*sys.exc_info())
        return FAILED


def _say(text: str) -> None:
    """One line on stderr; once the log has begun, a line of the log."""
    from carbon_scheduler.observe import log

    if log.started():
        logging.getLogger(__name__).error(text)
    else:
        click.echo(f"Error: {text}", err=True)
