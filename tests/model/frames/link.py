"""Ethernet frames around packets (IEEE 802.3, 802.1Q)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

ROUTER_MAC = bytes.fromhex("02000000fe01")
SERVER_MAC = bytes.fromhex("020000000a01")

# What a tag of each kind looks like on the wire: EtherType and priority, VLAN 5 and 100.
C_TAG = bytes.fromhex("8100a005")
S_TAG = bytes.fromhex("88a80064")


def ethernet(
    payload: bytes,
    *,
    destination: bytes = SERVER_MAC,
    source: bytes = ROUTER_MAC,
    kind: int = 0x0800,
    tags: Sequence[bytes] = (),
) -> bytes:
    """A frame around a payload. ``tags`` have 4 bytes each, the first one outermost."""
    return destination + source + b"".join(tags) + struct.pack(">H", kind) + payload


def framed(packet: bytes, *, tags: Sequence[bytes] = ()) -> bytes:
    """A frame around an IP packet, with the EtherType of its version."""
    return ethernet(packet, kind=0x86DD if packet[0] >> 4 == 6 else 0x0800, tags=tags)
