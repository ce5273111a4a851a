"""The directories for pins, on a BPF file system that is mounted if necessary.

A mount of ours is called ``bucket-brigade`` (the source column of mountinfo), so that the last
agent knows that it has to unmount it, whatever was recorded. Agents of several namespaces share one
mount: each step is taken under a lock on the directory of the mount point.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from controlplane.domain.errors import BrigadeError

USUAL_MOUNT = Path("/sys/fs/bpf")
SOURCE = "bucket-brigade"
MNT_DETACH = 2
AT_FDCWD = -100
RENAME_EXCHANGE = 2
FORWARDER = "forwarder"
REDIRECTOR = "redirector"
EGRESS = "egress"
TRACED_FORWARDER = "traced_forwarder"
TRACED_REDIRECTOR = "traced_redirector"
FORWARDERS = (FORWARDER, TRACED_FORWARDER)
REDIRECTORS = (REDIRECTOR, TRACED_REDIRECTOR)
"""Pins of programs that may be attached: during `lbctl trace` the latter."""


def pin_name(interface: str) -> str:
    """Return an interface's directory name: bpffs allows no dots (``eth0.100`` -> ``eth0~100``)."""
    return interface.replace(".", "~")


def mounts() -> dict[Path, str]:
    """Return the bpffs mounts of this mount namespace: mount point -> source."""
    found: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        head, _, tail = line.partition(" - ")
        kind, source, *_ = tail.split(" ")
        if kind == "bpf":
            found[Path(head.split(" ")[4].encode().decode("unicode_escape"))] = source
    return found


def mount_point(base: Path, mounted: dict[Path, str]) -> Path:
    """Return the mount point of the bpffs with ``base``, or of one to be mounted for it."""
    for candidate in (base, *base.parents):
        if candidate in mounted:
            return candidate
    return USUAL_MOUNT if base.is_relative_to(USUAL_MOUNT) else base


def missing_directories(base: Path) -> tuple[Path, ...]:
    """Return the directories above and including ``base`` that do not exist, outermost first."""
    missing = [path for path in (base, *base.parents) if not path.exists()]
    return tuple(reversed(missing))


def prepare(base: Path) -> None:
    """Make ``base`` a directory on a bpffs."""
    point = mount_point(base, mounts())
    try:
        if point not in mounts():
            point.mkdir(parents=True, exist_ok=True)
        with _locked(point.parent):
            if point not in mounts():
                _call("mount", SOURCE.encode(), os.fsencode(point), b"bpf", 0, b"mode=0700")
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BrigadeError(
            f"cannot make {base} on a BPF file system: {error.strerror}; "
            f"mount one: mount -t bpf bpf {point}"
        ) from error


def leftovers(base: Path, interface: str) -> tuple[Path, ...]:
    """Return the directories of agents that are starting, or were killed while they did.

    The kernel refuses colons in names of interfaces: no other interface can have such a name.
    """
    try:
        entries = sorted(base.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
    return tuple(entry for entry in entries if entry.name.startswith(f"{pin_name(interface)}:"))


def pin_directories(base: Path, interface: str) -> tuple[Path, ...]:
    """Return the directory of an interface's pins, then those of agents that were killed."""
    return (base / pin_name(interface), *leftovers(base, interface))


def fresh_directory(base: Path, interface: str) -> Path:
    """Make and return an empty directory for a new agent's pins, beside all that are there.

    The pins that a killed agent has left may be the only ones of a program that is attached.
    """
    for number in count():
        directory = base / f"{pin_name(interface)}:{number}"
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            return directory
    raise AssertionError("count() has ended")


def swap_in(base: Path, interface: str, fresh: Path) -> Path:
    """Replace the old pins by the new ones, then remove all others.

    In one step, from Linux 5.16. Before that a process that is killed between two leaves no pins
    under the usual name, but all of them under another.
    """
    usual = base / pin_name(interface)
    if not usual.exists():
        fresh.rename(usual)
    elif not exchange(fresh, usual):
        usual.rename(fresh.with_name(f"{fresh.name}-old"))
        fresh.rename(usual)
    for directory in leftovers(base, interface):
        remove_pins(directory)
    return usual


def exchange(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; False if the kernel cannot do that in a bpffs."""
    paths = AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other)
    try:
        _call("renameat2", *paths, RENAME_EXCHANGE)
    except OSError:
        return False
    return True


def remove_pins(directory: Path, kept: Path | None = None) -> None:
    """Remove a directory of pins and all in it but ``kept``, if it is there."""
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        if entry.is_dir():
            remove_pins(entry, kept)
        elif entry != kept:
            entry.unlink()
    if kept is None or directory not in kept.parents:
        directory.rmdir()


def clean(base: Path, interface: str, made: tuple[Path, ...], kept: Path | None = None) -> None:
    """Remove an interface's pins, then ``base`` and its mount unless somebody else uses them."""
    for directory in reversed(pin_directories(base, interface)):
        remove_pins(directory, kept)
    point = mount_point(base, mounts())
    if point in mounts():
        with _locked(point.parent):
            _remove_empty(base, point, made)
            if mounts().get(point) == SOURCE and not _in_use(point):
                _call("umount2", os.fsencode(point), MNT_DETACH)
    for directory in reversed(made):
        if directory.is_dir() and directory not in mounts() and not any(directory.iterdir()):
            directory.rmdir()


def _remove_empty(base: Path, point: Path, made: tuple[Path, ...]) -> None:
    """Remove ``base`` and the directories up to its mount point, if they are empty and ours.

    Ours are those recorded, and one of our name: another agent may have made that.
    """
    for directory in (base, *base.parents):
        if directory == point or not directory.is_dir() or any(directory.iterdir()):
            return
        if directory not in made and directory.name != SOURCE:
            return
        directory.rmdir()


def _in_use(point: Path) -> bool:
    """Whether anybody has pins there; the kernel's own files have dots, which pins cannot have."""
    return any("." not in entry.name for entry in point.iterdir())


@contextmanager
def swapping(base: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock on what is attached and pinned under ``base``, if that exists.

    Without ``wait``, ``BlockingIOError`` if another process holds it.
    """
    if not base.is_dir():
        yield
        return
    with _locked(base, wait=wait):
        yield


@contextmanager
def _locked(directory: Path, *, wait: bool = True) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _call(name: str, *arguments: bytes | int) -> None:
    """Call a function of libc. ``OSError`` if it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
