"""By which interfaces answers leave, from the messages of routes."""

from __future__ import annotations

import socket
import struct

import pytest

from lb.agent.netlink.answer_links import leaving_by
from lb.agent.netlink.messages import attribute, number
from lb.agent.netlink.routes import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTMSG,
    RTN_BLACKHOLE,
    RTN_UNICAST,
)

GATEWAY = attribute(RTA_GATEWAY, bytes([10, 0, 0, 1]))


def route(length: int, attributes: bytes, kind: int = RTN_UNICAST) -> bytes:
    head = RTMSG.pack(socket.AF_INET, length, 0, 0, 254, 3, 0, kind, 0)
    return head + (attribute(RTA_DST, bytes([198, 51, 100, 0])) if length else b"") + attributes


def hop(interface: int, gateway: bytes) -> bytes:
    return struct.pack("=HBBi", 8 + len(gateway), 0, 0, interface) + gateway


@pytest.mark.parametrize(
    ("body", "interfaces"),
    [
        (route(0, number(RTA_OIF, 3) + GATEWAY), {3}),
        (route(0, number(RTA_OIF, 3)), {3}),
        (route(24, number(RTA_OIF, 3) + GATEWAY), {3}),
        (route(24, number(RTA_OIF, 3)), set()),
        (route(0, number(RTA_OIF, 1)), set()),
        (route(0, attribute(RTA_MULTIPATH, hop(3, GATEWAY) + hop(4, GATEWAY))), {3, 4}),
        (route(24, attribute(RTA_MULTIPATH, hop(3, GATEWAY) + hop(4, b""))), {3}),
        (route(0, number(RTA_OIF, 3), RTN_BLACKHOLE), set()),
    ],
    ids=[
        *("default by a gateway", "default on a link", "by a gateway", "connected"),
        *("loopback", "two next hops", "one of them connected", "blackhole"),
    ],
)
def test_routes_beyond_this_servers_links_count(body: bytes, interfaces: set[int]) -> None:
    assert leaving_by([body]) == interfaces
