"""The packet with which one server tests the path to another (wire.md, section 7.2)."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.model.config import Config
from tests.model.gue import PROTO_IPV4, GueHeader
from tests.model.headers import ICMP_LENGTH, IPV4_LENGTH, PROTOCOL_ICMP, Ipv4Header

_ECHO_REQUEST = b"\x08\x00"
_LEAST_LENGTH = IPV4_LENGTH + ICMP_LENGTH


def is_path_probe(data: bytes, gue: GueHeader, sender: IPv4Address, config: Config) -> bool:
    """Whether an inner packet is a path probe that this server accepts.

    ``data`` is an inner packet that lines R1 to R8 let through, ``sender`` the outer source. Two
    things are not looked at because the page does not name them: forward_syn, and TOS.
    """
    if (gue.proto, gue.hop_count) != (PROTO_IPV4, 0):
        return False
    header = Ipv4Header.parse(data)
    return (
        (header.ihl, header.protocol, header.is_fragment) == (5, PROTOCOL_ICMP, False)
        and header.total_length >= _LEAST_LENGTH
        and data[IPV4_LENGTH:][:2] == _ECHO_REQUEST
        and header.destination == config.self_dip
        and header.source == sender
    )
