"""BPF by system call: small programs, and the ids of loaded programs and maps.

This module does not use bcc, so that a network can be built without it. The numbers are from
include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

from netns.errors import NetworkError

BPF_PROG_LOAD = 5
BPF_PROG_GET_NEXT_ID = 11
BPF_MAP_GET_NEXT_ID = 12
BPF_PROG_TYPE_XDP = 6
BPF_XDP = 37
SYSCALL = {"x86_64": 321, "aarch64": 280}

XDP_PASS = 2
MOVE_TO_R0 = 0xB7
EXIT = 0x95
PASS_ALL = struct.pack("<BBhi", MOVE_TO_R0, 0, 0, XDP_PASS) + struct.pack("<BBhi", EXIT, 0, 0, 0)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = SYSCALL.get(platform.machine())
    if number is None:
        raise NetworkError(f"unknown number of the bpf system call on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, command, attributes, len(attributes)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"bpf({command})")
    return result


def load_pass_all() -> int:
    """Load an XDP program that passes every packet, and return its descriptor."""
    return load_xdp(PASS_ALL, "bb_pass_all")


def load_xdp(instructions: bytes, name: str) -> int:
    """Load an XDP program as libbpf does; `instructions` are `struct bpf_insn`s."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"Dual BSD/GPL")
    attributes = struct.pack(
        "<IIQQIIQII16sII",
        BPF_PROG_TYPE_XDP,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,  # log level
        0,  # log size
        0,  # log buffer
        0,  # kernel version
        0,  # program flags
        name.encode(),
        0,  # network device
        BPF_XDP,
    )
    return _bpf(BPF_PROG_LOAD, ctypes.create_string_buffer(attributes, len(attributes)))


def program_ids() -> frozenset[int]:
    """Return the ids of all BPF programs that are loaded, in every namespace."""
    return frozenset(_ids(BPF_PROG_GET_NEXT_ID))


def map_ids() -> frozenset[int]:
    """Return the ids of all BPF maps, in every namespace."""
    return frozenset(_ids(BPF_MAP_GET_NEXT_ID))


def _ids(command: int) -> Iterator[int]:
    found = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("<III", found, 0, 0), 12)
        try:
            _bpf(command, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        found = struct.unpack_from("<I", attributes.raw, 4)[0]
        yield found
