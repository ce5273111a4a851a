"""By which interfaces answers to clients beyond this server's own links can leave."""

from __future__ import annotations

from collections.abc import Iterable

from lb.agent.netlink.links import LOOPBACK_INDEX, ethernet_names
from lb.agent.netlink.messages import FAMILY
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.netlink.routes import RT_TABLE_MAIN, RTN_UNICAST, next_hops, read_table

MOST_LINKS = 16
"""More are left out: each has a filter that is watched."""


def leaving_by(bodies: Iterable[bytes]) -> frozenset[int]:
    """Return the interfaces of routes with a gateway, and of default routes. Pure.

    A route without a gateway leads to a link of this server's own, unless it is the default.
    """
    return frozenset(
        interface
        for body in bodies
        if body[7] == RTN_UNICAST
        for interface, gateway in next_hops(body)
        if (gateway is not None or body[1] == 0) and interface != LOOPBACK_INDEX
    )


def answer_links(netlink: RouteSocket) -> tuple[str, ...]:
    """Return the names of those interfaces by the main table, which are at most so many.

    Raises:
        OSError: the kernel does not let us read.

    """
    bodies = (b for family in FAMILY.values() for b in read_table(netlink, family, RT_TABLE_MAIN))
    indices = leaving_by(bodies)
    names = ethernet_names(netlink)
    return tuple(sorted(names[index] for index in indices if index in names)[:MOST_LINKS])
