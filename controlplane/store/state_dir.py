"""An agent's state directory: the last good documents and keys.

An agent starts from it when the store does not answer. ``lbctl control --seed`` fills an empty
store from it when the controller's machine is lost::

    documents/cluster.json         the encoded bytes, as published
    documents/table.<pool>.json
    documents/controller.json      what a seeded controller goes on from
    keys/<key_id>                  16 raw bytes, mode 0600 in a directory of mode 0700

Other files in it are left alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.domain.controller_state import CONTROLLER
from controlplane.store.contract import StoreUnavailable
from controlplane.store.file.atomic import (
    make_directory,
    names_in,
    read_file,
    remove_file,
    replace_file,
    store_errors,
    sweep_temporaries,
)
from controlplane.store.file.generations import MAX_DOCUMENT_BYTES
from controlplane.store.file.keyring import Keyring
from controlplane.store.names import kind_to_stem, stem_to_kind

_SUFFIX = ".json"


@dataclass(frozen=True)
class SavedState:
    """The content of a state directory: encoded documents by kind, keys by id.

    ``controller``: the copy of the controller's state, ``None`` if there is none.
    """

    documents: Mapping[str, bytes]
    keys: Mapping[str, bytes] = field(repr=False)
    controller: bytes | None = None


class StateDir:
    """The last good documents and keys of one agent. Each file is new and whole, or as before.

    Errors: ``StoreUnavailable`` (disk full, worth a retry), ``StoreDenied`` (not the owner, or a
    key that others can read), ``StoreCorrupt`` (invalid names or files).
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._documents = self.directory / "documents"
        self._temporaries = self.directory / "tmp"
        self._keyring = Keyring(self.directory / "keys", self._temporaries)

    def save_document(self, kind: str, data: bytes) -> None:
        """Make ``data`` the last good document of this kind, durably."""
        path = self._path(kind)
        with store_errors(f"cannot save the {kind} document"):
            self._prepare()
            make_directory(self._documents)
            replace_file(path, data, self._temporaries, durable=True)

    def load_document(self, kind: str) -> bytes | None:
        """Return the last good document of this kind, ``None`` if there is none."""
        path = self._path(kind)
        with store_errors(f"cannot read the saved {kind} document"):
            try:
                return read_file(path, MAX_DOCUMENT_BYTES)
            except FileNotFoundError:
                return None

    def document_age_seconds(self, kind: str) -> float | None:
        """Return the time since a document was saved, by the wall clock; ``None`` without one."""
        try:
            saved_at = self._path(kind).stat().st_mtime
        except FileNotFoundError:
            return None
        return max(0.0, time.time() - saved_at)

    def documents(self) -> dict[str, bytes]:
        """Return every saved document that servers use, by kind."""
        with store_errors("cannot list the saved documents"):
            try:
                names = names_in(self._documents)
            except FileNotFoundError:
                return {}
        kinds = (stem_to_kind(n.removesuffix(_SUFFIX)) for n in names if n.endswith(_SUFFIX))
        loaded = {kind: self.load_document(kind) for kind in kinds if kind is not None}
        return {kind: data for kind, data in loaded.items() if data is not None}

    def forget_document(self, kind: str) -> None:
        """Remove a saved document, durably, for instance of a pool that was removed."""
        path = self._path(kind)
        with store_errors(f"cannot remove the saved {kind} document"):
            if path.exists():
                remove_file(path, durable=True)

    def save_key(self, key_id: str, key: bytes) -> None:
        """Save a pool's key (16 bytes), durably."""
        with store_errors(f"cannot save key {key_id}"):
            self._prepare()
        self._keyring.replace(key_id, key)

    def key(self, key_id: str) -> bytes:
        """Return a saved key. ``StoreCorrupt`` if there is none."""
        return self._keyring.get(key_id)

    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of the saved keys, sorted."""
        return self._keyring.ids()

    def _path(self, kind: str) -> Path:
        return self._documents / f"{kind_to_stem(kind)}{_SUFFIX}"

    def _prepare(self) -> None:
        make_directory(self._temporaries)
        sweep_temporaries(self._temporaries, time.time())


def read_state_dir(directory: Path | str) -> SavedState:
    """Return everything in an agent's state directory, for ``lbctl control --seed``.

    Raises ``StoreUnavailable`` if it has no document or does not exist, and the errors of
    ``StateDir``.
    """
    state = StateDir(directory)
    documents = state.documents()
    if not documents:
        raise StoreUnavailable(
            f"{directory} holds no documents: name an agent's state_dir (or a copy of it)"
        )
    keys = {key_id: state.key(key_id) for key_id in state.key_ids()}
    return SavedState(documents, keys, state.load_document(CONTROLLER))
