"""Sets the offloads of an interface, as `ethtool -K IF tx off gso off tso off` and `gro off` do.

Each is one ioctl (SIOCETHTOOL, include/uapi/linux/ethtool.h) in the network namespace of the
calling thread.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETHTOOL_STSO = 0x1F
ETHTOOL_SGSO = 0x24
ETHTOOL_GGRO = 0x2B
ETHTOOL_SGRO = 0x2C


def switch_off_sending_offloads(interface: str) -> None:
    """Make the stack complete checksums and segments before it hands packets to `interface`."""
    for command in (ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM):
        _ethtool(interface, command, 0)


def switch_merging(interface: str, *, on: bool) -> bool:
    """Set whether received segments are merged (GRO), and return the previous setting."""
    before = bool(_ethtool(interface, ETHTOOL_GGRO, 0))
    _ethtool(interface, ETHTOOL_SGRO, int(on))
    return before


def _ethtool(interface: str, command: int, number: int) -> int:
    value = array.array("I", [command, number])
    request = struct.pack("16sQ16x", interface.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)
    return int(value[1])
