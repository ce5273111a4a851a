"""Reading a traced frame as far as it was captured. Pure; what is cut short or odd is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from lb.flow_hash import Address, Flow

ETHERNET_BYTES = 14
TAG_BYTES = 4
TAGS = frozenset({0x8100, 0x88A8})
VERSIONS = {0x0800: 4, 0x86DD: 6}
WRAP_BYTES = 36
GUE_OFFSET = 28
GUE_PROTOCOLS = {4: 4, 41: 6}
IPV4_BYTES, IPV6_BYTES = 20, 40
TCP, UDP = 6, 17
NAMES = {TCP: "tcp", UDP: "udp"}
ICMP = {4: 1, 6: 58}
ICMP_BYTES = 8
ERRORS = {4: frozenset({3, 11, 12}), 6: frozenset({1, 2, 3, 4})}
EXTENSIONS = frozenset({0, 43, 44, 51, 60})
FRAGMENT_HEADER, AUTHENTICATION = 44, 51
FLAGS = "FSRPAUEC"
MAX_EXTENSIONS = 6


@dataclass(frozen=True)
class Gue:
    """The wrap: who sent it to whom, the hops after that, and how many have been visited."""

    source: IPv4Address
    destination: IPv4Address
    hops: tuple[IPv4Address, ...]
    next_hop: int


@dataclass(frozen=True)
class Packet:
    """What could be read. ``flow`` is from client to VIP; of an ICMP error, what it speaks of."""

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
        """``tcp`` or ``udp``, also of what an ICMP error speaks of."""
        return NAMES.get(self.flow.protocol if self.flow else self.protocol or 0)


@dataclass(frozen=True)
class _Headers:
    """An IP packet's headers: where the upper layer begins, and what it is."""

    source: Address
    destination: Address
    protocol: int
    upper: int
    fragment: bool = False
    later: bool = field(default=False)


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
    """Return the offset of the IP header and its version, ``None`` if it is no IP."""
    at, kind = ETHERNET_BYTES, _word(data, ETHERNET_BYTES - 2)
    for _ in range(2):
        if kind in TAGS:
            at, kind = at + TAG_BYTES, _word(data, at + 2)
    return at, VERSIONS.get(kind)


def _gue(data: bytes, at: int) -> tuple[Gue | None, int, int | None]:
    """Return the wrap at an offset, where the inner packet begins and its IP version."""
    head = data[at : at + WRAP_BYTES]
    if len(head) < WRAP_BYTES:
        return None, at, None
    count, next_hop = min(head[GUE_OFFSET + 7], 3), head[GUE_OFFSET + 6]
    list_at = at + WRAP_BYTES
    raw = data[list_at : list_at + 4 * count]
    hops = tuple(IPv4Address(raw[i : i + 4]) for i in range(0, len(raw) - 3, 4))
    gue = Gue(IPv4Address(head[12:16]), IPv4Address(head[16:20]), hops, next_hop)
    return gue, list_at + 4 * count, GUE_PROTOCOLS.get(head[GUE_OFFSET + 1])


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _headers(data: bytes, at: int, version: int) -> _Headers | None:
    """Read an IP header and what lies before the upper layer; ``None`` if that is cut short."""
    if len(data) < at + (IPV4_BYTES if version == 4 else IPV6_BYTES) or data[at] >> 4 != version:  # noqa: PLR2004
        return None
    if version == 4:  # noqa: PLR2004
        offset = _word(data, at + 6)
        return _Headers(
            source=IPv4Address(data[at + 12 : at + 16]),
            destination=IPv4Address(data[at + 16 : at + 20]),
            protocol=data[at + 9],
            upper=at + max(IPV4_BYTES, (data[at] & 15) * 4),
            fragment=bool(offset & 0x3FFF),
            later=bool(offset & 0x1FFF),
        )
    return _headers6(data, at)


def _headers6(data: bytes, at: int) -> _Headers:
    protocol, upper, fragment, later = data[at + 6], at + IPV6_BYTES, False, False
    for _ in range(MAX_EXTENSIONS):
        if protocol not in EXTENSIONS or later or len(data) < upper + 8:
            break
        length = (data[upper + 1] + 1) * 8
        if protocol == FRAGMENT_HEADER:
            length, word = 8, _word(data, upper + 2)
            fragment, later = bool(word & 0xFFF9), bool(word & 0xFFF8)
        elif protocol == AUTHENTICATION:
            length = (data[upper + 1] + 2) * 4
        protocol, upper = data[upper], upper + length
    return _Headers(
        source=IPv6Address(data[at + 8 : at + 24]),
        destination=IPv6Address(data[at + 24 : at + 40]),
        protocol=protocol,
        upper=upper,
        fragment=fragment,
        later=later,
    )


def _flow(data: bytes, headers: _Headers, *, turned: bool = False) -> Flow | None:
    """Return the flow of TCP or UDP, or that of the packets it answers; ``None`` for others."""
    at = headers.upper
    if headers.protocol not in NAMES or headers.later or len(data) < at + 4:
        return None
    there = (headers.source, _word(data, at))
    here = (headers.destination, _word(data, at + 2))
    return Flow(*(here + there if turned else there + here), headers.protocol)


def _tcp_flags(data: bytes, headers: _Headers) -> str:
    if headers.protocol != TCP or len(data) <= headers.upper + 13:
        return ""
    bits = data[headers.upper + 13]
    return "".join(letter for number, letter in enumerate(FLAGS) if bits >> number & 1) or "."


def _icmp(data: bytes, headers: _Headers, version: int, gue: Gue | None, *, answer: bool) -> Packet:
    kind = data[headers.upper : headers.upper + 2]
    icmp = (kind[0], kind[1]) if len(kind) == 2 else None  # noqa: PLR2004
    client, vip, flow = headers.source, headers.destination, None
    if icmp and icmp[0] in ERRORS[version]:
        embedded = _headers(data, headers.upper + ICMP_BYTES, version)
        flow = _flow(data, embedded, turned=not answer) if embedded else None
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
    """Return an address as it stands before a colon and a port."""
    text = str(ip_address(address))
    return f"[{text}]" if ":" in text else text
