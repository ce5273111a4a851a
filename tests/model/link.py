"""The link layer: tags that arrive, and the header that a packet leaves with.

Wire.md, sections 4.1 and 5; IEEE 802.1Q for the tags.
"""

from __future__ import annotations

from tests.model.config import Config, Dip
from tests.model.headers import ETHERNET_LENGTH

_IPV4 = b"\x08\x00"
TAG_TYPES = frozenset({b"\x81\x00", b"\x88\xa8"})
TAG_LENGTH = 4
_MOST_TAGS = 2


def l3_offset(frame: bytes) -> int | None:
    """Where the EtherType behind up to two tags ends, 14, 18 or 22; None: inside a tag (line F2).

    ``frame`` has at least 14 bytes. A third tag is an EtherType like any other.
    """
    offset = ETHERNET_LENGTH
    for _ in range(_MOST_TAGS):
        if frame[offset - 2 : offset] not in TAG_TYPES:
            return offset
        offset += TAG_LENGTH
        if len(frame) < offset:
            return None
    return offset


def header_towards(dip: Dip, frame: bytes, l3: int, config: Config) -> bytes:
    """What stands before the outer IPv4 header on the way to another server (wire.md, section 5).

    With an unknown MAC the packet goes back where ``frame`` came from.
    """
    macs = frame[6:12] + frame[0:6] if dip.mac is None else dip.mac + config.mac
    return macs + frame[12 : l3 - 2] + _IPV4


def header_to_self(frame: bytes, l3: int) -> bytes:
    """What stands before the outer IPv4 header of a packet to this very server (section 5)."""
    return frame[: l3 - 2] + _IPV4


def header_back(frame: bytes, l3: int) -> bytes:
    """What stands before an answer to the sender (wire.md, section 4.5)."""
    return frame[6:12] + frame[0:6] + frame[12:l3]
