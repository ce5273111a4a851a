"""The world of the rows: four servers, their services of both families, one chain for all flows.

Server ``n`` has the DIP 10.0.0.n and the index n. Frames come to SERVER_MAC, the MAC of whatever
server the row is about.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import product
from typing import Any

from tests.model import (
    Address,
    Config,
    Dip,
    Flow,
    Pool,
    Service,
    bucket_of,
    host,
    outer_source_port,
)
from tests.model.frames import SERVER_MAC, tcp_packet, udp_packet

KEY = bytes(range(16))
BUCKETS, BUCKETS_OF_FLOWS = 256, 4096
VIP = IPv4Address("192.0.2.10")
OTHER_VIP = IPv4Address("192.0.2.11")
NO_VIP = IPv4Address("192.0.2.200")
CLIENT = IPv4Address("198.51.100.7")
PROBER = IPv4Address("10.9.9.9")
STRANGER = IPv4Address("203.0.113.5")
VIP6 = IPv6Address("2001:db8::10")
NO_VIP6 = IPv6Address("2001:db8::99")
CLIENT6 = IPv6Address("2001:db8:c::7")
ROUTER, ROUTER6 = STRANGER, CLIENT6 + 0x100
WIDE, AROUND = IPv4Network("192.0.8.0/22"), IPv4Network("192.0.8.0/21")
WIDE6, AROUND6 = IPv6Network("2001:db8:108::/48"), IPv6Network("2001:db8:108::/45")
IN_WIDE, IN_WIDE6 = IPv4Address("192.0.10.200"), IPv6Address("2001:db8:108::77")
HTTP, DNS, GAME, DNS_STATELESS, NO_TABLE, NO_POOL, HTTP6, DNS6, ON_GUE_PORT = range(9)
WIDE_ANY, WIDE_HTTP, AROUND_HTTPS, WIDE6_ANY, AROUND6_HTTPS = range(9, 14)

SERVICES = (
    Service(host(VIP), 6, 80, "web"),
    Service(host(VIP), 17, 53, "web"),
    Service(host(OTHER_VIP), 17, 27015, "web"),
    Service(host(OTHER_VIP), 17, 53, "web", stateless=True),
    Service(host(VIP), 6, 81, "empty"),
    Service(host(VIP), 6, 82, "missing"),
    Service(host(VIP6), 6, 443, "web"),
    Service(host(VIP6), 17, 53, "web"),
    Service(host(VIP), 17, 6080, "web"),
    Service(WIDE, 6, None, "web"),
    Service(WIDE, 6, 80, "sticky"),
    Service(AROUND, 6, 443, "empty"),
    Service(WIDE6, 6, None, "web"),
    Service(AROUND6, 6, 443, "empty"),
)
FAMILIES: tuple[tuple[Address, Address], ...] = ((VIP, CLIENT), (VIP6, CLIENT6))
"""VIPs and clients."""


def dip(number: int) -> IPv4Address:
    """The address of a server."""
    return IPv4Address(f"10.0.0.{number}")


def mac(number: int) -> bytes:
    """The MAC by which another server is reached."""
    return bytes([2, 0, 0, 0, 0, number])


def client_of(vip: Address) -> Address:
    """The client of the VIP's family."""
    return CLIENT if vip.version == 4 else CLIENT6


@cache
def _buckets_of_flows(*, by_client: bool) -> tuple[int, ...]:
    """The buckets of all flows that rows have: another hash would find an empty bucket."""
    vips: tuple[Address, ...] = (VIP, OTHER_VIP, IN_WIDE, VIP6, IN_WIDE6)
    ports = (53, 80, 81, 443, 4711, 6080, 27015)
    flows = (
        Flow(protocol, client_of(vip), source_port, vip, port)
        for vip, protocol, source_port, port in product(vips, (6, 17), (1, 40000), ports)
    )
    hashes = {flow.hash(KEY, by_client=by_client) for flow in flows}
    return tuple(sorted({bucket_of(number, BUCKETS_OF_FLOWS) for number in hashes}))


@cache
def _pool(chain: tuple[int, ...], depth: int, *, only_flows: bool, by_client: bool = False) -> Pool:
    buckets = _buckets_of_flows(by_client=by_client) if only_flows else range(BUCKETS)
    size = BUCKETS_OF_FLOWS if only_flows else BUCKETS
    return Pool(KEY, size, dict.fromkeys(buckets, chain), depth=depth, by_client=by_client)


@cache
def config(
    at: int,
    chain: tuple[int, ...] = (),
    *,
    servers: int = 4,
    mtu: int = 1500,
    depth: int = 4,
    no_entry: frozenset[int] = frozenset(),
    no_mac: frozenset[int] = frozenset(),
    only_flows: bool = False,
) -> Config:
    """Server ``at``; every bucket, or with ``only_flows`` that of each flow, has the chain."""
    numbers = range(1, servers + 1)
    return Config(
        self_dip=dip(at),
        mac=SERVER_MAC,
        mtu=mtu,
        services=SERVICES,
        pools={
            "web": _pool(chain, depth, only_flows=only_flows),
            "sticky": _pool(chain, depth, only_flows=only_flows, by_client=True),
            "empty": None,
        },
        dips={
            number: Dip(dip(number), None if number in no_mac else mac(number))
            for number in numbers
            if number not in no_entry
        },
        known=frozenset(dip(number) for number in numbers),
        probers=frozenset({PROBER}),
    )


def here(
    *chain: int,
    mtu: int = 1500,
    depth: int = 4,
    no_entry: frozenset[int] = frozenset(),
    no_mac: frozenset[int] = frozenset(),
) -> Config:
    """Server 1, where only the buckets of the rows' flows have the chain."""
    return config(1, chain, mtu=mtu, depth=depth, no_entry=no_entry, no_mac=no_mac, only_flows=True)


AT_REST = here(2)
AT_HOP = config(2)


def flow(service: int = HTTP, source_port: int = 40000) -> Flow:
    """A client's flow to one of the services."""
    target = SERVICES[service]
    client = client_of(target.vip[0])
    return Flow(target.protocol, client, source_port, target.vip[0], target.port or 0)


def outer_port(service: int = HTTP, source_port: int = 40000) -> bytes:
    """The outer source port of that flow's packets (wire.md, section 1)."""
    return outer_source_port(flow(service, source_port).hash(KEY)).to_bytes(2, "big")


# What clients send, and what servers answer.
NOPS = b"\x01\x01\x01\x00"
SYN, RST, ACK, FIN = 0x02, 0x04, 0x10, 0x01
TCP = tcp_packet(CLIENT, 40000, VIP, 80)
UDP = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question")
TCP6 = tcp_packet(CLIENT6, 40000, VIP6, 443)
UDP6 = udp_packet(CLIENT6, 40000, VIP6, 53, payload=b"question")
DATA = tcp_packet(CLIENT, 40000, VIP, 80, flags=ACK, payload=b"data")
DATA6 = tcp_packet(CLIENT6, 40000, VIP6, 443, flags=ACK, payload=b"data")
ANSWER = tcp_packet(VIP, 80, CLIENT, 40000, flags=ACK)
ANSWER6 = tcp_packet(VIP6, 443, CLIENT6, 40000, flags=ACK)
REPLY = udp_packet(VIP, 53, CLIENT, 40000)
REPLY6 = udp_packet(VIP6, 53, CLIENT6, 40000)


def patched(packet: bytes, at: int, value: bytes) -> bytes:
    """The packet with some bytes overwritten."""
    return packet[:at] + value + packet[at + len(value) :]


def tcp(flags: int = ACK, port: int = 40000, vip: Address = VIP, **fields: Any) -> bytes:
    """A client's TCP."""
    return tcp_packet(
        client_of(vip), port, vip, 80 if vip.version == 4 else 443, flags=flags, **fields
    )
