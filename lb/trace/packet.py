"""Reads a traced frame as far as it was captured. Pure; a truncated or odd part is left out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np

from controlplane.domain.objects import TCP, UDP
from lb import abi
from lb.flow_hash import Address, Flow

TAG_BYTES = 4
TAGS = frozenset({0x8100, 0x88A8})
VERSIONS = {0x0800: 4, 0x86DD: 6}
GUE_OFFSET = abi.IPV4_LEN + abi.UDP_LEN
"""From the outer IP header to `struct lb_gue`."""
GUE_PROTOCOLS = {4: 4, 41: 6}
"""IP version by GUE's protocol number."""
IP_BYTES = {4: abi.IPV4_LEN, 6: abi.IPV6_LEN}
"""A header without options or extension headers."""
V4_FRAGMENT, V4_PROTOCOL, V4_SOURCE, V4_DESTINATION = 6, 9, 12, 16
V6_NEXT_HEADER, V6_SOURCE, V6_DESTINATION = 6, 8, 24
"""Offsets in IP headers."""
V4_MORE_OR_OFFSET, V4_OFFSET = 0x3FFF, 0x1FFF
V6_MORE_OR_OFFSET, V6_OFFSET = 0xFFF9, 0xFFF8
"""Masks of the fragment field."""
TCP_FLAGS = 13
"""Their offset in a TCP header."""
NAMES = {TCP: "tcp", UDP: "udp"}
ICMP = {4: 1, 6: 58}
ICMP_BYTES = 8
LEAST_EXTENSION_BYTES = 8
ERRORS = {4: frozenset({3, 11, 12}), 6: frozenset({1, 2, 3, 4})}
EXTENSIONS = frozenset({0, 43, 44, 51, 60})
FRAGMENT_HEADER, AUTHENTICATION = 44, 51
FLAGS = "FSRPAUEC"
MAX_EXTENSIONS = 6


@dataclass(frozen=True)
class Gue:
    """The wrap: its sender and receiver, the hop list, and how many of the hops were visited."""

    source: IPv4Address
    destination: IPv4Address
    hops: tuple[IPv4Address, ...]
    next_hop: int


@dataclass(frozen=True)
class Packet:
    """The parts that could be read. ``flow`` is from client to VIP; an ICMP error's is quoted."""

    protocol: int | None = None
    client: Address | None = None
    vip: Address | None = None
    flow: Flow | None = None
    flags: str = ""
    icmp: tuple[int, int] | None = None
    fragment: bool = False
    gue: Gue | None = None

    @property
    def vip_port(self) -> int | None:
        """The service's port."""
        return self.flow.destination_port if self.flow else None

    @property
    def flow_protocol(self) -> str | None:
        """``tcp`` or ``udp``, also of the packet inside an ICMP error."""
        return NAMES.get(self.flow.protocol if self.flow else self.protocol or 0)


@dataclass(frozen=True)
class _Headers:
    """An IP packet's headers: addresses, and where its upper layer begins."""

    source: Address
    destination: Address
    protocol: int
    upper: int
    fragment: bool = False
    later: bool = False


def read_frame(data: bytes, *, wrapped: bool, answer: bool = False) -> Packet:
    """Read a frame. ``wrapped``: it is GUE; ``answer``: it is our own "too big" to a client."""
    at, version = _link(data)
    if version is None:
        return Packet()
    gue = None
    if wrapped:
        gue, at, version = _gue(data, at)
    headers = _headers(data, at, version) if version else None
    if headers is None or version is None:
        return Packet(gue=gue)
    if headers.protocol == ICMP[version] and not headers.later:
        return _icmp(data, headers, version, gue, answer=answer)
    flow = _flow(data, headers)
    return Packet(
        protocol=headers.protocol,
        client=headers.source,
        vip=headers.destination,
        flow=flow,
        flags=_tcp_flags(data, headers) if flow else "",
        fragment=headers.fragment or headers.later,
        gue=gue,
    )


def _link(data: bytes) -> tuple[int, int | None]:
    """Return the offset of the IP header and its version; ``None`` if there is none."""
    at, kind = abi.ETH_LEN, _word(data, abi.ETH_LEN - 2)
    for _ in range(2):
        if kind in TAGS:
            at, kind = at + TAG_BYTES, _word(data, at + 2)
    return at, VERSIONS.get(kind)


def _gue(data: bytes, at: int) -> tuple[Gue | None, int, int | None]:
    """Return the wrap at an offset, where the inner packet begins and its IP version."""
    if len(data) < at + abi.WRAP_LEN:
        return None, at, None
    head = np.frombuffer(data, dtype=abi.GUE, count=1, offset=at + GUE_OFFSET)[0]
    hops_at = at + abi.WRAP_LEN
    inner_at = hops_at + abi.HOP_LEN * min(int(head["hop_count"]), abi.MAX_HOPS)
    captured = range(hops_at, min(inner_at, len(data) - abi.HOP_LEN + 1), abi.HOP_LEN)
    gue = Gue(
        source=_address4(data, at + V4_SOURCE),
        destination=_address4(data, at + V4_DESTINATION),
        hops=tuple(_address4(data, hop_at) for hop_at in captured),
        next_hop=int(head["next_hop"]),
    )
    return gue, inner_at, GUE_PROTOCOLS.get(int(head["proto"]))


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _address4(data: bytes, at: int) -> IPv4Address:
    return IPv4Address(data[at : at + 4])


def _address6(data: bytes, at: int) -> IPv6Address:
    return IPv6Address(data[at : at + 16])


def _headers(data: bytes, at: int, version: int) -> _Headers | None:
    """Read an IP header and everything before the upper layer; ``None`` if it is truncated."""
    if len(data) < at + IP_BYTES[version] or data[at] >> 4 != version:
        return None
    return _headers4(data, at) if version == 4 else _headers6(data, at)  # noqa: PLR2004


def _headers4(data: bytes, at: int) -> _Headers:
    field = _word(data, at + V4_FRAGMENT)
    return _Headers(
        source=_address4(data, at + V4_SOURCE),
        destination=_address4(data, at + V4_DESTINATION),
        protocol=data[at + V4_PROTOCOL],
        upper=at + max(abi.IPV4_LEN, (data[at] & 15) * 4),
        fragment=bool(field & V4_MORE_OR_OFFSET),
        later=bool(field & V4_OFFSET),
    )


def _headers6(data: bytes, at: int) -> _Headers:
    protocol, upper, fragment, later = data[at + V6_NEXT_HEADER], at + abi.IPV6_LEN, False, False
    for _ in range(MAX_EXTENSIONS):
        if protocol not in EXTENSIONS or later or len(data) < upper + LEAST_EXTENSION_BYTES:
            break
        length = (data[upper + 1] + 1) * 8
        if protocol == FRAGMENT_HEADER:
            length, field = LEAST_EXTENSION_BYTES, _word(data, upper + 2)
            fragment, later = bool(field & V6_MORE_OR_OFFSET), bool(field & V6_OFFSET)
        elif protocol == AUTHENTICATION:
            length = (data[upper + 1] + 2) * 4
        protocol, upper = data[upper], upper + length
    return _Headers(
        source=_address6(data, at + V6_SOURCE),
        destination=_address6(data, at + V6_DESTINATION),
        protocol=protocol,
        upper=upper,
        fragment=fragment,
        later=later,
    )


def _flow(data: bytes, headers: _Headers, *, reverse: bool = False) -> Flow | None:
    """Return the flow of TCP or UDP, or the opposite direction's; ``None`` for others."""
    at = headers.upper
    if headers.protocol not in NAMES or headers.later or len(data) < at + 4:
        return None
    there = (headers.source, _word(data, at))
    here = (headers.destination, _word(data, at + 2))
    source, destination = (here, there) if reverse else (there, here)
    return Flow(*source, *destination, headers.protocol)


def _tcp_flags(data: bytes, headers: _Headers) -> str:
    if headers.protocol != TCP or len(data) <= headers.upper + TCP_FLAGS:
        return ""
    bits = data[headers.upper + TCP_FLAGS]
    return "".join(letter for number, letter in enumerate(FLAGS) if bits >> number & 1) or "."


def _icmp(data: bytes, headers: _Headers, version: int, gue: Gue | None, *, answer: bool) -> Packet:
    kind = data[headers.upper : headers.upper + 2]
    icmp = (kind[0], kind[1]) if len(kind) == 2 else None  # noqa: PLR2004
    client, vip, flow = headers.source, headers.destination, None
    if icmp and icmp[0] in ERRORS[version]:
        embedded = _headers(data, headers.upper + ICMP_BYTES, version)
        flow = _flow(data, embedded, reverse=not answer) if embedded else None
    if flow is not None:
        client, vip = flow.source, flow.destination
    elif answer:
        client, vip = vip, client
    return Packet(
        protocol=headers.protocol,
        client=client,
        vip=vip,
        flow=flow,
        icmp=icmp,
        fragment=headers.fragment,
        gue=gue,
    )


def host(address: Address | str) -> str:
    """Return an address as it is written before a colon and a port."""
    text = str(ip_address(address))
    return f"[{text}]" if ":" in text else text
