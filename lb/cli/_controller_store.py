"""What commands beside the controller share: its settings, and its store opened from them."""

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
        help="The controller's settings.",
    )
    return option(function)


@contextmanager
def opened(config_path: Path) -> Iterator[tuple[ControlConfig, ControllerStore]]:
    """Yield the settings and the store they name; the store is closed afterwards.

    Opening a store makes it. Only a controller may: a drain that is wished in a new store, because
    the path or the machine is the wrong one, would be wished of nobody.

    Raises:
        StoreUnavailable: there is no store.

    """
    config = load_control_config(config_path)
    directory = directory_of(config.store)
    if _is_missing(directory):
        raise StoreUnavailable(
            f"there is no store {directory}: run this where lbctl control runs, which makes it"
        )
    store = open_controller_store(config.store)
    try:
        yield config, store
    finally:
        store.close()


def _is_missing(directory: Path) -> bool:
    try:
        return not directory.exists()
    except PermissionError:  # who may not look is told so when it is opened
        return False
