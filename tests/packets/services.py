"""Which service a packet is for, and which bucket: wire.md, sections 1 and 4.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from tests.model import Address, Config, Flow, Pool, Service, bucket_of, host, outer_source_port
from tests.model.frames import framed, icmp_packet, tcp_packet, udp_packet
from tests.packets.out import has
from tests.packets.row import Row, forwarder
from tests.packets.world import (
    CLIENT,
    CLIENT6,
    FAMILIES,
    KEY,
    VIP,
    VIP6,
    client_of,
    config,
    patched,
)


def _service(vip: str, protocol: int, port: int | None, *, stateless: bool = False) -> Service:
    return Service(ip_network(vip), protocol, port, "web", stateless)


SERVICES = (
    _service("198.18.0.0/16", 6, None),  # 0
    _service("198.18.0.0/16", 6, 443),  # 1
    _service("198.18.7.0/24", 6, 80),  # 2
    _service("198.18.7.9/32", 6, None),  # 3
    _service("198.18.7.9/32", 6, 443),  # 4
    _service("198.18.7.0/24", 17, None, stateless=True),  # 5
    _service("2001:db8:1::/48", 6, None),  # 6
    _service("2001:db8:1:2::/64", 6, 80),  # 7
    _service("2001:db8:1:2::3/128", 17, 53),  # 8
    _service("2001:db8:1::/48", 17, 53),  # 9
)
HERE = replace(config(1, (2,)), services=SERVICES)
TURNED = replace(HERE, services=SERVICES[::-1])
LOOKUPS = (
    ("198.18.0.0", 6, 1, 0),
    ("198.18.255.255", 6, 1, 0),
    ("198.18.255.255", 6, 443, 1),
    ("198.17.255.255", 6, 443, None),
    ("198.19.0.0", 6, 443, None),
    ("198.18.7.1", 6, 80, 2),
    ("198.18.7.1", 6, 443, 1),  # the /24 has no service of that port
    ("198.18.7.1", 6, 22, 0),
    ("198.18.7.9", 6, 443, 4),
    ("198.18.7.9", 6, 80, 3),  # any port of a longer prefix before a port of a shorter one
    ("198.18.7.9", 6, 0, 3),
    ("198.18.7.9", 17, 443, 5),
    ("198.18.8.9", 17, 443, None),
    ("2001:db8:1::", 6, 80, 6),
    ("2001:db8:1:ffff:ffff:ffff:ffff:ffff", 6, 80, 6),
    ("2001:db8:2::", 6, 80, None),
    ("2001:db8:1:2::", 6, 80, 7),
    ("2001:db8:1:2::", 6, 81, 6),
    ("2001:db8:1:2::3", 17, 53, 8),
    ("2001:db8:1:2::2", 17, 53, 9),
    ("2001:db8:1:2::3", 17, 54, None),
)


def lookup_rows() -> Iterator[Row]:
    """The longest prefix, then the port, in whatever order the services stand."""
    for here in (HERE, TURNED):
        order = "" if here is HERE else ", turned"
        for text, protocol, port, index in LOOKUPS:
            vip = ip_address(text)
            make = tcp_packet if protocol == 6 else udp_packet
            line = "F13" if index is None else "F21"
            name = f"{line} {text} port {port} of protocol {protocol}{order}"
            service = None if index is None else here.services.index(SERVICES[index])
            yield forwarder(name, framed(make(client_of(vip), 1, vip, port)), here, service)


def _everything(vip: str) -> Config:
    return replace(HERE, services=(_service(vip, 6, None),))


OTHER_ROWS = (
    forwarder("F13 a prefix of all IPv6 has no address of IPv4",
              framed(tcp_packet(CLIENT, 1, VIP, 80)), _everything("::/0")),
    forwarder("F13 a prefix of all IPv4 has no address of IPv6",
              framed(tcp_packet(CLIENT6, 1, VIP6, 80)), _everything("0.0.0.0/0")),
    forwarder("F5 a prefix of all IPv6 has no VIP of IPv4",
              framed(patched(tcp_packet(CLIENT, 1, VIP, 80), 0, b"\x44")), _everything("::/0"),
              elsewhere=True),
    forwarder("I1 without services there is no VIP", framed(icmp_packet(CLIENT, VIP)),
              replace(HERE, services=())),
    forwarder("I1 behind a prefix", framed(icmp_packet(CLIENT, ip_address("198.19.0.0"))), HERE),
    forwarder("I1 behind a prefix, IPv6", framed(icmp_packet(CLIENT6, ip_address("2001:db8:2::"))),
              HERE),
    forwarder("I3 the last address of a prefix",
              framed(icmp_packet(CLIENT, ip_address("198.18.255.255"))), HERE),
    forwarder("I3 in a prefix, IPv6",
              framed(icmp_packet(CLIENT6, ip_address("2001:db8:1:ffff::"))), HERE),
    forwarder("F21 stateless is the service that was found",
              framed(udp_packet(CLIENT, 1, ip_address("198.18.7.1"), 5)),
              replace(config(1, (2, 3)), services=SERVICES), 5),
    forwarder("F22 the one beside it is not",
              framed(udp_packet(CLIENT6, 1, ip_address("2001:db8:1::1"), 53)),
              replace(config(1, (2, 3)), services=SERVICES), 9),
)  # fmt: skip


def hash_rows(vip: Address, client: Address, *, by_client: bool) -> Iterator[Row]:
    """The hash mode is the pool's: only the bucket of one flow, or client, has a chain."""
    name = f"{'client' if by_client else 'flow'}, IPv{vip.version}"
    number = Flow(6, client, 40000, vip, 80).hash(KEY, by_client=by_client)
    chains = {bucket_of(number, 65536): (2,)}
    here = replace(
        config(1),
        services=(Service(host(vip), 6, None, "web"),),
        pools={"web": Pool(KEY, 65536, chains, depth=1, by_client=by_client)},
    )
    port = has(34, outer_source_port(number).to_bytes(2, "big"))
    packet, other = tcp_packet(client, 40000, vip, 80), tcp_packet(client, 40001, vip, 81)
    yield forwarder(f"F21 hash mode {name}", framed(packet), here, 0, out=port)
    line = "F21" if by_client else "F16"
    yield forwarder(f"{line} another flow, hash mode {name}", framed(other), here, 0)


ROWS = (
    *lookup_rows(),
    *OTHER_ROWS,
    *(row for vip, client in FAMILIES for mode in (False, True)
      for row in hash_rows(vip, client, by_client=mode)),
)  # fmt: skip
