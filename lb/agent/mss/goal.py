"""Room for the wrap: what SYN-ACKs of VIP connections advertise, so that a full packet fits. Pure.

A client's packet that fills the link does not fit it any more once wrapped, and is lost, or left
to ICMP. So answers of VIPs are routed by a table of ours, a mirror of the main one whose routes
have ``advmss`` lowered: without a program or a packet filter, for SYN cookies too, and beyond the
agent's life.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.objects import Vip
from controlplane.domain.overhead import overhead_bytes
from lb.agent.mss.mirror import Goal, Outcome
from lb.agent.netlink.bulk import messages
from lb.agent.netlink.routes import MAIN, table_of

USUAL_PACKET_BYTES = 1500
"""What clients send at most where nobody has jumbo frames."""
ROUTE_EVENTS = frozenset({24, 25})


@dataclass(frozen=True)
class Wish:
    """The VIPs, and how deep chains may be."""

    vips: frozenset[Vip]
    depth: int


def is_lowered(mode: str, underlay_mtu: int, depth: int) -> bool:
    """Whether the MSS has to leave room: ``auto`` says so unless usual packets fit as it is.

    ``mode`` is the setting ``mss``, ``underlay_mtu`` in bytes that of the interface with the DIP.
    """
    has_room = underlay_mtu >= USUAL_PACKET_BYTES + overhead_bytes(depth)
    return mode == "lower" or (mode == "auto" and not has_room)


def goal_for(wish: Wish, mode: str, table: int, underlay_mtu: int) -> Goal:
    """Return what a wish comes to on an interface of this MTU."""
    if not wish.vips or not is_lowered(mode, underlay_mtu, wish.depth):
        return Goal(table)
    return Goal(table, wish.vips, overhead_bytes(wish.depth), underlay_mtu)


def concerns(data: bytes, table: int, own_port: int) -> bool:
    """Whether notifications, not of our own doing, are about links, rules or the two tables."""
    for kind, _flags, port, body in messages(data):
        if port == own_port:
            continue
        if kind not in ROUTE_EVENTS or table_of(body) in (MAIN, table):
            return True
    return False


def table_taken(table: int, others: int) -> str:
    """Return what to say of a table in which somebody else has routes."""
    return (
        f"routing table {table} has {others} routes that are not ours, so the MSS of VIPs is not "
        "lowered: set mss_table to a free one"
    )


def trouble_in(outcome: Outcome) -> str | None:
    """Return what to say of routes that the kernel refused."""
    if not outcome.refused:
        return None
    return (
        f"{len(outcome.refused)} routes have no copy with a lowered MSS, the first "
        f"{outcome.refused[0]}: packets there are routed by the main table"
    )
