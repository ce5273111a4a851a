"""Shared by the commands that need the controller's settings and its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from controlplane.domain.store_url import directory_of
from controlplane.settings.load import load_control_config
from controlplane.settings.models import DEFAULT_PATH, ControlConfig
from controlplane.store import open_controller_store
from controlplane.store.contract import ControllerStore, StoreUnavailable
from lb.cli._options import settings_file

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(function: Command) -> Command:
    """Add ``--config`` to a command, as ``config_path``."""
    option = click.option(
        "--config",
        "config_path",
        type=settings_file,
        default=DEFAULT_PATH,
        show_default=True,
        help="Read the controller's settings from this file.",
    )
    return option(function)


@contextmanager
def opened(config_path: Path) -> Iterator[tuple[ControlConfig, ControllerStore]]:
    """Yield the settings and the store that they name; the store is closed afterwards.

    Opening a store creates it, and only a controller may do that. With a wrong path, or on the
    wrong machine, a request to drain would go to a new store that no controller reads.

    Raises:
        StoreUnavailable: the store does not exist.

    """
    config = load_control_config(config_path)
    directory = directory_of(config.store)
    if _is_missing(directory):
        raise StoreUnavailable(
            f"there is no store {directory}: run this where lbctl control runs, which creates it"
        )
    store = open_controller_store(config.store)
    try:
        yield config, store
    finally:
        store.close()


def _is_missing(directory: Path) -> bool:
    try:
        return not directory.exists()
    except PermissionError:  # opening the store will report it
        return False
