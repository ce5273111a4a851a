"""Which frames the egress program takes note of (wire.md, section 8)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from tests.model.addresses import Address
from tests.model.config import Config
from tests.model.flow import Flow

LONGEST = 96
ETHERNET, IPV4, IPV6, TCP = 14, 20, 40, 20
RST, ACK = 4, 16


def reset_flow(frame: bytes, config: Config) -> Flow | None:
    """The flow of the segment that a frame answers, None if the program takes no note of it."""
    if len(frame) > LONGEST:
        return None
    kind, packet = frame[12:14], frame[ETHERNET:]
    if kind == b"\x08\x00":
        return _flow(packet, IPV4, config) if _is_plain_tcp4(packet) else None
    if kind == b"\x86\xdd":
        is_tcp = len(packet) >= IPV6 and packet[6] == 6
        return _flow(packet, IPV6, config) if is_tcp else None
    return None


def _is_plain_tcp4(packet: bytes) -> bool:
    if len(packet) < IPV4 or packet[0] != 0x45 or packet[9] != 6:
        return False
    return not int.from_bytes(packet[6:8], "big") & 0x3FFF


def _flow(packet: bytes, length: int, config: Config) -> Flow | None:
    segment = packet[length:]
    if len(segment) < TCP or segment[13] & (RST | ACK) != RST:
        return None
    vip, client = _addresses(packet, length)
    if not any(vip in service.vip for service in config.services):
        return None
    source, destination = (int.from_bytes(segment[at : at + 2], "big") for at in (2, 0))
    return Flow(6, client, source, vip, destination)


def _addresses(packet: bytes, length: int) -> tuple[Address, Address]:
    """Source and destination."""
    if length == IPV4:
        return IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    return IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
