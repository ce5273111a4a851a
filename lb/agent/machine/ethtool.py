"""Offloads that change packets before programs see them (ethtool, linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Callable

SIOCETHTOOL = 0x8946
ETHTOOL_GFLAGS = 0x25
ETHTOOL_GGRO = 0x2B
ETH_FLAG_RXVLAN = 1 << 8
ETH_FLAG_LRO = 1 << 15
REQUEST = struct.Struct("16sP")
"""struct ifreq with a pointer to a struct ethtool_value, a command and its result."""


def read_flags(interface: str) -> int:
    """Return the ``ETH_FLAG_``s of an interface; 0 if the driver does not report them."""
    return _read(interface, ETHTOOL_GFLAGS)


def read_gro(interface: str) -> bool:
    """Return whether generic receive offload is on."""
    return bool(_read(interface, ETHTOOL_GGRO))


def _read(interface: str, command: int) -> int:
    value = array.array("I", [command, 0])
    request = REQUEST.pack(interface.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, SIOCETHTOOL, request)
        except OSError:  # no such interface, or a driver without ethtool: nothing to warn of
            return 0
    return value[1]


def lro_warning(interface: str, read: Callable[[str], int] = read_flags) -> str | None:
    """Return a warning if received packets are merged in a way that cannot be undone."""
    if not read(interface) & ETH_FLAG_LRO:
        return None
    return (
        f"large receive offload is on: packets merged by {interface} do not fit a link, nor are "
        f"they what the sender sent: ethtool -K {interface} lro off"
    )


def gro_warning(
    interface: str, xdp_mode: str, read: Callable[[str], bool] = read_gro
) -> str | None:
    """Return a warning if the kernel merges packets before generic XDP."""
    if xdp_mode != "generic" or not read(interface):
        return None
    return (
        f'generic receive offload is on, and with xdp_mode = "generic" programs see packets that '
        f"{interface} has merged: they do not fit a link: ethtool -K {interface} gro off"
    )


def vlan_warning(interface: str, read: Callable[[str], int] = read_flags) -> str | None:
    """Return a warning if an interface that has VLANs hides their tags."""
    if not read(interface) & ETH_FLAG_RXVLAN:
        return None
    return (
        f"{interface} takes VLAN tags out before programs see packets, so those for VIPs in its "
        f"VLANs are answered untagged: ethtool -K {interface} rxvlan off"
    )
