"""System calls without a function in Python (`os.setns` and `os.unshare` are new in 3.12).

A network namespace belongs to a thread, not to a process: `setns` and `unshare` here change the
calling thread only (namespaces(7)). A process that this thread starts is in the same namespace.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x100000
MNT_DETACH = 0x2


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare_network() -> None:
    """Put the calling thread into a new network namespace."""
    _check(_libc().unshare(CLONE_NEWNET), "unshare")


def enter_network(descriptor: int) -> None:
    """Put the calling thread into the network namespace of a file descriptor."""
    _check(_libc().setns(descriptor, CLONE_NEWNET), "setns")


def mount(source: str, target: Path, kind: str = "", flags: int = 0) -> None:
    """Mount a file system, or an existing file with MS_BIND, at `target`."""
    result = _libc().mount(source.encode(), os.fsencode(target), kind.encode(), flags, None)
    _check(result, str(target))


def unmount(target: Path) -> None:
    """Unmount lazily: the file system stays until its last user has closed it, umount2(2)."""
    _check(_libc().umount2(os.fsencode(target), MNT_DETACH), str(target))
