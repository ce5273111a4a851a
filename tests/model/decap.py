"""What "accept" and "pass on" do to a frame (wire.md, section 6.3)."""

from __future__ import annotations

import struct

from tests.model.checksum import internet_checksum
from tests.model.config import Config, Dip
from tests.model.ecn import with_outer_mark
from tests.model.encap import wrap_length
from tests.model.gue import NEXT_HOP_AT, GueHeader
from tests.model.headers import (
    ETHERNET_LENGTH,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    IPV4_LENGTH,
    Ipv4Header,
)
from tests.model.link import header_towards

_OUTER_END = ETHERNET_LENGTH + IPV4_LENGTH
_MACS_LENGTH = 12
_ETHERTYPE_OF = {4: ETHERTYPE_IPV4, 41: ETHERTYPE_IPV6}


def accepted(frame: bytes, gue: GueHeader) -> bytes | None:
    """The frame for the local stack; None when RFC 6040 wants it dropped."""
    outer = Ipv4Header.parse(frame[ETHERNET_LENGTH:])
    inner = with_outer_mark(frame[ETHERNET_LENGTH + wrap_length(gue.hop_count) :], outer.tos)
    if inner is None:
        return None
    return frame[:_MACS_LENGTH] + struct.pack(">H", _ETHERTYPE_OF[gue.proto]) + inner


def passed_on(frame: bytes, hop: Dip, config: Config) -> bytes:
    """The frame for the next hop, the outer checksum right even where it came in wrong."""
    ip = frame[ETHERNET_LENGTH:_OUTER_END]
    unsummed = ip[:10] + bytes(2) + config.self_dip.packed + hop.address.packed
    checksum = struct.pack(">H", internet_checksum(unsummed))
    outer = unsummed[:10] + checksum + unsummed[12:]
    rest = bytearray(frame[_OUTER_END:])
    rest[NEXT_HOP_AT - _OUTER_END] += 1
    return header_towards(hop, frame, ETHERNET_LENGTH, config) + outer + bytes(rest)
