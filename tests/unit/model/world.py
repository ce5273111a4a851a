"""The small world of these tests: four servers, three VIPs, one chain for all buckets.

Server ``n`` has the DIP 10.0.0.n and the index n.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from tests.model import Config, Dip, Flow, Pool, Service, host

KEY = bytes(range(16))
BUCKETS = 256
VIP = IPv4Address("192.0.2.10")
OTHER_VIP = IPv4Address("192.0.2.11")
NO_VIP = IPv4Address("192.0.2.200")
CLIENT = IPv4Address("198.51.100.7")
PROBER = IPv4Address("10.9.9.9")
STRANGER = IPv4Address("203.0.113.5")
VIP6 = IPv6Address("2001:db8::10")
NO_VIP6 = IPv6Address("2001:db8::99")
CLIENT6 = IPv6Address("2001:db8:c::7")
HTTP, DNS, GAME, DNS_STATELESS, NO_TABLE, NO_POOL, HTTP6, DNS6 = range(8)

SERVICES = (
    Service(host(VIP), 6, 80, "web"),
    Service(host(VIP), 17, 53, "web"),
    Service(host(OTHER_VIP), 17, 27015, "web"),
    Service(host(OTHER_VIP), 17, 53, "web", stateless=True),
    Service(host(VIP), 6, 81, "empty"),
    Service(host(VIP), 6, 82, "missing"),
    Service(host(VIP6), 6, 443, "web"),
    Service(host(VIP6), 17, 53, "web"),
)


def dip(number: int) -> IPv4Address:
    """The address of a server."""
    return IPv4Address(f"10.0.0.{number}")


def mac(number: int) -> bytes:
    """The MAC of a server."""
    return bytes([2, 0, 0, 0, 0, number])


def config(
    at: int,
    chain: tuple[int, ...] = (),
    *,
    servers: int = 4,
    mtu: int = 1500,
    depth: int = 4,
    no_entry: frozenset[int] = frozenset(),
    no_mac: frozenset[int] = frozenset(),
) -> Config:
    """What server ``at`` knows while every bucket has the same chain."""
    numbers = range(1, servers + 1)
    return Config(
        self_dip=dip(at),
        mac=mac(at),
        mtu=mtu,
        services=SERVICES,
        pools={
            "web": Pool(KEY, BUCKETS, dict.fromkeys(range(BUCKETS), chain), depth=depth),
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


def flow(service: int = HTTP, source_port: int = 40000) -> Flow:
    """A client's flow to one of the services."""
    target = SERVICES[service]
    client = CLIENT if target.vip.version == 4 else CLIENT6
    return Flow(target.protocol, client, source_port, target.vip[0], target.port or 0)
