"""Pins programs and maps in a folder of a bpffs: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall


def pin_all(directory: Path, descriptors: Mapping[str, int]) -> None:
    """Pin everything in `directory`, where nothing of these names may be pinned yet.

    Raises:
        DataplaneError: that is so, the folder is not on a bpffs, or cannot be written.

    """
    pinned: list[Path] = []
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, descriptor in descriptors.items():
            bpf_syscall.obj_pin(descriptor, directory / name)
            pinned.append(directory / name)
    except OSError as error:
        with suppress(OSError):
            for path in pinned:
                path.unlink()
            directory.rmdir()  # stays if others' pins are in it
        raise DataplaneError(
            f"cannot pin under {directory}: {error.strerror}; it must lie on a bpffs "
            "(mount -t bpf bpf /sys/fs/bpf)"
        ) from error


def pin_again(directory: Path, descriptors: Mapping[str, int]) -> None:
    """Pin these in `directory`, each in the place of what has its name there.

    Raises:
        DataplaneError: the folder is not on a bpffs, or cannot be written.

    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, descriptor in descriptors.items():
            (directory / name).unlink(missing_ok=True)
            bpf_syscall.obj_pin(descriptor, directory / name)
    except OSError as error:
        raise DataplaneError(f"cannot pin under {directory}: {error.strerror}") from error
