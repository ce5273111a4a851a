"""Reading of a GUE packet's own headers (wire.md, section 2) and what makes them malformed (R3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.model.encap import wrap_length
from tests.model.headers import ETHERNET_LENGTH

PROTO_IPV4 = 4
PROTO_IPV6 = 41
FORWARD_SYN = 0x08
MAX_HOPS = 3

GUE_AT = ETHERNET_LENGTH + 28
PRIVATE_AT = GUE_AT + 4
HOPS_AT = PRIVATE_AT + 4
NEXT_HOP_AT = PRIVATE_AT + 2


@dataclass(frozen=True)
class GueHeader:
    """The GUE and private headers, field by field. ``hlen`` counts 32-bit words."""

    variant: int
    control: int
    hlen: int
    proto: int
    flags: int
    private_version: int
    private_flags: int
    reserved: int
    next_hop: int
    hop_count: int

    @classmethod
    def parse(cls, frame: bytes) -> GueHeader:
        """Read the eight bytes behind the outer UDP header; the frame has at least 50 bytes."""
        first, proto, flags, versioned, reserved, next_hop, hop_count = struct.unpack(
            ">BBHBBBB", frame[GUE_AT:HOPS_AT]
        )
        return cls(
            variant=first >> 6,
            control=(first >> 5) & 1,
            hlen=first & 0x1F,
            proto=proto,
            flags=flags,
            private_version=versioned >> 4,
            private_flags=versioned & 0x0F,
            reserved=reserved,
            next_hop=next_hop,
            hop_count=hop_count,
        )

    def is_malformed(self, outer_total_length: int) -> bool:
        """Line R3."""
        return (
            (self.variant, self.control, self.flags) != (0, 0, 0)
            or (self.private_version, self.private_flags & ~FORWARD_SYN, self.reserved) != (0, 0, 0)
            or self.hop_count > MAX_HOPS
            or self.hlen != 1 + self.hop_count
            or self.next_hop > self.hop_count
            or wrap_length(self.hop_count) > outer_total_length
            or self.proto not in {PROTO_IPV4, PROTO_IPV6}
        )

    @property
    def forward_syn(self) -> bool:
        """Whether a SYN, too, goes on to the next hop."""
        return bool(self.private_flags & FORWARD_SYN)


def hops_ahead(frame: bytes, gue: GueHeader) -> tuple[IPv4Address, ...]:
    """The hops still ahead: list index next_hop to hop_count - 1 (wire.md, line R5)."""
    starts = range(HOPS_AT + 4 * gue.next_hop, HOPS_AT + 4 * gue.hop_count, 4)
    return tuple(IPv4Address(frame[start : start + 4]) for start in starts)
