"""At most one agent for each network namespace and interface.

The lock is an abstract unix socket (unix(7)): its name is known in one network namespace only, it
leaves no file, and it goes with the process that holds it, however that ends. Another process
learns the holder's process id from the kernel (SO_PEERCRED), not from a file.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError, ExitCode

CREDENTIALS = struct.Struct("=iII")
RELEASE_SECONDS = 2.0
"""For how long a name may be taken although nobody answers: its holder is just ending."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock; pid 0 if it is in another pid namespace."""

    pid: int
    uid: int

    def __str__(self) -> str:
        return f"process {self.pid}" if self.pid else "a process of another container"


def _address(role: str, interface: str) -> bytes:
    return b"\0" + f"bucket-brigade/{role}/{interface}".encode()


def find_holder(interface: str, role: str = "agent") -> Holder | None:
    """Return who holds the lock of this interface in this network namespace, if anyone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(_address(role, interface))
        except ConnectionRefusedError:
            return None
        except (TimeoutError, BlockingIOError):
            return Holder(0, 0)
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _gid = CREDENTIALS.unpack(raw)
    return Holder(pid, uid)


@contextmanager
def interface_lock(interface: str, role: str = "agent") -> Iterator[None]:
    """Hold the lock while the block runs.

    Raises:
        BrigadeError: another process holds it; the line names that process.

    """
    deadline = time.monotonic() + RELEASE_SECONDS
    while (listener := _bind(interface, role)) is None:
        holder = find_holder(interface, role)
        if holder is not None and holder.uid not in (os.getuid(), 0):
            # Any user can take the name; systemd must try again when that process is gone.
            raise BrigadeError(
                f"the lock of interface {interface} is held by {holder} of user id {holder.uid}, "
                "which cannot be an agent: end that process",
                ExitCode.FAILED,
            )
        if holder is not None or time.monotonic() >= deadline:
            raise BrigadeError(
                f"interface {interface} belongs to {holder or 'a process that just ended'}, which "
                f"runs `lbctl {'up' if role == 'agent' else role}` already: end that one first",
                ExitCode.REFUSED,
            )
        time.sleep(0.01)
    thread = threading.Thread(target=_answer, args=(listener,), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that answers
        thread.join()  # while it is in accept(), the kernel keeps the name
        listener.close()


def _bind(interface: str, role: str) -> socket.socket | None:
    """Take the name; None if it is taken, also by a process that is just ending."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_address(role, interface))
        listener.listen(16)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return listener


def _answer(listener: socket.socket) -> None:
    """Accept and close connections: the kernel has given the other side our process id."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed: the lock is given back
            return
        connection.close()
