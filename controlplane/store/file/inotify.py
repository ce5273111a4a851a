"""Waiting for files to change: ``inotify(7)``, as much of it as a store needs.

The standard library has no inotify; three calls into libc are less than another dependency.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
from pathlib import Path

from controlplane.store.contract import StoreUnavailable

IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
_IN_ONLYDIR = 0x01000000

_BUFFER_BYTES = 65536


class Inotify:
    """Notices when entries of directories appear, are replaced or vanish.

    The content of events is ignored: the caller looks at the directories. A queue overflow is an
    event too, so no change is missed. Raises ``OSError`` and ``StoreUnavailable``.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise StoreUnavailable(
                f"no inotify instance: {os.strerror(ctypes.get_errno())}; "
                "raise the sysctl fs.inotify.max_user_instances"
            )
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def add(self, directory: Path, events: int) -> None:
        """Watch a directory, once or again. ``FileNotFoundError`` if it does not exist."""
        path = os.fsencode(directory)
        if self._libc.inotify_add_watch(self._descriptor, path, events | _IN_ONLYDIR) >= 0:
            return
        code = ctypes.get_errno()
        if code == errno.ENOSPC:
            raise StoreUnavailable(
                "no inotify watch left; raise the sysctl fs.inotify.max_user_watches"
            )
        raise OSError(code, os.strerror(code), str(directory))

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for an event since the last call; return whether there was one."""
        happened = bool(self._poll.poll(max(0.0, timeout_seconds) * 1000))
        if happened:
            self._drain()
        return happened

    def _drain(self) -> None:
        try:
            while len(os.read(self._descriptor, _BUFFER_BYTES)) > _BUFFER_BYTES // 2:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)
