"""Pool keys on disk: one file per key, readable by its owner alone.

A key is 16 secret bytes. It never appears in a message, a log line or a ``repr``.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from controlplane.domain.bounds import KEY_BYTES
from controlplane.domain.names import is_name
from controlplane.store.contract import StoreConflict, StoreCorrupt
from controlplane.store.file.atomic import (
    create_file,
    make_directory,
    names_in,
    read_file,
    refuse_lax,
    replace_file,
    store_errors,
)
from controlplane.store.names import check_key, check_name


class Keyring:
    """The keys in one directory (0700, each file 0600; anything laxer is refused)."""

    def __init__(self, directory: Path, temporaries: Path) -> None:
        self._directory = directory
        self._temporaries = temporaries

    def get(self, key_id: str) -> bytes:
        """Return a key. ``StoreCorrupt`` if there is none or it is not 16 bytes long."""
        path = self._path(key_id)
        with store_errors(f"cannot read key {key_id}"):
            try:
                refuse_lax(self._directory, 0o077, "700")
                refuse_lax(path, 0o077, "600")
                key = read_file(path, KEY_BYTES)
            except FileNotFoundError as error:
                raise StoreCorrupt(f"there is no key {key_id}") from error
        return check_key(key_id, key)

    def create(self, key_id: str, key: bytes) -> None:
        """Store a new key. ``StoreConflict`` if the id is taken by other bytes."""
        path = self._path(key_id)
        check_key(key_id, key)
        with store_errors(f"cannot store key {key_id}"):
            make_directory(self._directory)
            try:
                create_file(path, key, self._temporaries)
            except FileExistsError:
                if not secrets.compare_digest(self.get(key_id), key):
                    raise StoreConflict(f"key {key_id} exists with other bytes") from None

    def replace(self, key_id: str, key: bytes) -> None:
        """Store a key, replacing an earlier one of this id."""
        path = self._path(key_id)
        check_key(key_id, key)
        with store_errors(f"cannot store key {key_id}"):
            make_directory(self._directory)
            replace_file(path, key, self._temporaries, durable=True)

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all keys, sorted."""
        with store_errors("cannot list keys"):
            try:
                names = names_in(self._directory)
            except FileNotFoundError:
                return ()
        return tuple(name for name in names if is_name(name))

    def _path(self, key_id: str) -> Path:
        return self._directory / check_name(key_id, "key")
