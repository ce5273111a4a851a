"""The rules by which replies from VIPs are routed by a table of ours (ip-rule(8)).

The kernel walks rules one by one at each look-up of a route, so there are never many: one for each
prefix of VIPs, or, where those are too many, one for all TCP that this host sends.

Their priority is the last before the main table's: the `local` table (priority 0) and everybody
else's rules are asked first, unless somebody chose the same number later. Ours are known by their
protocol and their table; no other is ever touched.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final

from controlplane.domain.objects import Vip
from lb.agent.netlink.messages import FAMILY, NUMBER, attribute, attributes, number
from lb.agent.netlink.route_socket import ADD, Request
from lb.agent.netlink.routes import OUR_PROTOCOL, RTMSG
from lb.agent.netlink.rules import (
    FR_ACT_TO_TBL,
    FRA_IIFNAME,
    FRA_IP_PROTO,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SRC,
    FRA_TABLE,
    RTM_NEWRULE,
    table_of_rule,
)

RULE_PRIORITY = 32765
MAX_PREFIXES = 32
"""Rules of a family, at most. Each makes each look-up of a route slower."""
ANY_SOURCE: Final[Mapping[int, Vip]] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""What the one rule without ``from`` is about. A VIP is never as short as that."""
ALL_TCP = attribute(FRA_IIFNAME, b"lo\0") + attribute(FRA_IP_PROTO, bytes([socket.IPPROTO_TCP]))
"""``iif lo``: what this host sends itself. Packets that it forwards or delivers do not match."""


def rules_wanted(vips: Iterable[Vip], version: int) -> frozenset[Vip]:
    """Return the fewest prefixes that are exactly these VIPs; ``version`` is 4 or 6.

    More than ``MAX_PREFIXES`` become one that has them all, ``ANY_SOURCE``.
    """
    found: list[Vip]
    if version == 4:  # noqa: PLR2004 IPv4
        found = [*collapse_addresses(vip for vip in vips if isinstance(vip, IPv4Network))]
    else:
        found = [*collapse_addresses(vip for vip in vips if isinstance(vip, IPv6Network))]
    return frozenset(found) if len(found) <= MAX_PREFIXES else frozenset({ANY_SOURCE[version]})


def rule_text(prefix: Vip, table: int) -> str:
    """Return a rule of ours in the syntax of ip-rule(8)."""
    selector = "iif lo ipproto tcp" if prefix in ANY_SOURCE.values() else f"from {prefix}"
    return f"{selector} lookup {table}"


def our_rule(body: bytes, table: int) -> tuple[Vip, int] | None:
    """Return prefix and priority of one of our rules, ``None`` for anybody else's."""
    family, _, src_len, _, _, _, _, action, _ = RTMSG.unpack_from(body)
    found = dict(attributes(body, RTMSG.size))
    if (table_of_rule(body), action) != (table, FR_ACT_TO_TBL):
        return None
    if found.get(FRA_PROTOCOL) != bytes([OUR_PROTOCOL]) or family not in FAMILY.values():
        return None
    priority = NUMBER.unpack(found[FRA_PRIORITY])[0] if FRA_PRIORITY in found else 0
    if FRA_SRC in found:
        return ip_network((found[FRA_SRC], src_len)), priority
    if all(found.get(kind) == value for kind, value in attributes(ALL_TCP)):
        return ANY_SOURCE[4 if family == socket.AF_INET else 6], priority
    return None


def change_rule(kind: int, prefix: Vip, table: int, priority: int = RULE_PRIORITY) -> Request:
    """Return the request that adds (``RTM_NEWRULE``) or deletes a rule of ours."""
    flags = ADD if kind == RTM_NEWRULE else 0
    family = FAMILY[prefix.version]
    body = RTMSG.pack(family, 0, prefix.prefixlen, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    if prefix in ANY_SOURCE.values():
        body += ALL_TCP
    else:
        body += attribute(FRA_SRC, prefix.network_address.packed)
    body += number(FRA_PRIORITY, priority) + number(FRA_TABLE, table)
    return Request(kind, body + attribute(FRA_PROTOCOL, bytes([OUR_PROTOCOL])), flags)
