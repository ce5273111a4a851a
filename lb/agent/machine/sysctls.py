"""The kernel settings that VIPs on ``lo`` need, and nothing more than they need.

The kernel takes the larger of ``conf.all`` and ``conf.<interface>`` for each of the three
(ip-sysctl). ``arp_ignore`` 1 and ``arp_announce`` 2: nobody answers ARP for a VIP, nor asks in its
name; on ``all``, since a second interface in the same segment would answer too. ``rp_filter`` 2
(loose) on the interface is enough, whatever ``all`` says: decapsulated packets come from clients
whose route may lead elsewhere.

IPv6 has none of these: the kernel answers and asks by NDP only for addresses of the interface that
a packet came by. It has to be switched on for ``lo``, where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lb.agent.machine.undo_record import Journal

ROOT = Path("/proc/sys")
LOOSE = 2
IPV6_OFF = "net/ipv6/conf/{}/disable_ipv6"


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


def needed_for_ipv6(read: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Return what has to change for IPv6 VIPs, likewise. Nothing, where there is no IPv6 at all."""
    try:
        now = read(IPV6_OFF.format("lo"))
    except FileNotFoundError:
        return {}
    return {IPV6_OFF.format("lo"): (now, "0")} if now != "0" else {}


def ipv6_warning(interface: str, read: Callable[[str], str]) -> str | None:
    """Return what to say where an interface drops the IPv6 packets that were wrapped for us.

    Switching it on is not for us: it needs addresses and routes as well.
    """
    try:
        off = read(IPV6_OFF.format(interface)) != "0"
    except FileNotFoundError:
        off = True
    if not off:
        return None
    return (
        f"IPv6 is off on {interface}, so packets for IPv6 VIPs are dropped here: "
        f"sysctl -w net.ipv6.conf.{interface}.disable_ipv6=0, and give it a route to the clients"
    )


def change(
    journal: Journal,
    changes: Mapping[str, tuple[str, str]],
    write: Callable[[str, str], None],
) -> None:
    """Make changes, on record first; what an earlier agent changed stays recorded with it."""
    recorded = journal.record.sysctls
    kept = {
        path: (recorded[path][0] if path in recorded else old, new)
        for path, (old, new) in changes.items()
    }
    journal.note(sysctls={**recorded, **kept})
    for path, (_, new) in changes.items():
        write(path, new)


def read_sysctl(path: str) -> str:
    """Return a setting of the calling thread's network namespace."""
    return (ROOT / path).read_text(encoding="ascii").strip()


def write_sysctl(path: str, value: str) -> None:
    """Set it."""
    (ROOT / path).write_text(value, encoding="ascii")
