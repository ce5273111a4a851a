"""Routing rules as netlink has them (ip-rule(8)), and the tables that they lead to."""

from __future__ import annotations

import socket

from lb.agent.netlink.messages import NUMBER, attributes
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.netlink.routes import OUR_PROTOCOL, RT_TABLE_LOCAL, RT_TABLE_MAIN, RTMSG

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FR_ACT_TO_TBL = 1
FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_L3MDEV = 2, 3, 6, 15, 19
FRA_PROTOCOL, FRA_IP_PROTO = 21, 22


def dump_request(family: int) -> bytes:
    """Return the body that requests all rules of a family."""
    return RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def table_of_rule(body: bytes) -> int:
    """Return the table that a rule leads to."""
    found = dict(attributes(body, RTMSG.size))
    return int(NUMBER.unpack(found[FRA_TABLE])[0]) if FRA_TABLE in found else body[4]


def tables_in_use(netlink: RouteSocket) -> frozenset[int] | None:
    """Return the tables that can route packets to DIPs, ``None`` if any can.

    Our own rules are for packets from VIPs. A rule for VRFs (``l3mdev``) does not name its table.
    """
    bodies = netlink.dump(RTM_GETRULE, dump_request(socket.AF_INET))
    tables = {RT_TABLE_LOCAL, RT_TABLE_MAIN}
    for body in bodies:
        found = dict(attributes(body, RTMSG.size))
        if found.get(FRA_L3MDEV, b"\0") != b"\0":
            return None
        if body[7] == FR_ACT_TO_TBL and found.get(FRA_PROTOCOL) != bytes([OUR_PROTOCOL]):
            tables.add(table_of_rule(body))
    return frozenset(tables)
