"""Files that are whole or absent: temporary files, exclusive links, locks, bounded reads.

All disk access of a store goes through this module, so durability is decided here. A file is
written under a temporary name in a directory for such files, flushed if it must be durable, and
then gets its real name in one step: by ``link(2)``, which refuses a name that is taken, or by
``rename(2)``, which replaces it. Local file systems only: ``flock`` and ``inotify`` do not reach
other machines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.store.contract import StoreCorrupt, StoreDenied, StoreError, StoreUnavailable

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
STALE_TEMPORARY_SECONDS = 60.0
"""A temporary file this old that nobody has locked belongs to a dead writer. The lock protects it
from a clock that was stepped, the age protects what earlier versions write without a lock."""

_LOCK_RETRY_SECONDS = 0.002


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Turn an ``OSError`` inside the context into the ``StoreError`` that it means."""
    try:
        yield
    except OSError as error:
        raise _translated(error, action) from error


def _translated(error: OSError, action: str) -> StoreError:
    where = f" ({error.filename})" if error.filename else ""
    line = f"{action}: {error.strerror or error}{where}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return StoreDenied(f"{line}; run as the owner of the directory, usually root")
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP):
        return StoreCorrupt(f"{line}; something else is in the place of the store's files")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreUnavailable(f"{line}; free space on the disk")
    return StoreUnavailable(line)


def make_directory(path: Path) -> None:
    """Make a directory for the owner alone, parents included; durable once this returns."""
    if path.is_dir():
        return
    if path.parent != path:
        make_directory(path.parent)
    try:
        path.mkdir(PRIVATE_DIRECTORY)
    except FileExistsError:
        if not path.is_dir():
            raise
    sync_directory(path.parent)


def names_in(directory: Path) -> list[str]:
    """Return the names of a directory's entries, sorted. Raises ``FileNotFoundError``."""
    return sorted(entry.name for entry in os.scandir(directory))


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to the disk: earlier names survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary(
    directory: Path, data: bytes, *, durable: bool, mode: int = PRIVATE_FILE
) -> Iterator[Path]:
    """Yield a new file with this content, gone after the context unless renamed in it."""
    path = directory / secrets.token_hex(8)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # a sweeper sees that its writer lives
        _write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
        yield path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def replace_file(
    path: Path, data: bytes, temporaries: Path, *, durable: bool, mode: int = PRIVATE_FILE
) -> None:
    """Put ``data`` at ``path`` in one step, replacing it. Readers see the old or the new file."""
    with temporary(temporaries, data, durable=durable, mode=mode) as fresh:
        fresh.rename(path)
    if durable:
        sync_directory(path.parent)


def create_file(path: Path, data: bytes, temporaries: Path) -> None:
    """Put ``data`` at ``path`` in one step, durably. ``FileExistsError`` if it exists."""
    with temporary(temporaries, data, durable=True) as fresh:
        os.link(fresh, path, follow_symlinks=False)
    sync_directory(path.parent)


def remove_file(path: Path, *, durable: bool) -> None:
    """Remove a file if it exists."""
    path.unlink(missing_ok=True)
    if durable:
        sync_directory(path.parent)


def sweep_temporaries(directory: Path, now: float) -> None:
    """Remove the files of dead writers. ``now`` is in Unix seconds."""
    for path in map(directory.joinpath, names_in(directory)):
        try:
            old = now - path.lstat().st_mtime > STALE_TEMPORARY_SECONDS
            if old and not _is_being_written(path):
                path.unlink()
        except FileNotFoundError:  # its writer finished, or another process removed it
            continue


def _is_being_written(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # not a writer's file
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return a regular file's content. ``StoreCorrupt`` beyond the limit or for anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StoreCorrupt(f"{path} is not a regular file; remove it")
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise StoreCorrupt(f"{path} is larger than {limit_bytes} bytes; remove it")
    return data


def refuse_lax(path: Path, forbidden_mode: int, remedy_mode: str) -> None:
    """Raise ``StoreDenied`` if the mode of ``path`` has a bit of ``forbidden_mode``.

    ``path`` must belong to this user or to root, and must not be a symbolic link.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise StoreDenied(f"{path} is a symbolic link: name its target")
    if status.st_uid not in (0, os.geteuid()):
        raise StoreDenied(f"{path} belongs to user {status.st_uid}: chown it to root")
    if stat.S_IMODE(status.st_mode) & forbidden_mode:
        raise StoreDenied(
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}): "
            f"chmod {remedy_mode} {path}"
        )


@contextmanager
def file_lock(path: Path, operation: int, wait_seconds: float) -> Iterator[int]:
    """Hold a ``flock`` (``LOCK_SH`` or ``LOCK_EX``) on ``path``; yields its descriptor.

    Raises ``BlockingIOError`` if it is not free within ``wait_seconds``. The kernel releases it
    when its holder dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    deadline = time.monotonic() + wait_seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_LOCK_RETRY_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)
