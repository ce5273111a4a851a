"""A filter in the kernel for notifications of routes: those that cannot matter wake nobody. Pure.

It is classic BPF (linux/filter.h), attached to the socket. Classic BPF loads numbers as big-endian
ones, and netlink has them in the byte order of the host: constants are swapped to fit.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from lb.agent.netlink.messages import HEADER
from lb.agent.netlink.routes import RTA_DST, RTA_TABLE, RTM_DELROUTE, RTM_NEWROUTE, RTMSG

INSTRUCTION = struct.Struct("=HBBI")
"""struct sock_filter: code, jump if true, jump if false, number."""
LD_IMM, LD_BYTE, LD_HALF, LD_AT_X, LD_MEM = 0x00, 0x30, 0x28, 0x40, 0x60
LDX_IMM, LDX_MEM, ST, TAX = 0x01, 0x61, 0x02, 0x07
JA, JEQ, JGT, JGE = 0x05, 0x15, 0x25, 0x35
OR_X, RSH_X, RET = 0x4C, 0x7C, 0x06
NETLINK_ATTRIBUTE = 0xFFFFF000 + 12
"""SKF_AD_OFF + SKF_AD_NLATTR: A becomes the offset of attribute X from offset A on, 0 for none."""
PASS, DROP = 0xFFFFFFFF, 0

TYPE_AT = 4
FAMILY_AT, LENGTH_AT = HEADER.size, HEADER.size + 1
ATTRIBUTES_AT = HEADER.size + RTMSG.size
VALUE_AT = 4
MAX_TABLES, MAX_RANGES = 64, 64
"""The kernel limits the memory of filters (``net.core.optmem_max``, 20 KiB in older ones). With
more tables, routes of all tables pass."""
ALL_ONES = (1 << 32) - 1

Range = tuple[int, int]
"""The first and the last of adjacent IPv4 addresses, as numbers."""


@dataclass(frozen=True)
class Interest:
    """Which routes matter: those of these tables (``None``: of all) that cover such an address.

    ``ranges`` restrict IPv4 routes only; ``None``: all addresses.
    """

    tables: frozenset[int] | None = None
    ranges: tuple[Range, ...] | None = None


def ranges_of(addresses: Iterable[IPv4Address], most: int = MAX_RANGES) -> tuple[Range, ...]:
    """Return at most so many ranges that have all these addresses, and few others."""
    numbers = sorted({int(address) for address in addresses})
    gaps = sorted(range(1, len(numbers)), key=lambda n: numbers[n - 1] - numbers[n])
    cuts = sorted(n for n in gaps[: most - 1] if numbers[n] - numbers[n - 1] > 1)
    starts, ends = [0, *cuts], [*cuts, len(numbers)]
    return tuple(
        (numbers[start], numbers[end - 1])
        for start, end in zip(starts, ends, strict=True)
        if end > start
    )


def filter_for(interest: Interest) -> bytes:
    """Return the program by which only such notifications of routes pass, and all others."""
    code = [_op(LD_HALF, TYPE_AT)]
    code += _unless_one_of((_swapped(kind, 2) for kind in (RTM_NEWROUTE, RTM_DELROUTE)), PASS)
    if interest.tables is not None and len(interest.tables) <= MAX_TABLES:
        code += _load_attribute(RTA_TABLE)
        code += _unless_one_of((_swapped(table, 4) for table in sorted(interest.tables)), DROP)
    if interest.ranges is not None:
        code += [_op(LD_BYTE, FAMILY_AT), *_pass_unless_equal(socket.AF_INET)]
        code += [*_load_attribute(RTA_DST), *_first_and_last()]
        for first, last in interest.ranges[:MAX_RANGES]:
            code += _pass_if_common(first, last)
        code.append(_op(RET, DROP))
    else:
        code.append(_op(RET, PASS))
    return b"".join(code)


def _op(code: int, number: int = 0, if_true: int = 0, if_false: int = 0) -> bytes:
    return INSTRUCTION.pack(code, if_true, if_false, number)


def _swapped(number: int, size: int) -> int:
    return int.from_bytes(number.to_bytes(size, sys.byteorder), "big")


def _unless_one_of(numbers: Iterable[int], verdict: int) -> list[bytes]:
    """Return with this verdict unless A is one of these."""
    chosen = list(numbers)
    code: list[bytes] = []
    for position, number in enumerate(chosen):
        left = len(chosen) - position - 1
        code += [_op(JEQ, number, 0, 1), _op(JA, 2 * left + 1)]
    return [*code, _op(RET, verdict)]


def _pass_unless_equal(number: int) -> list[bytes]:
    return [_op(JEQ, number, 1, 0), _op(RET, PASS)]


def _load_attribute(kind: int) -> list[bytes]:
    """Load the first four bytes of an attribute's value into A; a route without it passes."""
    return [
        _op(LDX_IMM, kind),
        _op(LD_IMM, ATTRIBUTES_AT),
        _op(LD_BYTE, NETLINK_ATTRIBUTE),
        _op(JEQ, 0, 0, 1),
        _op(RET, PASS),
        _op(TAX),
        _op(LD_AT_X, VALUE_AT),
    ]


def _first_and_last() -> list[bytes]:
    """Store the first address of the destination in A into M[0], its last one into M[1].

    A prefix of 32 bits is one address, and a number cannot be shifted by 32.
    """
    last = [
        _op(TAX),
        _op(LD_IMM, ALL_ONES),
        _op(RSH_X),
        _op(LDX_MEM, 0),
        _op(OR_X),
        _op(ST, 1),
    ]
    return [_op(ST, 0), _op(ST, 1), _op(LD_BYTE, LENGTH_AT), _op(JGE, 32, len(last), 0), *last]


def _pass_if_common(first: int, last: int) -> list[bytes]:
    """Pass if a range of addresses has one of the destination's."""
    return [
        _op(LD_MEM, 1),
        _op(JGE, first, 0, 3),
        _op(LD_MEM, 0),
        _op(JGT, last, 1, 0),
        _op(RET, PASS),
    ]
