"""The few system calls that Python 3.10 has no function for.

A network namespace belongs to a thread, not to a process: `setns` and `unshare` here change the
calling thread alone (namespaces(7)), and what that thread forks starts where it stands.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 0x2


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare_network() -> None:
    """Put the calling thread into a network namespace of its own, a new one."""
    _check(_libc().unshare(CLONE_NEWNET), "unshare")


def enter_network(descriptor: int) -> None:
    """Put the calling thread into the network namespace that a descriptor refers to."""
    _check(_libc().setns(descriptor, CLONE_NEWNET), "setns")


def mount(source: str, target: Path, kind: str = "", flags: int = 0) -> None:
    """Make a file system, or an existing file with MS_BIND, appear at `target`."""
    result = _libc().mount(source.encode(), os.fsencode(target), kind.encode(), flags, None)
    _check(result, str(target))


def unmount(target: Path) -> None:
    """Unmount lazily: what is in use goes when its last user goes, umount2(2)."""
    _check(_libc().umount2(os.fsencode(target), MNT_DETACH), str(target))
