"""Which Ethernet header a packet leaves with (wire.md, section 5)."""

from __future__ import annotations

from tests.model.config import Config, Dip

_IPV4 = b"\x08\x00"


def header_towards(dip: Dip, frame: bytes, config: Config) -> bytes:
    """The 14 bytes for a packet on its way to another server.

    With an unknown MAC the packet goes back where ``frame`` came from.
    """
    if dip.mac is None:
        return frame[6:12] + frame[0:6] + _IPV4
    return dip.mac + config.mac + _IPV4
