"""Which sockets the kernel puts into a dump: bytecode of inet_diag, as ss(8) writes it. Pure.

Linux, include/uapi/linux/inet_diag.h and inet_diag_bc_run() in net/ipv4/inet_diag.c: each operation
has how many bytes to go on if it matches, and if it does not; a socket is dumped if the program is
left exactly at its end. The filter is coarse where there are many services: what it lets through is
compared with the services again.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from controlplane.domain.objects import Service, Vip

JUMP, LOCAL_PORT_FROM, LOCAL_PORT_TO, LOCAL_ADDRESS = 1, 2, 3, 7
"""INET_DIAG_BC_JMP, _S_GE, _S_LE, _S_COND."""
OPERATION = struct.Struct("=BBH")
"""struct inet_diag_bc_op: code, bytes to go on if it matches, if not."""
CONDITION = struct.Struct("=BB2xi")
"""struct inet_diag_hostcond: family, prefix length, port; the address follows."""
ANY_PORT = -1
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
MOST_CONDITIONS = 64
"""Each costs every socket of the network namespace some nanoseconds."""


class Ports(NamedTuple):
    """A range of local ports, both ends included."""

    first: int
    last: int


def filter_of(services: Iterable[Service]) -> bytes:
    """Return the bytecode that lets these services' sockets through; empty: it lets all through."""
    known = tuple(services)
    ports = port_ranges(s.port for s in known if s.port is not None)
    vips = sorted({s.vip for s in known if s.port is None}, key=str)
    if len(vips) > MOST_CONDITIONS:
        return b""
    return any_of([_ports(found) for found in ports] + [_address(vip) for vip in vips])


def port_ranges(ports: Iterable[int], most: int = MOST_CONDITIONS) -> list[Ports]:
    """Return at most so many ranges that cover these ports, and as few others as that allows."""
    found = [Ports(port, port) for port in sorted(set(ports))]
    gaps = sorted(range(1, len(found)), key=lambda at: found[at].first - found[at - 1].last)
    apart = set(gaps[max(0, len(found) - most) :])
    apart -= {at for at in apart if found[at].first == found[at - 1].last + 1}
    ranges: list[Ports] = []
    for at, one in enumerate(found):
        if ranges and at not in apart:
            ranges[-1] = Ports(ranges[-1].first, one.last)
        else:
            ranges.append(one)
    return ranges


def any_of(conditions: Sequence[Sequence[bytes]]) -> bytes:
    """Return the program that accepts what meets one of these: each is operations that all match.

    An operation is given without its two distances: its code, padding, and what follows it.
    """
    program = b""
    for operations in reversed(conditions):
        own = sum(len(operation) for operation in operations)
        text = b""
        for operation in operations:
            # to the next condition, over the jump; from the last, beyond the end: refused
            missed = own + OPERATION.size - len(text)
            text += OPERATION.pack(operation[0], len(operation), missed) + operation[4:]
        if program:
            text += OPERATION.pack(JUMP, OPERATION.size, OPERATION.size + len(program))
        program = text + program
    return program


def _ports(ports: Ports) -> list[bytes]:
    return [
        OPERATION.pack(code, 0, 0) + OPERATION.pack(0, 0, port)
        for code, port in ((LOCAL_PORT_FROM, ports.first), (LOCAL_PORT_TO, ports.last))
    ]


def _address(vip: Vip) -> list[bytes]:
    condition = CONDITION.pack(FAMILY[vip.version], vip.prefixlen, ANY_PORT)
    return [OPERATION.pack(LOCAL_ADDRESS, 0, 0) + condition + vip.network_address.packed]
