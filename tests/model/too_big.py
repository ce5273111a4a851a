"""A packet that does not fit the link once wrapped, and the answer to it (wire.md, section 4.5)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from tests.model.addresses import Address
from tests.model.arrival import Arrival, Found
from tests.model.checksum import internet_checksum
from tests.model.config import Config, Pool
from tests.model.encap import ipv4_header, room
from tests.model.headers import PROTOCOL_ICMP, PROTOCOL_ICMPV6
from tests.model.link import header_back
from tests.model.memory import Memory
from tests.model.result import Result

_QUOTE = 512
_TOS = 0xC0
_NO_ANSWER_TO = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("224.0.0.0/3"),  # at least 224.0.0.0
    IPv6Network("::/127"),  # :: and ::1
    IPv6Network("ff00::/8"),
)


def can_be_told(arrival: Arrival, found: Found) -> bool:
    """Whether the packet is of a kind that an answer may be about (lines F19 and F20).

    Neither IPv4 without DF, nor a later fragment, nor an ICMP error is. What else section 4.5 does
    not answer, because of its length, its source or the window, is no kind of packet.
    """
    return arrival.packet.dont_fragment and found.answerable


def too_big(arrival: Arrival, found: Found, pool: Pool, config: Config, memory: Memory) -> Result:
    """Line F20: the answer to the sender where there may be one, else a drop.

    AMBIGUOUS in wire.md: an MTU under the room would be answered with a negative number. No
    interface has one; the model says 0.
    """
    packet = arrival.packet
    may_answer = (
        can_be_told(arrival, found)
        and packet.length >= _QUOTE
        and not any(packet.source in network for network in _NO_ANSWER_TO)
        and memory.may_answer()
    )
    if not may_answer:
        return Result("drop", "drop_too_big", None, found.service)
    mtu = max(config.mtu - room(pool.depth), 0)
    answer = _answer(packet.destination, packet.source, mtu, arrival.data[:_QUOTE])
    frame = header_back(arrival.frame, arrival.l3) + answer
    return Result("tx", "tx_too_big", frame, found.service)


def _answer(vip: Address, client: Address, mtu: int, quote: bytes) -> bytes:
    """The ICMP packet (RFC 1191, section 4; RFC 4443, section 3.2)."""
    if isinstance(vip, IPv4Address):
        message = _summed(b"", struct.pack(">BBHHH", 3, 4, 0, 0, min(mtu, 0xFFFF)) + quote)
        return ipv4_header(_TOS, 20 + len(message), PROTOCOL_ICMP, vip, client) + message
    message = struct.pack(">BBHI", 2, 0, 0, mtu) + quote
    addresses = vip.packed + client.packed
    pseudo_header = addresses + struct.pack(">II", len(message), PROTOCOL_ICMPV6)
    fixed = struct.pack(">IHBB", 6 << 28, len(message), PROTOCOL_ICMPV6, 64)
    return fixed + addresses + _summed(pseudo_header, message)


def _summed(pseudo_header: bytes, message: bytes) -> bytes:
    """The message with its checksum in bytes 2 and 3, which were 0."""
    checksum = internet_checksum(pseudo_header + message)
    return message[:2] + struct.pack(">H", checksum) + message[4:]
