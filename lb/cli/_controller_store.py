"""What commands beside the controller share: its settings, and its store opened from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from controlplane.config import DEFAULT_PATH, ControlConfig, load_control_config
from controlplane.store import open_controller_store
from controlplane.store.base import ControllerStore

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(function: Command) -> Command:
    """Add ``--config`` to a command, as ``config_path``."""
    option = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_PATH,
        show_default=True,
        help="The controller's settings.",
    )
    return option(function)


@contextmanager
def opened(config_path: Path) -> Iterator[tuple[ControlConfig, ControllerStore]]:
    """Yield the settings and the store they name; the store is closed afterwards."""
    config = load_control_config(config_path)
    store = open_controller_store(config.store)
    try:
        yield config, store
    finally:
        store.close()
