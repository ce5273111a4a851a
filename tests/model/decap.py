"""What "accept" and "pass on" do to a frame (wire.md, section 6)."""

from __future__ import annotations

import struct

from tests.model.checksum import adjusted_checksum, internet_checksum
from tests.model.config import Config, Dip
from tests.model.ecn import decapsulated_ecn
from tests.model.encap import wrap_length
from tests.model.gue import NEXT_HOP_AT
from tests.model.headers import ETHERNET_LENGTH, IPV4_LENGTH, Ipv4Header
from tests.model.link import header_towards

_OUTER_END = ETHERNET_LENGTH + IPV4_LENGTH


def accepted(frame: bytes, hop_count: int) -> bytes | None:
    """The frame for the local stack; None when RFC 6040 wants it dropped.

    AMBIGUOUS in wire.md: "the 14 bytes of Ethernet header followed by the inner packet" could mean
    that Ethernet padding goes. Accept "takes the wrap out", so it stays.
    """
    outer = Ipv4Header.parse(frame[ETHERNET_LENGTH:])
    inner = frame[ETHERNET_LENGTH + wrap_length(hop_count) :]
    tos = Ipv4Header.parse(inner).tos
    ecn = decapsulated_ecn(tos & 0b11, outer.tos & 0b11)
    if ecn is None:
        return None
    return frame[:ETHERNET_LENGTH] + _with_tos(inner, (tos & ~0b11) | ecn)


def _with_tos(packet: bytes, tos: int) -> bytes:
    """The packet with another TOS, its header checksum adjusted as RFC 1624, equation 3, says.

    AMBIGUOUS in wire.md: CE "becomes" CE "and the checksum is adjusted". Where nothing changes the
    model adjusts nothing; equation 3 differs only for a checksum of 0xffff, which no right header
    has.
    """
    header = Ipv4Header.parse(packet)
    if header.tos == tos:
        return packet
    first = packet[0] << 8
    checksum = adjusted_checksum(header.checksum, first | header.tos, first | tos)
    return packet[:1] + bytes([tos]) + packet[2:10] + struct.pack(">H", checksum) + packet[12:]


def passed_on(frame: bytes, hop: Dip, config: Config) -> bytes:
    """The frame for the next hop.

    AMBIGUOUS in wire.md: the outer checksum is "made right", which could mean adjusted. The model
    takes it at its word: computed anew, and so right even where it came in wrong.
    """
    ip = frame[ETHERNET_LENGTH:_OUTER_END]
    unsummed = ip[:10] + bytes(2) + config.self_dip.packed + hop.address.packed
    checksum = struct.pack(">H", internet_checksum(unsummed))
    outer = unsummed[:10] + checksum + unsummed[12:]
    rest = bytearray(frame[_OUTER_END:])
    rest[NEXT_HOP_AT - _OUTER_END] += 1
    return header_towards(hop, frame, config) + outer + bytes(rest)
