"""The commands of bpf(2) that the project needs, typed: maps, pins, information, test runs.

The attribute layouts are those of `union bpf_attr` in <linux/bpf.h>. Every function raises OSError
with the kernel's errno; file descriptors are plain integers, close-on-exec, owned by the caller.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280}

MAP_CREATE = 0
MAP_LOOKUP_ELEM = 1
MAP_UPDATE_ELEM = 2
MAP_DELETE_ELEM = 3
PROG_LOAD = 5
OBJ_PIN = 6
OBJ_GET = 7
PROG_TEST_RUN = 10
PROG_GET_FD_BY_ID = 13
MAP_GET_FD_BY_ID = 14
OBJ_GET_INFO_BY_FD = 15
PROG_QUERY = 16
MAP_LOOKUP_BATCH = 24

MAP_TYPE_ARRAY = 2
MAP_TYPE_PROG_ARRAY = 3
MAP_TYPE_RINGBUF = 27

PROG_TYPE_XDP = 6
ATTACH_TYPE_XDP = 37
ATTACH_TYPE_TCX_INGRESS = 46
PSEUDO_MAP_FD = 1

F_MMAPABLE = 1 << 10

NAME_LEN = 16
INSTRUCTION_BYTES = 8
MOST_ATTACHED = 64
"""BPF_MPROG_MAX: programs on one hook, at most."""
PROG_INFO_LEN = 232
PROG_INFO_MAPS = 52
MAP_INFO_LEN = 88


@dataclass(frozen=True)
class MapInfo:
    """The kernel's description of a map."""

    map_type: int
    map_id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@dataclass(frozen=True)
class ProgInfo:
    """The kernel's description of a program; `verified` is 0 before Linux 5.16."""

    prog_type: int
    prog_id: int
    tag: bytes
    jited_bytes: int
    instructions: int
    name: str
    verified: int


@dataclass(frozen=True)
class TestRun:
    """The result of BPF_PROG_TEST_RUN: verdict, packet, mean nanoseconds, context."""

    __test__ = False

    retval: int
    data: bytes
    duration_ns: int
    context: bytes


_libc = ctypes.CDLL(None, use_errno=True)


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return ctypes.addressof(buffer) if buffer is not None else 0


def _number() -> int:
    machine = platform.machine()
    if machine not in SYSCALL_NUMBERS:
        raise OSError(errno.ENOSYS, f"bpf(2) has no known number on {machine}")
    return SYSCALL_NUMBERS[machine]


def bpf(command: int, attribute: ctypes.Array[ctypes.c_char]) -> int:
    """Make one call of bpf; the kernel may write into the attribute."""
    while True:
        result = int(
            _libc.syscall(
                ctypes.c_long(_number()),
                ctypes.c_int(command),
                attribute,
                ctypes.c_uint(len(attribute)),
            )
        )
        if result >= 0:
            return result
        number = ctypes.get_errno()
        # EAGAIN: the verifier was interrupted by a signal; test runs report EINTR
        if number not in {errno.EINTR, errno.EAGAIN}:
            raise OSError(number, os.strerror(number))


def _attribute(layout: str, *values: object) -> ctypes.Array[ctypes.c_char]:
    packed = struct.pack("=" + layout, *values)
    return ctypes.create_string_buffer(packed, len(packed))


def _fields(**fields: tuple[str, object]) -> ctypes.Array[ctypes.c_char]:
    """Pack an attribute: a format and a value for each field of `union bpf_attr`, in order."""
    layout = "".join(kind for kind, _ in fields.values())
    return _attribute(layout, *(value for _, value in fields.values()))


def _c_name(name: str) -> bytes:
    return name.encode()[: NAME_LEN - 1].ljust(NAME_LEN, b"\0")


def map_create(
    map_type: int, key_size: int, value_size: int, max_entries: int, *, flags: int = 0, name: str
) -> int:
    """Create a map and return its file descriptor."""
    return bpf(
        MAP_CREATE,
        _attribute(
            "IIIIIII16s", map_type, key_size, value_size, max_entries, flags, 0, 0, _c_name(name)
        ),
    )


def _element(
    command: int, fd: int, key: int, value: ctypes.Array[ctypes.c_char] | None = None
) -> None:
    key_buffer = ctypes.create_string_buffer(struct.pack("=I", key), 4)
    bpf(command, _attribute("IIQQQ", fd, 0, _address(key_buffer), _address(value), 0))


def map_lookup(fd: int, key: int, value_size: int) -> bytes:
    """Read one element of an array-like map; a per-CPU one gives all CPUs' values in a row."""
    value = ctypes.create_string_buffer(value_size)
    _element(MAP_LOOKUP_ELEM, fd, key, value)
    return value.raw


def map_read_all(fd: int) -> tuple[bytes, bytes]:
    """Read a hash map in one call (Linux 5.6): its keys in a row, and its values."""
    info = map_info(fd)
    keys = ctypes.create_string_buffer(info.key_size * info.max_entries)
    values = ctypes.create_string_buffer(info.value_size * info.max_entries)
    end = ctypes.create_string_buffer(4)
    attribute = _fields(
        in_batch=("Q", 0),
        out_batch=("Q", _address(end)),
        keys=("Q", _address(keys)),
        values=("Q", _address(values)),
        count=("I", info.max_entries),
        map_fd=("I", fd),
        elem_flags=("Q", 0),
        flags=("Q", 0),
    )
    try:
        bpf(MAP_LOOKUP_BATCH, attribute)
    except OSError as error:
        if error.errno != errno.ENOENT:  # it is read to its end
            raise
    (count,) = struct.unpack_from("=I", attribute.raw, 32)
    return keys.raw[: count * info.key_size], values.raw[: count * info.value_size]


def map_update(fd: int, key: int, value: bytes) -> None:
    """Write one element of an array-like map."""
    _element(MAP_UPDATE_ELEM, fd, key, ctypes.create_string_buffer(value, len(value)))


def map_delete(fd: int, key: int) -> None:
    """Delete one element of a map."""
    _element(MAP_DELETE_ELEM, fd, key)


def instruction(code: int, registers: int = 0, immediate: int = 0) -> bytes:
    """One instruction of RFC 9669 without an offset; destination register in the low four bits."""
    return struct.pack("=BBhi", code, registers, 0, immediate)


def prog_load(
    prog_type: int, instructions: bytes, *, name: str, expected_attach_type: int = 0
) -> int:
    """Load a program of a few instructions and return its file descriptor."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    attribute = _fields(
        prog_type=("I", prog_type),
        insn_cnt=("I", len(instructions) // INSTRUCTION_BYTES),
        insns=("Q", _address(code)),
        license=("Q", _address(licence)),
        log_level=("I", 0),
        log_size=("I", 0),
        log_buf=("Q", 0),
        kern_version=("I", 0),
        prog_flags=("I", 0),
        prog_name=("16s", _c_name(name)),
        prog_ifindex=("I", 0),
        expected_attach_type=("I", expected_attach_type),
    )
    return bpf(PROG_LOAD, attribute)


def obj_pin(fd: int, path: Path) -> None:
    """Pin a map or program under a path of a bpffs."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(OBJ_PIN, _attribute("QII", _address(name), fd, 0))


def obj_get(path: Path) -> int:
    """Open a pin."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(OBJ_GET, _attribute("QII", _address(name), 0, 0))


def prog_fd_by_id(prog_id: int) -> int:
    """Open a loaded program by its id."""
    return bpf(PROG_GET_FD_BY_ID, _attribute("III", prog_id, 0, 0))


def map_fd_by_id(map_id: int) -> int:
    """Open a loaded map by its id."""
    return bpf(MAP_GET_FD_BY_ID, _attribute("III", map_id, 0, 0))


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """Close a descriptor at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def _info(fd: int, length: int) -> bytes:
    buffer = ctypes.create_string_buffer(length)
    bpf(OBJ_GET_INFO_BY_FD, _attribute("IIQ", fd, length, _address(buffer)))
    return buffer.raw


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def map_info(fd: int) -> MapInfo:
    """Describe a map."""
    raw = _info(fd, MAP_INFO_LEN)
    map_type, map_id, key_size, value_size, max_entries, flags = struct.unpack_from("=IIIIII", raw)
    return MapInfo(map_type, map_id, key_size, value_size, max_entries, flags, _text(raw[24:40]))


def prog_info(fd: int) -> ProgInfo:
    """Describe a program."""
    raw = _info(fd, PROG_INFO_LEN)
    prog_type, prog_id, tag, jited, xlated = struct.unpack_from("=II8sII", raw)
    name = _text(raw[64:80])
    (verified,) = struct.unpack_from("=I", raw, 216)
    return ProgInfo(prog_type, prog_id, tag, jited, xlated // 8, name, verified)


def prog_map_ids(fd: int) -> frozenset[int]:
    """Return the ids of the maps that a program uses."""
    (count,) = struct.unpack_from("=I", _info(fd, PROG_INFO_LEN), PROG_INFO_MAPS)
    ids = ctypes.create_string_buffer(4 * count)
    info = ctypes.create_string_buffer(PROG_INFO_LEN)
    struct.pack_into("=IQ", info, PROG_INFO_MAPS, count, _address(ids))
    bpf(OBJ_GET_INFO_BY_FD, _attribute("IIQ", fd, PROG_INFO_LEN, _address(info)))
    return frozenset(struct.unpack(f"={count}I", ids.raw))


def prog_query(ifindex: int, attach_type: int) -> tuple[int, ...]:
    """Return the ids of the programs on a hook of an interface, in the order in which they run."""
    ids = ctypes.create_string_buffer(4 * MOST_ATTACHED)
    attribute = _fields(
        target_ifindex=("I", ifindex),
        attach_type=("I", attach_type),
        query_flags=("I", 0),
        attach_flags=("I", 0),
        prog_ids=("Q", _address(ids)),
        count=("I", MOST_ATTACHED),
        pad=("I", 0),
        prog_attach_flags=("Q", 0),
        link_ids=("Q", 0),
        link_attach_flags=("Q", 0),
        revision=("Q", 0),
    )
    bpf(PROG_QUERY, attribute)
    (count,) = struct.unpack_from("=I", attribute.raw, 24)
    return struct.unpack_from(f"={count}I", ids.raw)


def prog_test_run(
    fd: int,
    data: bytes,
    *,
    repeat: int = 1,
    context: bytes = b"",
    out_size: int | None = None,
    context_size: int = 0,
) -> TestRun:
    """Run a program on a packet: `repeat` times, without resetting the packet in between.

    `out_size` is the size of the buffer for the packet afterwards (its length plus 256 by default,
    0 for none), `context_size` that for the context (struct xdp_md or __sk_buff).
    """
    size = len(data) + 256 if out_size is None else out_size
    data_in = ctypes.create_string_buffer(data, len(data))
    data_out = ctypes.create_string_buffer(size) if size else None
    context_in = ctypes.create_string_buffer(context, len(context)) if context else None
    context_out = ctypes.create_string_buffer(context_size) if context_size else None
    attribute = _fields(
        prog_fd=("I", fd),
        retval=("I", 0),
        data_size_in=("I", len(data)),
        data_size_out=("I", size),
        data_in=("Q", _address(data_in)),
        data_out=("Q", _address(data_out)),
        repeat=("I", repeat),
        duration=("I", 0),
        ctx_size_in=("I", len(context)),
        ctx_size_out=("I", context_size),
        ctx_in=("Q", _address(context_in)),
        ctx_out=("Q", _address(context_out)),
    )
    bpf(PROG_TEST_RUN, attribute)
    _, retval, _, length, _, _, _, duration, _, length_out = struct.unpack_from(
        "=IIIIQQIIII", attribute.raw
    )
    packet = data_out.raw[:length] if data_out is not None else b""
    return TestRun(
        retval, packet, duration, context_out.raw[:length_out] if context_out is not None else b""
    )
