"""The kernel settings that VIPs on ``lo`` need, and no others.

The kernel takes the larger of ``conf.all`` and ``conf.<interface>`` for each of the three
(ip-sysctl). ``arp_ignore`` 1 and ``arp_announce`` 2: this server does not answer ARP requests for a
VIP, nor use it as a source of its own; on ``all``, since a second interface in the same segment
would answer too. ``rp_filter`` 2 (loose) on the interface is enough, whatever ``all`` is:
decapsulated packets come from clients whose route may lead elsewhere.

IPv6 needs none of these: the kernel uses NDP only for addresses of the interface of a packet. It
has to be enabled on ``lo``, where that is not so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lb.agent.machine.undo_record import Journal

ROOT = Path("/proc/sys")
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
        changes[path] = (now, "2")
    return changes


def needed_for_ipv6(read: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Return what has to change for IPv6 VIPs; nothing without IPv6 in the kernel."""
    try:
        now = read(IPV6_OFF.format("lo"))
    except FileNotFoundError:
        return {}
    return {IPV6_OFF.format("lo"): (now, "0")} if now != "0" else {}


def ipv6_warning(interface: str, read: Callable[[str], str]) -> str | None:
    """Return a warning if an interface drops the IPv6 packets that others encapsulated for us.

    Enabling IPv6 there is left to people: it needs addresses and routes as well.
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
    """Record changes, then make them; of a second change the first old value stays recorded."""
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
