"""Small text files that are always whole: as before or as written."""

from __future__ import annotations

from pathlib import Path

from controlplane.domain.errors import BrigadeError
from controlplane.store.file.atomic import replace_file


def write_atomically(path: Path, text: str, *, mode: int = 0o644, durable: bool = False) -> None:
    """Replace ``path`` by a file with this text; ``durable``: it is on the disk on return.

    Raises:
        BrigadeError: the directory cannot be written.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode(), path.parent, durable=durable, mode=mode)
    except OSError as error:
        raise BrigadeError(f"cannot write {path}: {error.strerror}") from error
