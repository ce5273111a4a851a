"""Frames for tests, right by default and wrong wherever a test says so.

Every field that a check of wire.md looks at can be overridden; lengths and checksums follow from
the rest unless they are. Packets have no Ethernet header; ``framed`` or ``ethernet`` puts one on.
Addresses choose the family.
"""

from __future__ import annotations

from tests.model.frames.extension import (
    Extension,
    authentication,
    chained,
    destination_options,
    fragment_header,
    hop_by_hop,
    routing,
)
from tests.model.frames.fragments import fragments_of
from tests.model.frames.gue import gue_packet
from tests.model.frames.icmp import icmp_error, icmp_packet
from tests.model.frames.ip import ip_packet, ipv4, ipv6
from tests.model.frames.link import C_TAG, ROUTER_MAC, S_TAG, SERVER_MAC, ethernet, framed
from tests.model.frames.transport import tcp_packet, udp_packet

__all__ = [
    "C_TAG",
    "ROUTER_MAC",
    "SERVER_MAC",
    "S_TAG",
    "Extension",
    "authentication",
    "chained",
    "destination_options",
    "ethernet",
    "fragment_header",
    "fragments_of",
    "framed",
    "gue_packet",
    "hop_by_hop",
    "icmp_error",
    "icmp_packet",
    "ip_packet",
    "ipv4",
    "ipv6",
    "routing",
    "tcp_packet",
    "udp_packet",
]
