"""Pins: a folder of a bpffs that appears complete or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the kernel cannot do that in a bpffs."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    )
    return int(result) == 0


def remove_pins(directory: Path) -> None:
    """Remove a folder of pins; what is attached stays attached."""
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)


def pin_all(directory: Path, descriptors: Mapping[str, int]) -> None:
    """Pin everything under `directory`, replacing the pins of an earlier run.

    Raises:
        DataplaneError: the folder is not on a bpffs, or cannot be written.

    """
    fresh = directory.with_name(f"{directory.name}-new-{os.getpid()}")  # a bpffs refuses dots
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        remove_pins(fresh)
        fresh.mkdir(mode=0o700)
        for name, fd in descriptors.items():
            bpf_syscall.obj_pin(fd, fresh / name)
        _put_in_place(fresh, directory)
    except OSError as error:
        with suppress(OSError):
            remove_pins(fresh)
        raise DataplaneError(
            f"cannot pin under {directory}: {error.strerror}; it must lie on a bpffs "
            "(mount -t bpf bpf /sys/fs/bpf)"
        ) from error


def _put_in_place(fresh: Path, directory: Path) -> None:
    if not directory.exists():
        fresh.rename(directory)
    elif exchange(fresh, directory):
        remove_pins(fresh)
    else:
        remove_pins(directory)
        fresh.rename(directory)
