"""Somebody else's XDP program, put together by hand: it counts, and goes on or passes.

Instructions: <linux/bpf.h>, and RFC 9669. 8 bytes each: opcode, registers, offset, immediate.
"""

from __future__ import annotations

import os
import struct
from types import TracebackType
from typing import Self

from lb.dataplane.load import bpf_syscall
from netns.bpf import XDP_PASS, load_xdp

MAP_LOOKUP, TAIL_CALL = 1, 12
"""Numbers of helpers."""
PSEUDO_MAP_FD = 1
COUNT_BYTES = 8


def _instruction(code: int, registers: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, offset, immediate)


def _move(to: int, by: int) -> bytes:
    return _instruction(0xBF, by << 4 | to)


def _set(to: int, value: int) -> bytes:
    return _instruction(0xB7, to, 0, value)


def _load_map(to: int, descriptor: int) -> bytes:
    return _instruction(0x18, PSEUDO_MAP_FD << 4 | to, 0, descriptor) + _instruction(0)


def _call(helper: int) -> bytes:
    return _instruction(0x85, 0, 0, helper)


def count_packet(counts: int) -> bytes:
    """Add one to the array's first value; keep the context in r6."""
    address_of_key = _move(2, 10) + _instruction(0x07, 2, 0, -4)
    return (
        _move(6, 1)
        + _instruction(0x62, 10, -4, 0)  # the key, zero, on the stack
        + address_of_key
        + _load_map(1, counts)
        + _call(MAP_LOOKUP)
        + _instruction(0x15, 0, 2, 0)  # nothing there: skip the next two
        + _set(1, 1)
        + _instruction(0xDB, 1 << 4 | 0)  # lock *(u64 *)r0 += r1
    )


def go_on(root: int, slot: int) -> bytes:
    """Jump to the program in a slot of a program array, if there is one."""
    return _move(1, 6) + _load_map(2, root) + _set(3, slot) + _call(TAIL_CALL)


def leave() -> bytes:
    """Pass the packet to the stack."""
    return _set(0, XDP_PASS) + _instruction(0x95)


class CountingProgram:
    """Counts packets; `goes_on` is the program array and the slot that it jumps to, or nothing."""

    def __init__(self, name: str, goes_on: tuple[int, int] | None = None) -> None:
        self._counts = bpf_syscall.map_create(
            bpf_syscall.MAP_TYPE_ARRAY, 4, COUNT_BYTES, 1, name=f"{name}_n"
        )
        further = go_on(*goes_on) if goes_on else b""
        self.descriptor = load_xdp(count_packet(self._counts) + further + leave(), name)

    @property
    def packets(self) -> int:
        """How many it has seen."""
        return int.from_bytes(bpf_syscall.map_lookup(self._counts, 0, COUNT_BYTES), "little")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.descriptor)
        os.close(self._counts)
