"""XDP programs of a few instructions, assembled here: other people's, beside the forwarder."""

from __future__ import annotations

import ctypes
import struct

from lb.dataplane import bpf_syscall

PROG_LOAD = 5
XDP = 6
TAIL_CALL = 12
MOVE, LOAD_64, CALL, EXIT = 0xB7, 0x18, 0x85, 0x95
PSEUDO_MAP_FD = 1


def _instruction(code: int, registers: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, 0, immediate)


def _load(code: bytes, name: str) -> int:
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    attribute = struct.pack(
        "=IIQQIIQII16s",
        *(XDP, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence)),
        *(0, 0, 0, 0, 0, name.encode()),
    )
    return bpf_syscall.bpf(PROG_LOAD, ctypes.create_string_buffer(attribute, len(attribute)))


def returns(verdict: int) -> int:
    """Load a program that gives every packet one verdict."""
    return _load(_instruction(MOVE, 0, verdict) + _instruction(EXIT), "always")


def goes_on(array: int, slot: int, verdict: int) -> int:
    """Load a program that jumps to a slot of an array; with a verdict if nothing is there."""
    return _load(
        _instruction(LOAD_64, 2 | PSEUDO_MAP_FD << 4, array)
        + _instruction(0)
        + _instruction(MOVE, 3, slot)
        + _instruction(CALL, 0, TAIL_CALL)
        + _instruction(MOVE, 0, verdict)
        + _instruction(EXIT),
        "goes_on",
    )
