"""Shared by the commands that need the controller's settings and its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import click

from controlplane.controller.settings import SettingsFile
from controlplane.domain.errors import ConfigError
from controlplane.domain.store_url import directory_of
from controlplane.settings.load import load_control_config
from controlplane.settings.models import DEFAULT_PATH, ControlConfig
from controlplane.store.contract import ControllerStore, StoreUnavailable
from controlplane.store.open import open_controller_store
from lb.cli._options import settings_file

config_option = click.option(
    "--config",
    "config_path",
    type=settings_file,
    default=DEFAULT_PATH,
    show_default=True,
    help="Read the controller's settings from this file.",
)


@contextmanager
def opened(config_path: Path) -> Iterator[tuple[ControlConfig, ControllerStore]]:
    """Yield the settings and the store that they name; the store is closed afterwards.

    With a file that is refused, these are the last good settings, as for the controller itself.

    Opening a store creates it, and only a controller may do that. With a wrong path, or on the
    wrong machine, a request to drain would go to a new store that no controller reads.

    Raises:
        ConfigError: the file is refused, and there are no last good settings.
        StoreUnavailable: the store does not exist.

    """
    config = _settings(config_path)
    directory = directory_of(config.store)
    with suppress(PermissionError):  # opening the store will report it
        if not directory.exists():
            raise StoreUnavailable(
                f"there is no store {directory}: run this where lbctl control runs, "
                "which creates it"
            )
    with closing(open_controller_store(config.store)) as store:
        yield config, store


def _settings(path: Path) -> ControlConfig:
    try:
        return load_control_config(path)
    except ConfigError as error:
        config = SettingsFile(path).accepted_before()
        if config is None:
            raise
        click.echo(f"warning: the last good settings are in use, not the file: {error}", err=True)
        return config


def warn_without_leader(store: ControllerStore) -> bool:
    """Return whether a controller leads this store; else nobody acts: print a warning."""
    if store.leader() is not None:
        return True
    click.echo(
        "warning: no controller leads this store, so nothing changes until one runs: lbctl control",
        err=True,
    )
    return False
