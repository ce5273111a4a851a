"""The last good settings, kept beside the store or in an agent's state directory.

A program whose file is refused when it starts goes on with them, as it would have without the
start. One file has everything, secrets too, so it is whole or as before; it and the copies of the
secret files, which are made when it is used, have mode 0600 in a directory of mode 0700::

    settings/accepted.json
    settings/<key>                 for instance listen.token_file
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.errors import ConfigError
from controlplane.domain.settings_changes import Accepted
from controlplane.store.contract import StoreError
from controlplane.store.file.atomic import (
    make_directory,
    names_in,
    read_file,
    refuse_lax,
    replace_file,
    store_errors,
)

FOLDER = "settings"
ACCEPTED = "accepted.json"
MAX_BYTES = 16 << 20
_FIRST_TABLE = re.compile(r"^\s*\[", re.MULTILINE)


class SavedSettings:
    """The last good settings of the file ``source``, in a folder of ``directory``."""

    def __init__(self, directory: Path, source: Path) -> None:
        self._folder = directory / FOLDER
        self._source = str(source.absolute())

    def save(self, accepted: Accepted) -> None:
        """Keep these instead of the ones before. Raises ``StoreError``."""
        whole = {
            "source": self._source,
            "tables": accepted.tables,
            "contents": {
                key: base64.b64encode(data).decode() for key, data in accepted.contents.items()
            },
        }
        with store_errors("cannot save the settings"):
            make_directory(self._folder)
            data = json.dumps(whole).encode()
            replace_file(self._folder / ACCEPTED, data, self._folder, durable=True)
            for name in names_in(self._folder):  # copies of secrets that may have been replaced
                if name != ACCEPTED:
                    (self._folder / name).unlink(missing_ok=True)

    def load(self) -> Accepted | None:
        """Return what was saved, ``None`` if nothing was, or for another file.

        Raises:
            ConfigError: it is damaged, or others may change it.

        """
        try:
            with store_errors("cannot read the saved settings"):
                refuse_lax(self._folder.resolve(), 0o077, "700")
                refuse_lax(self._folder / ACCEPTED, 0o077, "600")
                whole = json.loads(read_file(self._folder / ACCEPTED, MAX_BYTES))
            if whole["source"] != self._source:
                return None
            contents = {k: base64.b64decode(text) for k, text in whole["contents"].items()}
            return Accepted(dict(whole["tables"]), contents)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise ConfigError(str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self._folder / ACCEPTED} is damaged: remove it") from error

    def with_copies(self, accepted: Accepted) -> dict[str, Any]:
        """Write the secret files, and return the tables with the paths of these copies.

        Raises:
            StoreError: they cannot be written.

        """
        tables = json.loads(json.dumps(accepted.tables))
        with store_errors("cannot copy the saved settings"):
            make_directory(self._folder)
            for key, data in accepted.contents.items():
                path = self._folder / key
                replace_file(path, data, self._folder, durable=False)
                table, _, inner = key.rpartition(".")
                (tables[table] if table else tables)[inner] = str(path)
        return dict(tables)


def read_contents(paths: Mapping[str, Path | None]) -> dict[str, bytes]:
    """Return the content of the files that settings name, by key. Raises ``ConfigError``."""
    contents = {}
    for key, path in paths.items():
        if path is None:
            continue
        try:
            contents[key] = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{key}: cannot read {path}: {error.strerror}") from error
    return contents


def key_of_text(path: Path, key: str, default: str) -> str:
    """Return the value of a key of text at the top of a file, even if the file is not valid TOML.

    So the saved settings are found that belong to a file which cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return default
    first = _FIRST_TABLE.search(text)
    top = text[: first.start()] if first else text
    found = re.search(rf"""^\s*{key}\s*=\s*(["'])([^"'\n]+)\1""", top, re.MULTILINE)
    return found[2] if found else default
