"""Identifies the network namespace of a process: boot of the machine, and namespace within it.

A record on disk is about one of them. After a reboot, or in a namespace that was made again under
the old name, nothing of what it lists exists any more.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

SO_NETNS_COOKIE = 71
"""socket(7), Linux 5.14: a number that no other network namespace of this boot ever has."""


@dataclass(frozen=True)
class NamespaceId:
    """One boot and one network namespace of it."""

    boot_id: str
    network: str


def current_namespace() -> NamespaceId:
    """Return the one of the calling thread."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return NamespaceId(boot_id, _network())


def _network() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            raw = probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        except OSError:  # Linux before 5.14: inode numbers can come again, but seldom do
            return f"inode:{Path('/proc/thread-self/ns/net').stat().st_ino}"
    return f"cookie:{struct.unpack('=Q', raw)[0]}"
