"""Entry point of `lbctl`: runs the command, and turns an error into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import lb
from controlplane.domain.errors import BrigadeError, ExitCode
from lb.cli._lazy import LazyGroup

cli = LazyGroup(
    name="lbctl",
    package="lb.cli",
    folder=Path(__file__).parent,
    help="Bucket Brigade: a layer-4 load balancer in which every server is also a load balancer.",
    epilog="Exit codes: 0 success, 1 failed, 2 wrong usage or configuration, 130 interrupted. A "
    "command with other codes lists them in its own --help.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
cli = click.version_option(lb.__version__, prog_name="lbctl")(cli)


def fail(message: str, exit_code: int) -> int:
    """Print an error as one line and return its exit code."""
    line = " ".join(message.split())
    click.echo(f"lbctl: error: {line}", err=True)
    return exit_code


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `lbctl` and return its exit code.

    A command that succeeds returns nothing, or an exit code. One that fails raises `BrigadeError`.
    Any other exception is a bug and keeps its traceback.
    """
    try:
        result = cli.main(args=arguments, prog_name="lbctl", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        return fail(f"{error.format_message().rstrip('.')}{hint}", error.exit_code)
    except click.ClickException as error:
        return fail(error.format_message(), error.exit_code)
    except BrigadeError as error:
        return fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, for example) has closed the pipe. Python would report an error when
        # it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run `lbctl` as a process."""
    sys.exit(run())
