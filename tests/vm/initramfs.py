"""The little file system that a kernel boots with: busybox, a few modules, and `init.sh`.

Written as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst), so that
neither root's device files nor a cpio program are needed. Nothing here touches the machine.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

FOLDERS = ("bin", "modules", "proc", "sys", "dev", "kernel", "root", "bcc", "layer", "new")
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
FILE, FOLDER = 0o100755, 0o40755
ALIGNMENT = 4


def read_dependencies(text: str) -> dict[str, tuple[str, list[str]]]:
    """Read `modules.dep`: a module's name -> its file, and the files it needs, nearest first."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        path, _, needed = line.partition(":")
        found[PurePosixPath(path).name.partition(".")[0]] = (path, needed.split())
    return found


def load_order(
    dependencies: Mapping[str, tuple[str, list[str]]], names: Sequence[str]
) -> list[str]:
    """Return the files of modules with all they need, each after what it needs.

    A module that is not listed is taken for a built-in one.
    """
    order: list[str] = []
    for name in names:
        path, needed = dependencies.get(name, ("", []))
        order += [p for p in (*reversed(needed), path) if p and p not in order]
    return order


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def entry(name: str, mode: int, data: bytes = b"", inode: int = 0) -> bytes:
    """Return one file or folder in the format "newc"."""
    raw = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + raw) + _padded(data)


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of the folders that `init.sh` needs and of these files, all executable."""
    parts = [entry(name, FOLDER, inode=n) for n, name in enumerate(FOLDERS, start=1)]
    parts += [
        entry(name, FILE, data, inode=n)
        for n, (name, data) in enumerate(files.items(), start=len(FOLDERS) + 1)
    ]
    return b"".join([*parts, entry("TRAILER!!!", 0)])


def unpacked(module: Path) -> bytes:
    """Read a module; what is compressed is unpacked, since busybox cannot."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def build(modules: Path, busybox: Path, init: Path) -> bytes:
    """Build the archive for a kernel whose modules lie under ``modules``."""
    dependencies = read_dependencies((modules / "modules.dep").read_text(encoding="ascii"))
    files = {"init": init.read_bytes(), "bin/busybox": busybox.read_bytes()}
    for number, path in enumerate(load_order(dependencies, BOOT_MODULES)):
        files[f"modules/{number:02}.ko"] = unpacked(modules / path)
    return archive(files)
