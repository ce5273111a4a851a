"""The root program array, the only map that outlives the agent that made it.

Other people's programs are loaded with this array and jump through it, so a new agent takes the one
that it finds pinned. Nothing of an agent's is in it but the forwarder, in one slot.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from lb import abi
from lb.dataplane import bpf_syscall
from lb.dataplane.bpf_syscall import MapInfo
from lb.dataplane.errors import DataplaneError

NAME = "lb_root_slots"
DEFINE = "LB_ROOT_FD"
"""What the sources call its descriptor."""
WORD = 4
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL)
"""No such pin; no bpffs."""


def create_root() -> int:
    """Make an array; the kernel empties it when nobody holds or pins it any more."""
    kind = bpf_syscall.MAP_TYPE_PROG_ARRAY
    return bpf_syscall.map_create(kind, WORD, WORD, abi.Slot.COUNT, name=NAME)


def is_root(info: MapInfo) -> bool:
    """Whether a map is an array as `create_root` makes it."""
    found = (info.map_type, info.key_size, info.value_size, info.max_entries, info.flags)
    return found == (bpf_syscall.MAP_TYPE_PROG_ARRAY, WORD, WORD, int(abi.Slot.COUNT), 0)


def find_root(pins: Sequence[Path]) -> int | None:
    """Open the array that is pinned at the first of these paths where something is.

    Raises:
        DataplaneError: that is something else.

    """
    for pin in pins:
        try:
            fd = bpf_syscall.obj_get(pin)
        except OSError as error:
            if error.errno in NOT_THERE:
                continue
            raise DataplaneError(f"cannot open {pin}: {error.strerror}") from error
        if is_root(bpf_syscall.map_info(fd)):
            return fd
        os.close(fd)
        raise DataplaneError(
            f"{pin} is no array of {int(abi.Slot.COUNT)} programs as this version has it: remove it "
            f"(rm {pin}; what others have put into it does not run any more), then lbctl up"
        )
    return None


def put_program(array: int, slot: int, program: int) -> None:
    """Put a program into a slot: packets find the old one there or the new."""
    bpf_syscall.map_update(array, slot, program.to_bytes(WORD, "little"))
