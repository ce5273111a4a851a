"""The command `lbctl control`."""

from __future__ import annotations

from pathlib import Path

import click

from lb.cli._controller_store import config_option


@click.command(
    epilog="Exit codes: 0 success (ended by SIGTERM), 1 failed, 2 wrong configuration, 5 the store "
    "cannot be reached, 130 ended by Ctrl-C."
)
@config_option
@click.option(
    "--seed",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Start an empty store from a server's state directory.",
)
def command(config_path: Path, seed: Path | None) -> int:
    """Run the controller: it turns health and load into tables.

    It runs in the foreground. Of several controllers with the same store, one leads and the others
    stand by. SIGHUP makes it read its settings again, SIGTERM ends it; forwarding continues
    without a controller.
    """
    from controlplane.controller.process import Signals, run_controller

    with Signals().caught() as signals:
        return run_controller(config_path, seed, signals)
