"""The MSS that SYN-ACKs of VIP connections advertise, so that a full packet fits once encapsulated.

Pure. A client's packet that fills the link does not fit it any more once encapsulated, and is lost,
or left to ICMP. So replies from VIPs are routed by a table of ours, a mirror of the main one whose
routes have ``advmss`` lowered: without a program or a packet filter, for SYN cookies too, and also
after the agent's end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain.objects import Vip
from controlplane.domain.overhead import overhead_bytes
from lb.agent.mss.mirror import Goal, Outcome
from lb.agent.netlink.messages import Message
from lb.agent.netlink.routes import RT_TABLE_MAIN, RTM_DELROUTE, RTM_NEWROUTE, table_of

USUAL_PACKET_BYTES = 1500
"""The largest packets of clients where nobody has jumbo frames."""


@dataclass(frozen=True)
class VipPaths:
    """The VIPs, how long chains may be, and the MTU of the narrowest path between servers, bytes.

    ``path_mtu`` ``None``: no path is narrower than the interface.
    """

    vips: frozenset[Vip]
    depth: int
    path_mtu: int | None = None


def is_lowered(mode: str, underlay_mtu: int, depth: int) -> bool:
    """Whether the MSS has to be lowered: with ``auto`` unless usual packets fit as they are.

    ``mode`` is the setting ``mss``, ``underlay_mtu`` the MTU of the interface with the DIP, bytes.
    """
    fits = underlay_mtu >= USUAL_PACKET_BYTES + overhead_bytes(depth)
    return mode == "lower" or (mode == "auto" and not fits)


def goal_for(paths: VipPaths, mode: str, table: int, underlay_mtu: int) -> Goal:
    """Return what is needed for these VIPs on an interface of this MTU."""
    if not paths.vips or not is_lowered(mode, underlay_mtu, paths.depth):
        return Goal(table)
    return Goal(table, paths.vips, overhead_bytes(paths.depth), underlay_mtu)


def concerns(notifications: Iterable[Message], table: int, own_port: int) -> bool:
    """Whether notifications, not of our own changes, are about links, rules or the two tables."""
    return any(
        message.kind not in (RTM_NEWROUTE, RTM_DELROUTE)
        or table_of(message.body) in (RT_TABLE_MAIN, table)
        for message in notifications
        if message.port != own_port
    )


def table_taken(table: int, others: int) -> str:
    """Return the warning about a table in which somebody else has routes."""
    return (
        f"routing table {table} has {others} routes that are not ours, so the MSS of VIPs is not "
        "lowered: set mss_table to a free one"
    )


def refused_routes(outcome: Outcome) -> str | None:
    """Return the warning about routes that the kernel refused, ``None`` if there are none."""
    if not outcome.refused:
        return None
    return (
        f"{len(outcome.refused)} routes have no copy with a lowered MSS, the first "
        f"{outcome.refused[0]}: packets there are routed by the main table"
    )
