"""Run the control loop: health and load in, forwarding tables out."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.settings.models import DEFAULT_PATH
from lb.cli._options import settings_file


@click.command(
    epilog="Exit codes: 0 ended by SIGTERM, 1 failed, 2 wrong configuration, 5 the store cannot be "
    "reached, 130 ended by Ctrl-C."
)
@click.option(
    "--config",
    "config_path",
    type=settings_file,
    default=DEFAULT_PATH,
    show_default=True,
    help="The controller's settings.",
)
@click.option(
    "--seed",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Begin an empty store from a server's state directory.",
)
def command(config_path: Path, seed: Path | None) -> int:
    """Run the control loop in the foreground.

    Of several controllers of one store one leads, the others stand by. SIGHUP reads the settings
    again, SIGTERM ends the loop; forwarding goes on without it.
    """
    from controlplane.controller.process import Signals, run_controller

    with Signals().caught() as signals:
        return run_controller(config_path, seed, signals)
