"""The copy of a route, with ``advmss`` (ip-route(8)) lowered by the encapsulation's overhead. Pure.

A copy leads where its original leads, but is in another table, has our protocol, and makes SYN-ACKs
that leave by it advertise a smaller MSS.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lb.agent.netlink.messages import NUMBER
from lb.agent.netlink.routes import (
    RTA_DST,
    RTA_PRIORITY,
    RTA_SRC,
    RTN_THROW,
    RTN_UNICAST,
    Route,
)

RTAX_MTU, RTAX_ADVMSS = 2, 8
HEADER_BYTES: Mapping[int, int] = {socket.AF_INET: 40, socket.AF_INET6: 60}
"""IP and TCP, without options (RFC 9293, section 3.7.1)."""
LEAST_ADVMSS = 256
"""The kernel's own minimum (net.ipv4.route.min_adv_mss)."""


def advertised_mss(family: int, mtus: Iterable[int], overhead: int) -> int:
    """Return the MSS with which packets and ``overhead`` bytes fit the narrowest of these links."""
    return max(LEAST_ADVMSS, min(mtus) - HEADER_BYTES[family] - overhead)


def lowered(route: Route, mtus: Mapping[int, int], underlay_mtu: int, overhead: int) -> Route:
    """Return the copy of a route with its MSS lowered; a lower one of its own stays.

    ``mtus`` are those of interfaces by index. ``underlay_mtu`` is that of the interface for
    encapsulated packets, ``overhead`` the size of the encapsulation, both in bytes.
    """
    if route.type != RTN_UNICAST:
        return route
    metrics = dict(route.metrics)
    known = [mtus[index] for index in route.interfaces if index in mtus]
    if RTAX_MTU in metrics:
        known.append(NUMBER.unpack(metrics[RTAX_MTU])[0])
    advmss = advertised_mss(route.family, [underlay_mtu, *known], overhead)
    if RTAX_ADVMSS in metrics:
        advmss = min(advmss, NUMBER.unpack(metrics[RTAX_ADVMSS])[0])
    metrics[RTAX_ADVMSS] = NUMBER.pack(advmss)
    return replace(route, metrics=tuple(sorted(metrics.items())))


def thrown(route: Route) -> Route:
    """Return a copy that sends the look-up on to the next rule, so to the original."""
    identity = (RTA_DST, RTA_SRC, RTA_PRIORITY)
    kept = tuple(pair for pair in route.attributes if pair[0] in identity)
    return replace(
        route, type=RTN_THROW, scope=0, onlink=False, attributes=kept, metrics=(), hops=()
    )
