"""Paths of the project's files, in a clone and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from controlplane.domain.errors import BrigadeError


def bpf_dir() -> Path:
    """Return the folder of the C sources.

    Raises:
        BrigadeError: the installation does not contain them.

    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_bpf", package.parent / "bpf"):
        if candidate.is_dir():
            return candidate
    message = f"the C sources are missing next to {package}: install Bucket Brigade again"
    raise BrigadeError(message)
