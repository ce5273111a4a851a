"""The entry point of `lbctl`: finds the command, runs it, turns errors into one line and a code."""

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
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted; a "
    "command that has others says so in its own --help.",
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

    A command ends well by returning nothing (or its exit code), and badly by raising
    `BrigadeError`. Anything else it raises is a fault of ours and keeps its traceback.
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
        # The reader, `head` say, has seen enough. Python would complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run `lbctl` as a process."""
    sys.exit(run())
