"""Run the control loop: health and load in, forwarding tables out."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.config import DEFAULT_PATH


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
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
    from controlplane.control import Signals, run_controller

    with Signals().caught() as signals:
        return run_controller(config_path, seed, signals)
