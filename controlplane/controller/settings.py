"""The settings of a running controller: read, checked, saved when good, used again when refused.

Good is more than a valid file: it changes nothing that is fixed while it is in use, and the files
that it names can be used. The last good settings are kept in the store's directory. If the file is
refused when a controller starts, it goes on with those, as it would have without the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from controlplane.domain.errors import ConfigError
from controlplane.domain.objects import Cluster
from controlplane.domain.settings_changes import Accepted, changes, keep
from controlplane.domain.store_url import DEFAULT_STORE, directory_of, is_file
from controlplane.settings.load import control_config, read_control_tables
from controlplane.settings.models import ControlConfig, ListenConfig
from controlplane.settings.rules import check_against, fixed_faults, kept_notes
from controlplane.store.contract import StoreError
from controlplane.store.http.credentials import Credentials, read_certificate, read_credentials
from controlplane.store.http.token import read_tokens
from controlplane.store.saved_settings import SavedSettings, key_of_text, read_contents

FIXED_KEYS = ("store", "listen.address", "listen.port", "metrics", "log_format")
"""Keys that a running controller cannot change."""
TLS_KEYS = ("listen.certificate", "listen.private_key")
"""Fixed if only the old or only the new settings have them."""


@dataclass(frozen=True)
class Settings:
    """Settings that were found good. ``config`` has the paths that are read.

    ``needs_restart`` are keys whose new values are not in use. ``refused`` is why the file is not
    in use, but the last good settings.
    """

    config: ControlConfig
    accepted: Accepted
    credentials: Credentials | None = field(repr=False)
    needs_restart: Sequence[str] = ()
    refused: str = ""


@dataclass(frozen=True)
class Preview:
    """What a reload would do: refuse the file because of ``faults``, or change something.

    ``notes``: what stays as it is, and might surprise.
    """

    faults: Sequence[str]
    changed: str = ""
    needs_restart: Sequence[str] = ()
    notes: Sequence[str] = ()


class SettingsFile:
    """A controller's file, and the last good settings of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = structlog.get_logger()

    def read(self, cluster: Cluster | None = None, in_use: Settings | None = None) -> Settings:
        """Read the file and what it names.

        ``cluster`` is what runs; ``in_use`` are the settings of this process, whose fixed keys
        stay.

        Raises:
            ConfigError: it is refused.

        """
        tables = read_control_tables(self._path)
        control_config(tables, self._path)  # must be good as a whole, a restart will use all of it
        differing: Sequence[str] = ()
        if in_use:
            old = in_use.accepted.tables
            tables, differing = keep(old, tables, _fixed(old, tables))
        return self._checked(tables, cluster, needs_restart=differing)

    def start(self, cluster: Cluster | None = None, in_use: Settings | None = None) -> Settings:
        """Read the file; if it is refused, return the last good settings.

        Raises:
            ConfigError: it is refused, and there are no last good settings.

        """
        try:
            return self.read(cluster, in_use)
        except ConfigError as error:
            saved = self._last_good(cluster)
            if saved is None:
                raise
            return replace(saved, refused=str(error))

    def preview(self, store: str, cluster: Cluster | None) -> Preview:
        """Return what a controller of this store would do with the file on a reload.

        Raises:
            ConfigError: the file itself is refused.

        """
        tables = read_control_tables(self._path)
        config = control_config(tables, self._path)
        faults = list(fixed_faults(config, cluster)) if cluster else []
        faults += _credential_faults(config.listen)
        notes = list(kept_notes(config, cluster)) if cluster else []
        accepted = None
        try:
            accepted = SavedSettings(directory_of(store), self._path).load()
        except ConfigError as error:
            faults.append(str(error))
        if accepted is None or faults:
            return Preview(faults, notes=notes)
        old = accepted.tables
        kept, differing = keep(old, tables, _fixed(old, tables))
        new = self._checked(kept, cluster).accepted
        return Preview(faults, changes(accepted, new), differing, notes)

    def save(self, settings: Settings) -> None:
        """Keep these as the last good ones; a failure is logged."""
        try:
            self._saved(settings.config.store).save(settings.accepted)
        except StoreError as error:
            self._log.warning("the last good settings are not saved", reason=str(error))

    def accepted_before(self) -> ControlConfig | None:
        """Return what a controller of this file goes on with while the file is refused.

        ``None``: nothing was saved. Raises ``ConfigError``: what was saved is damaged.
        """
        url = key_of_text(self._path, "store", DEFAULT_STORE)
        accepted = self._saved(url).load() if is_file(url) else None
        return control_config(accepted.tables, self._path) if accepted else None

    def _last_good(self, cluster: Cluster | None) -> Settings | None:
        url = key_of_text(self._path, "store", DEFAULT_STORE)
        if not is_file(url):
            return None
        saved = self._saved(url)
        try:
            accepted = saved.load()
            if accepted is None:
                return None
            found = self._checked(saved.with_copies(accepted), cluster)
        except (ConfigError, StoreError) as error:
            self._log.error("the last good settings cannot be used", reason=str(error))
            return None
        return replace(found, accepted=accepted)

    def _saved(self, url: str) -> SavedSettings:
        return SavedSettings(self._path.resolve().parent / directory_of(url), self._path)

    def _checked(
        self, tables: Mapping[str, Any], cluster: Cluster | None, needs_restart: Sequence[str] = ()
    ) -> Settings:
        config = control_config(tables, self._path)
        if cluster:
            check_against(config, cluster, self._path)
        listen = config.listen
        if listen is None:
            return Settings(config, Accepted(tables), None, needs_restart)
        credentials = read_credentials(listen.token_file, listen.certificate, listen.private_key)
        contents = read_contents(
            {
                "listen.token_file": listen.token_file,
                "listen.certificate": listen.certificate,
                "listen.private_key": listen.private_key,
            }
        )
        return Settings(config, Accepted(tables, contents), credentials, needs_restart)


def _credential_faults(listen: ListenConfig | None) -> Iterator[str]:
    """Yield what is wrong with the files that the store's server needs."""
    if listen is None:
        return
    try:
        read_tokens(listen.token_file)
    except ConfigError as error:
        yield f"listen.token_file: {error}"
    try:
        read_certificate(listen.certificate, listen.private_key)
    except ConfigError as error:
        yield f"listen.certificate: {error}"


def _fixed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fixed keys; TLS can be neither switched on nor off."""
    sides = [tables.get("listen", {}) for tables in (old, new)]
    switched = len({"certificate" in side for side in sides}) > 1
    return (*FIXED_KEYS, *TLS_KEYS) if switched else FIXED_KEYS
