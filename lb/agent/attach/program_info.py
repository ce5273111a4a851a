"""Describes BPF programs: by id, by pin, without bcc."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from lb.dataplane.load import bpf_syscall


@dataclass(frozen=True)
class ProgramInfo:
    """A loaded program: its id (never used twice in one boot) and its name (15 characters)."""

    id: int
    name: str

    def __str__(self) -> str:
        return f"{self.name or 'nameless'} (id {self.id})"


def open_program(program_id: int) -> AbstractContextManager[int]:
    """Hold a descriptor of a loaded program. ``FileNotFoundError`` if there is none of this id."""
    return bpf_syscall.closing(bpf_syscall.prog_fd_by_id(program_id))


def open_pin(path: Path) -> AbstractContextManager[int]:
    """Hold a descriptor of a pinned program or map."""
    return bpf_syscall.closing(bpf_syscall.obj_get(path))


def program_info(descriptor: int) -> ProgramInfo:
    """Return the kernel's description of a program."""
    info = bpf_syscall.prog_info(descriptor)
    return ProgramInfo(info.prog_id, info.name)


def describe_program(program_id: int) -> ProgramInfo:
    """Return a loaded program's info; without a name if it is gone."""
    try:
        with open_program(program_id) as descriptor:
            return program_info(descriptor)
    except FileNotFoundError:
        return ProgramInfo(program_id, "")


def pinned_program(path: Path) -> ProgramInfo | None:
    """Return the program pinned at ``path``; ``None`` if there is no pin, or no bpffs."""
    try:
        with open_pin(path) as descriptor:
            return program_info(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EINVAL):
            return None
        raise


def pinned_ids(directories: Iterable[Path], names: Collection[str]) -> frozenset[int]:
    """Return the ids of the programs that are pinned under these names."""
    found = (pinned_program(directory / name) for directory in directories for name in names)
    return frozenset(program.id for program in found if program is not None)
