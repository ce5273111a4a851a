"""A kernel's routes and neighbours, as far as the agent asks for them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from lb.agent.netlink import neighbours as module
from lb.agent.netlink.messages import NUMBER, attribute, attributes, number
from lb.agent.netlink.neighbours import NDA_DST, NDA_LLADDR, NDMSG, RTM_GETNEIGH, RTM_NEWNEIGH
from lb.agent.netlink.next_hops import RTM_F_FIB_MATCH, Hop
from lb.agent.netlink.route_socket import Request, RouteSocket
from lb.agent.netlink.routes import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_TABLE,
    RTA_VIA,
    RTMSG,
    RTNEXTHOP,
)
from lb.agent.netlink.rules import RTM_GETRULE

OURS, OTHER = 3, 4
MAIN = 254
GATEWAY = IPv4Address("10.0.0.254")
GATEWAY6 = IPv6Address("fe80::1")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def gateway(hop: Hop | None) -> bytes:
    """The attribute of a next hop: RTA_VIA has its family first."""
    if hop is None:
        return b""
    if hop.version == 4:
        return attribute(RTA_GATEWAY, hop.packed)
    return attribute(RTA_VIA, socket.AF_INET6.to_bytes(2, "little") + hop.packed)


def direct(hop: Hop | None = None, interface: int = OURS) -> bytes:
    """A route's attributes: one next hop, without an address the destination itself."""
    return number(RTA_OIF, interface) + gateway(hop)


def multipath(*hops: tuple[int, Hop | None]) -> bytes:
    """A route's attributes: several next hops."""
    parts = []
    for interface, hop in hops:
        inner = gateway(hop)
        parts.append(RTNEXTHOP.pack(RTNEXTHOP.size + len(inner), 0, 0, interface) + inner)
    return attribute(RTA_MULTIPATH, b"".join(parts))


class FakeKernel(RouteSocket):
    """The longest prefix counts. ``hidden`` is shown only to who does not ask for the route."""

    def __init__(self) -> None:
        self.routes: dict[IPv4Network, bytes] = {
            IPv4Network("10.0.0.0/24"): direct(),
            IPv4Network("10.9.0.0/16"): direct(GATEWAY),
        }
        self.hidden: dict[int, bytes] = {}
        self.rules: list[bytes] = []
        self.entries: dict[Hop, tuple[bytes | None, int]] = {}
        self.asked: list[Hop] = []
        self.looked_up: list[IPv4Address] = []
        self.dumps = 0

    def get_each(self, _: int, bodies: Sequence[bytes]) -> list[bytes | None]:
        return [self._route(body) for body in bodies]

    def _route(self, body: bytes) -> bytes | None:
        found = dict(attributes(body, RTMSG.size))
        dip = IPv4Address(found[RTA_DST])
        assert found[RTA_OIF] == NUMBER.pack(OURS)
        assert body[1] == 32
        matched = bool(RTMSG.unpack_from(body)[8] & RTM_F_FIB_MATCH)
        if matched:
            self.looked_up.append(dip)
        covering = [network for network in self.routes if dip in network]
        if not covering:
            # Without a route, the kernel supposes that it is on the link that is asked about.
            return None if matched else self._answer(32, direct())
        best = max(covering, key=lambda network: network.prefixlen)
        inner = self.routes[best]
        shown = dict(attributes(inner))
        if not matched and RTA_NH_ID in shown:
            inner = self.hidden[NUMBER.unpack(shown[RTA_NH_ID])[0]]
        return self._answer(best.prefixlen, inner)

    def _answer(self, length: int, inner: bytes) -> bytes:
        head = RTMSG.pack(socket.AF_INET, length, 0, 0, MAIN, 0, 0, 1, 0)
        return head + number(RTA_TABLE, MAIN) + inner

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Rules, or the neighbours of a family, with one of another interface."""
        if kind == RTM_GETRULE:
            return self.rules
        assert kind == RTM_GETNEIGH
        self.dumps += 1
        found = [entry(GATEWAY, bytes(6), 0x80, OURS + 1)]
        for address, (mac, state) in self.entries.items():
            if FAMILIES[address.version] == body[0]:
                found.append(entry(address, mac, state))
        return found

    def change(self, requests: Sequence[Request]) -> list[int]:
        for request in requests:
            assert request.kind == RTM_NEWNEIGH
            family, index, state, flags, _ = NDMSG.unpack_from(request.body)
            assert (index, state, flags) == (OURS, 0, module.NTF_USE)
            found = dict(attributes(request.body, NDMSG.size))
            address = ip_address(found[NDA_DST])
            assert family == FAMILIES[address.version]
            self.asked.append(address)
        return [0 for _ in requests]


def entry(address: Hop, mac: bytes | None, state: int, interface: int = OURS) -> bytes:
    """The message of a neighbour."""
    body = NDMSG.pack(FAMILIES[address.version], interface, state, 0, 0)
    body += attribute(NDA_DST, address.packed)
    return body + (attribute(NDA_LLADDR, mac) if mac else b"")
