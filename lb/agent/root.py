"""The root program array: other people's XDP programs before and after the forwarder.

The attached program looks into an array that is pinned as ``<bpffs>/<interface>/root``;
docs/running.md tells what its slots are for. The kernel empties such an array when nobody holds or
pins it, so the pin stays for as long as a program is attached, and each new agent takes the same
array: others' programs jump through it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lb.abi import Slot
from lb.agent import bpffs
from lb.agent.programs import ProgramInfo, describe_program
from lb.dataplane import bpf_syscall
from lb.dataplane.root_array import NOT_THERE

ROOT = "root"
FOREIGN_SLOTS = (Slot.BEFORE, Slot.BEFORE_2, Slot.AFTER, Slot.AFTER_2)
ID_BYTES = 4


def root_pins(base: Path, interface: str) -> tuple[Path, ...]:
    """Return where an interface's array may be pinned, after an agent that died at work as well."""
    return tuple(directory / ROOT for directory in bpffs.pin_directories(base, interface))


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
