"""The copy of a route whose `advmss` leaves space for the encapsulation. Pure."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lb.agent.netlink.bulk import NUMBER
from lb.agent.netlink.routes import DST, PRIORITY, SRC, THROW, UNICAST, Route

RTAX_MTU, RTAX_ADVMSS = 2, 8
HEADER_BYTES: Mapping[int, int] = {socket.AF_INET: 40, socket.AF_INET6: 60}
"""IP and TCP, without options (RFC 9293, section 3.7.1)."""
LEAST_ADVMSS = 256
"""The kernel's own least (net.ipv4.route.min_adv_mss)."""


def advertised_mss(family: int, mtus: Iterable[int], room: int) -> int:
    """Return the MSS that leaves ``room`` bytes on the narrowest of these links."""
    return max(LEAST_ADVMSS, min(mtus) - HEADER_BYTES[family] - room)


def lowered(route: Route, mtus: Mapping[int, int], underlay_mtu: int, room: int) -> Route:
    """Return the copy of a route, its MSS lowered; a lower one of its own stays.

    ``mtus`` are those of interfaces by index. ``underlay_mtu`` is that of the interface which
    wrapped packets use, ``room`` what the wrap takes of it, both in bytes.
    """
    if route.type != UNICAST:
        return route
    metrics = dict(route.metrics)
    known = [mtus[index] for index in route.interfaces if index in mtus]
    if RTAX_MTU in metrics:
        known.append(NUMBER.unpack(metrics[RTAX_MTU])[0])
    advmss = advertised_mss(route.family, [underlay_mtu, *known], room)
    if RTAX_ADVMSS in metrics:
        advmss = min(advmss, NUMBER.unpack(metrics[RTAX_ADVMSS])[0])
    metrics[RTAX_ADVMSS] = NUMBER.pack(advmss)
    return replace(route, metrics=tuple(sorted(metrics.items())))


def thrown(route: Route) -> Route:
    """Return a copy that sends the look-up on to the next rule, so to the original."""
    kept = tuple(pair for pair in route.attributes if pair[0] in (DST, SRC, PRIORITY))
    return replace(route, type=THROW, scope=0, onlink=False, attributes=kept, metrics=(), hops=())
