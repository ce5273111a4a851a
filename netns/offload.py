"""Switching an interface's offloads off, as `ethtool -K IF tx off gso off tso off` does.

One ioctl each (SIOCETHTOOL, include/uapi/linux/ethtool.h). The calling thread's network namespace
is the one that counts.
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


def switch_off_sending_offloads(interface: str) -> None:
    """Make the stack finish checksums and segments itself before `interface` gets them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in (ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM):
            value = array.array("I", [command, 0])
            request = struct.pack("16sQ16x", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(sock, SIOCETHTOOL, request)
