"""The root program array, the only map that outlives the agent that made it.

Other people's programs are loaded with this array and call through it, so a new agent uses the one
that it finds pinned. The agent's only program in it is the forwarder, in one slot.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall

NAME = "lb_root_slots"
DEFINE = "LB_ROOT_FD"
"""The macro that the sources use for its descriptor."""
WORD = 4
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL)
"""No such pin; no bpffs."""
XDP_PASS = 2
TAIL_CALL = 12


@dataclass(frozen=True)
class RootArray:
    """A descriptor of an array, which the owner closes, and the programs that it accepts.

    Linux 6.18 accepts only programs of one `expected_attach_type` in an array: that of the first
    which was loaded with it. Earlier kernels do not check.
    """

    fd: int
    xdp_attach_type: int


def create_root() -> int:
    """Create an array; the kernel empties it with the last descriptor and pin."""
    kind = bpf_syscall.MAP_TYPE_PROG_ARRAY
    return bpf_syscall.map_create(kind, WORD, WORD, abi.Slot.COUNT, name=NAME)


def find_root(pins: Sequence[Path], xdp_attach_types: Sequence[int]) -> RootArray | None:
    """Open the first of some pins that is an array which this version can use.

    One of another shape is skipped, and so is one that accepts programs of none of these types:
    another version has left it, or the same version with another bcc.

    Raises:
        DataplaneError: a pin cannot be opened, or the kernel does not let us try.

    """
    for pin in pins:
        try:
            fd = bpf_syscall.obj_get(pin)
        except OSError as error:
            if error.errno in NOT_THERE:
                continue
            raise DataplaneError(f"cannot open {pin}: {error.strerror}") from error
        try:
            fitting = fitting_type(fd, xdp_attach_types)
        except BaseException:
            os.close(fd)
            raise
        if fitting is not None:
            return RootArray(fd, fitting)
        os.close(fd)
    return None


def fitting_type(array: int, xdp_attach_types: Sequence[int]) -> int | None:
    """Return the first type with which a program can call through an array; None: with none.

    Raises:
        DataplaneError: the kernel does not let us try.

    """
    info = bpf_syscall.map_info(array)
    shape = (info.map_type, info.key_size, info.value_size, info.max_entries, info.flags)
    if shape != (bpf_syscall.MAP_TYPE_PROG_ARRAY, WORD, WORD, int(abi.Slot.COUNT), 0):
        return None  # not as `create_root` creates it
    return next((kind for kind in xdp_attach_types if _takes(array, kind)), None)


def _takes(array: int, xdp_attach_type: int) -> bool:
    """Try: load a program that would call through the array."""
    code = (
        bpf_syscall.instruction(0x18, 2 | bpf_syscall.PSEUDO_MAP_FD << 4, array)  # r2 = array
        + bpf_syscall.instruction(0)
        + bpf_syscall.instruction(0xB7, 3, abi.Slot.FORWARDER)  # r3 = slot
        + bpf_syscall.instruction(0x85, 0, TAIL_CALL)
        + bpf_syscall.instruction(0xB7, 0, XDP_PASS)
        + bpf_syscall.instruction(0x95)
    )
    try:
        fd = bpf_syscall.prog_load(
            bpf_syscall.PROG_TYPE_XDP,
            code,
            name="lb_probe",
            expected_attach_type=xdp_attach_type,
        )
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise DataplaneError(
            f"cannot try what the root program array takes: {error.strerror}; this needs root "
            "(CAP_BPF, CAP_NET_ADMIN), free memory, and a kernel that is not locked down"
        ) from error
    os.close(fd)
    return True


def put_program(array: int, slot: int, program: int) -> None:
    """Put a program into a slot; a packet meets either the old one or the new one."""
    bpf_syscall.map_update(array, slot, program.to_bytes(WORD, "little"))


def program_in(array: int, slot: int) -> int | None:
    """Return the id of the program in a slot."""
    try:
        return int.from_bytes(bpf_syscall.map_lookup(array, slot, WORD), "little")
    except FileNotFoundError:
        return None


def uses_map(program: int, map_fd: int) -> bool:
    """Whether the program of an id is loaded, and uses a map."""
    try:
        fd = bpf_syscall.prog_fd_by_id(program)
    except FileNotFoundError:
        return False
    with bpf_syscall.closing(fd):
        return bpf_syscall.map_info(map_fd).map_id in bpf_syscall.prog_map_ids(fd)


@contextmanager
def replaced(array: int, slot: int, program: int) -> Iterator[None]:
    """Put a program into a slot, in one step; put the old one back if the block fails."""
    with ExitStack() as stack:
        before = program_in(array, slot)
        old = None
        if before is not None:
            old = stack.enter_context(bpf_syscall.closing(bpf_syscall.prog_fd_by_id(before)))
        put_program(array, slot, program)
        try:
            yield
        except BaseException:
            if old is None:
                bpf_syscall.map_delete(array, slot)
            else:
                put_program(array, slot, old)
            raise
