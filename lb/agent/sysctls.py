"""The kernel settings that VIPs on ``lo`` need, and nothing more than they need.

The kernel takes the larger of ``conf.all`` and ``conf.<interface>`` for each of the three
(ip-sysctl). ``arp_ignore`` 1 and ``arp_announce`` 2: nobody answers ARP for a VIP, nor asks in its
name; on ``all``, since a second interface in the same segment would answer too. ``rp_filter`` 2
(loose) on the interface is enough, whatever ``all`` says: decapsulated packets come from clients
whose route may lead elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path("/proc/sys")
LOOSE = 2


def needed_sysctls(interface: str, read: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Return what has to change: path below ``/proc/sys`` -> (value now, value wanted)."""
    changes: dict[str, tuple[str, str]] = {}
    for name, wanted in (("arp_ignore", 1), ("arp_announce", 2)):
        for scope in ("all", interface):
            path = f"net/ipv4/conf/{scope}/{name}"
            now = read(path)
            if int(now) < wanted:
                changes[path] = (now, str(wanted))
    path = f"net/ipv4/conf/{interface}/rp_filter"
    now, for_all = read(path), read("net/ipv4/conf/all/rp_filter")
    if max(int(now), int(for_all)) == 1:
        changes[path] = (now, str(LOOSE))
    return changes


def read_sysctl(path: str) -> str:
    """Return a setting of the calling thread's network namespace."""
    return (ROOT / path).read_text(encoding="ascii").strip()


def write_sysctl(path: str, value: str) -> None:
    """Set it."""
    (ROOT / path).write_text(value, encoding="ascii")
