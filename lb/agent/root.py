"""The root program array: other people's XDP programs before and after the forwarder.

The attached program looks into an array that is pinned as ``<bpffs>/<interface>/root``;
docs/running.md tells what its slots are for. The kernel empties such an array when nobody holds or
pins it, so the pin stays for as long as the program is attached. A new agent brings an array of its
own, into which it puts what others had put into the old one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog

from lb.abi import Slot
from lb.agent.programs import ProgramInfo, describe_program, open_program
from lb.dataplane import bpf_syscall

ROOT = "root"
FOREIGN_SLOTS = (Slot.BEFORE, Slot.BEFORE_2, Slot.AFTER, Slot.AFTER_2)
ID_BYTES = 4
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL)
"""No such pin; no bpffs."""


@contextmanager
def _opened(pin: Path) -> Iterator[int | None]:
    """Hold the array that is pinned at a path, ``None`` if there is none."""
    try:
        descriptor = bpf_syscall.obj_get(pin)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _program_in(array: int, slot: Slot) -> int | None:
    """Return the id of the program in a slot."""
    try:
        raw = bpf_syscall.map_lookup(array, slot, ID_BYTES)
    except FileNotFoundError:
        return None
    return int.from_bytes(raw, "little")


def foreign_programs(pin: Path) -> Mapping[Slot, ProgramInfo]:
    """Return what others have put into the slots of a pinned array, by slot."""
    with _opened(pin) as array:
        if array is None:
            return {}
        found = {slot: _program_in(array, slot) for slot in FOREIGN_SLOTS}
    return {slot: describe_program(number) for slot, number in found.items() if number is not None}


def carry_over(old: Path, new: Path) -> Mapping[Slot, ProgramInfo]:
    """Put what others have in the slots of the old array into the new one's; return what that was.

    A program that the kernel refuses there is left out, and said to be.
    """
    carried: dict[Slot, ProgramInfo] = {}
    for slot, program in foreign_programs(old).items():
        try:
            with open_program(program.id) as descriptor, _opened(new) as array:
                if array is None:
                    continue
                bpf_syscall.map_update(array, slot, descriptor.to_bytes(ID_BYTES, "little"))
        except OSError as error:
            structlog.get_logger().warning(
                "a program does not come along into the new root array",
                slot=int(slot),
                program=str(program),
                reason=error.strerror,
            )
            continue
        carried[slot] = program
    return carried
