"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from controlplane.domain.errors import BrigadeError

settings_file = click.Path(path_type=Path, dir_okay=False, readable=False)
"""A file of settings. Its reader reports why it cannot be read, so click does not check it."""

config_option = click.option(
    "--config",
    type=settings_file,
    default=Path("/etc/bucket-brigade/agent.toml"),
    show_default=True,
    help="Read the agent's settings from this file.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn an error in writing a file into one line."""
    try:
        yield
    except OSError as error:
        raise BrigadeError(f"cannot write {path}: {error.strerror}") from error


def _check_writable(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Fail before the run rather than after it. A file that exists is kept as it is until then."""
    if path is not None and str(path) != "-":
        with _write_errors(path), path.open("a", encoding="utf-8"):
            pass
    return path


json_file_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    callback=_check_writable,
    help="Write the result as JSON to this file; - is standard output.",
)


def write_json(path: Path | None, values: object) -> bool:
    """Write a result to the file of ``--json``; return whether it went to standard output."""
    if path is None:
        return False
    text = json.dumps(values, indent=2) + "\n"
    if str(path) == "-":
        click.echo(text, nl=False)
        return True
    with _write_errors(path):
        path.write_text(text, encoding="utf-8")
    return False
