"""One IP packet of either family, as far as wire.md, section 4.1, reads it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.addresses import Address
from tests.model.extension import Fragment, Problem, read_extensions
from tests.model.headers import (
    IPV4_LENGTH,
    IPV6_LENGTH,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    Ipv4Header,
    Ipv6Header,
)

_ICMP_OF = {4: PROTOCOL_ICMP, 6: PROTOCOL_ICMPV6}
_ECHO_REQUEST_OF = {4: 8, 6: 128}
_ERRORS_OF = {4: frozenset({3, 11, 12}), 6: frozenset({1, 2, 3, 4})}


@dataclass(frozen=True)
class IpPacket:
    """What is read of a packet up to its upper layer.

    ``version`` is 4 or 6, ``tos`` the TOS or the traffic class, ``length`` the inner length of
    wire.md, section 2, ``dont_fragment`` IPv4's flag (IPv6 is always so), ``protocol`` the upper
    layer's number, ``upper_at`` the bytes in front of it: all headers. With a ``problem``, fields
    from ``protocol`` on mean nothing.
    """

    version: int
    source: Address
    destination: Address
    tos: int
    length: int
    dont_fragment: bool
    protocol: int
    upper_at: int
    fragment: Fragment | None
    problem: Problem | None

    @property
    def is_first_fragment(self) -> bool:
        """Whether other fragments follow it (wire.md, section 4.1)."""
        return self.fragment is not None and self.fragment.is_first

    @property
    def is_later_fragment(self) -> bool:
        """Whether it has no upper-layer header of its own (wire.md, section 4.1)."""
        return self.fragment is not None and not self.fragment.is_first

    @property
    def is_icmp(self) -> bool:
        """The ICMP of its own family (wire.md, line F7)."""
        return self.protocol == _ICMP_OF[self.version]

    def is_icmp_error(self, kind: int) -> bool:
        """Whether an ICMP type is an error's (wire.md, line I3)."""
        return self.is_icmp and kind in _ERRORS_OF[self.version]

    def is_echo_request(self, kind: int, code: int) -> bool:
        """Whether ICMP type and code are an echo request's (wire.md, line R14)."""
        return self.is_icmp and (kind, code) == (_ECHO_REQUEST_OF[self.version], 0)


def read_packet(data: bytes, version: int) -> IpPacket | None:
    """Read the packet at the beginning of ``data``, which goes to the end of what may be read.

    None if there is no IP header of this version: too few bytes for its fixed part, or another
    version in its first four bits.
    """
    if len(data) < (IPV4_LENGTH if version == 4 else IPV6_LENGTH) or data[0] >> 4 != version:
        return None
    return _read_ipv4(data) if version == 4 else _read_ipv6(data)


def _read_ipv4(data: bytes) -> IpPacket:
    header = Ipv4Header.parse(data)
    fragment = None
    if header.is_fragment:
        is_first = header.fragment_offset == 0
        fragment = Fragment(header.identification, header.protocol, is_first)
    problem = None
    if header.ihl < 5:
        problem = Problem.BAD_IHL
    elif len(data) < 4 * header.ihl:
        problem = Problem.TRUNCATED
    return IpPacket(
        version=4,
        source=header.source,
        destination=header.destination,
        tos=header.tos,
        length=header.total_length,
        dont_fragment=header.dont_fragment,
        protocol=header.protocol,
        upper_at=4 * header.ihl,
        fragment=fragment,
        problem=problem,
    )


def _read_ipv6(data: bytes) -> IpPacket:
    header = Ipv6Header.parse(data)
    extensions = read_extensions(data, header.next_header)
    return IpPacket(
        version=6,
        source=header.source,
        destination=header.destination,
        tos=header.traffic_class,
        length=header.payload_length + IPV6_LENGTH,
        dont_fragment=True,
        protocol=extensions.protocol,
        upper_at=extensions.end,
        fragment=extensions.fragment,
        problem=extensions.problem,
    )
