"""The contents of the data plane during the measurement, and the packets of each row."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import numpy as np

from controlplane.domain.objects import TCP, UDP
from lb.abi import HOP_LEN, WRAP_LEN
from lb.bench.frames import ACK, OWN_MAC, RST, SYN, ethernet, gue, tcp, udp
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry

SERVICES = 1000
ANY_PORT = 50
PREFIXES = 50
PREFIXES_OF_A_FAMILY = PREFIXES // 2
DIPS = 1000
BUCKETS = 65536
PACKETS_OF_A_ROW = 16
FLOW_BITS = 19
SEED = 20240501
OWN_INDEX = DIPS + 1
OWN_DIP = IPv4Address("10.200.0.1")
FIRST_DIP = IPv4Address("10.200.1.0")
FIRST_VIP = IPv4Address("198.18.0.1")
FIRST_VIP6 = IPv6Address("2001:db8:1::1")
FIRST_PREFIX = int(IPv4Address("198.19.0.0"))
FIRST_PREFIX6 = int(IPv6Address("2001:db8:8000::"))
PREFIX_LENGTHS = (24, 26, 28)
PREFIX_LENGTHS6 = (48, 56, 64)
CLIENTS6 = IPv6Address("2001:db8:ffff::")
SERVICES_A_VIP = 10
EXACT6 = 200
UDP_SERVICES = 9
POOL = "web"
MOVING_POOL = "moving"
MTU = 1600
TX, PASS = 3, 2
TC_OK, TC_REDIRECT, TC_NEXT = 0, 7, 0xFFFFFFFF
SHORT_BYTES, SEGMENT_BYTES = 92, 1460
"""The feeder writes 90 bytes of a frame; the egress program looks into frames of up to 96."""


@dataclass(frozen=True)
class Row:
    """One line of the result: the packets, and the expected result of each."""

    name: str
    frames: Sequence[bytes]
    verdict: int
    growth: int
    flow_bits: int = 0

    @property
    def program(self) -> str:
        """The program that it is for: forwarder, redirector or egress."""
        first = self.name.split("_")[0]
        return first if first in {"redirector", "egress"} else "forwarder"


def identity() -> Identity:
    """Return the identity of this server, which owns no bucket."""
    return Identity(dip=OWN_DIP, mac=OWN_MAC, mtu=MTU, ifindex=1)


def _exact4() -> list[ServiceEntry]:
    """Return ten services per VIP; the pool of the last is in transition, nine more are UDP."""
    count = SERVICES - ANY_PORT - PREFIXES - EXACT6
    found = []
    for number in range(count):
        last = number == count - 1
        is_udp = not last and number >= count - 1 - UDP_SERVICES
        found.append(
            ServiceEntry(
                vip=ip_network(FIRST_VIP + number // SERVICES_A_VIP),
                protocol=UDP if is_udp else TCP,
                port=8000 + number % SERVICES_A_VIP,
                pool=MOVING_POOL if last else POOL,
            )
        )
    return found


def _exact6() -> list[ServiceEntry]:
    return [
        ServiceEntry(
            ip_network(FIRST_VIP6 + number // SERVICES_A_VIP),
            TCP,
            8000 + number % SERVICES_A_VIP,
            POOL,
        )
        for number in range(EXACT6)
    ]


def _any_port() -> list[ServiceEntry]:
    """Return services for any port, half of them IPv4, each with its own VIP."""
    vips4 = [ip_network(FIRST_VIP + 512 + number) for number in range(ANY_PORT // 2)]
    vips6 = [ip_network(FIRST_VIP6 + 512 + number) for number in range(ANY_PORT // 2)]
    return [ServiceEntry(vip, TCP, None, POOL) for vip in (*vips4, *vips6)]


def _prefixes() -> list[ServiceEntry]:
    """Return prefixes of three lengths per IP version, one every 256 addresses or every /48."""
    found = []
    for number in range(PREFIXES_OF_A_FAMILY):
        length, length6 = PREFIX_LENGTHS[number % 3], PREFIX_LENGTHS6[number % 3]
        vip = IPv4Network((FIRST_PREFIX + number * 256, length))
        vip6 = IPv6Network((FIRST_PREFIX6 + (number << 80), length6))
        found += [ServiceEntry(vip, TCP, 443, POOL), ServiceEntry(vip6, TCP, 443, POOL)]
    return found


def services() -> tuple[ServiceEntry, ...]:
    """Return a thousand services of all kinds, IPv4 and IPv6."""
    return (*_exact4(), *_exact6(), *_any_port(), *_prefixes())


def dips() -> dict[int, IPv4Address]:
    """Return the DIPs of a thousand other servers and of this one, by index."""
    return {OWN_INDEX: OWN_DIP} | {index: FIRST_DIP + index for index in range(1, DIPS + 1)}


def fill(dataplane: Dataplane) -> None:
    """Load services, DIPs with their MACs, a table at rest and one in transition."""
    numbers = np.random.default_rng(SEED)
    dataplane.set_cluster(ClusterView(services(), dips()))
    for index in range(1, DIPS + 1):
        dataplane.set_neighbour(index, b"\x02\x00\xbb\x00" + index.to_bytes(2, "big"))
    # each DIP equally often, in random order
    current = numbers.permutation(np.arange(BUCKETS) % DIPS + 1).astype(np.uint16)
    previous = (current % DIPS + 1).astype(np.uint16)
    key = numbers.bytes(16)
    dataplane.set_table(POOL, np.stack([current, np.zeros_like(current)], axis=1), key)
    dataplane.set_table(MOVING_POOL, np.stack([current, previous], axis=1), key)


def _clients(count: int, random_source: random.Random) -> list[tuple[IPv4Address, int]]:
    return [
        (
            IPv4Address("10.0.0.0") + random_source.getrandbits(19),
            random_source.randrange(1024, 65536),
        )
        for _ in range(count)
    ]


def _frame(service: ServiceEntry, flags: int, random_source: random.Random) -> bytes:
    """Return a packet to a service: a random address of its VIP, a random port if it has none."""
    ((client, sport),) = _clients(1, random_source)
    vip = service.vip
    target = vip.network_address + random_source.randrange(min(vip.num_addresses, 1 << 16))
    port = service.port or random_source.randrange(1, 65536)
    if isinstance(target, IPv6Address):
        return ethernet(tcp(CLIENTS6 + int(client), sport, target, port, flags))
    if service.protocol == UDP:
        return ethernet(udp(client, sport, target, port))
    return ethernet(tcp(client, sport, target, port, flags))


def _one_each(
    chosen: Sequence[ServiceEntry], flags: int, random_source: random.Random
) -> list[bytes]:
    return [_frame(service, flags, random_source) for service in chosen]


def _at_rest(version: int) -> list[ServiceEntry]:
    return [
        service
        for service in services()
        if service.vip.version == version and service.protocol == TCP and service.pool == POOL
    ]


def forwarder_rows() -> list[Row]:
    """Return the rows that are compared with the floor."""
    numbers = random.Random(SEED)
    all4, all6 = _at_rest(4), _at_rest(6)
    some, some6 = (numbers.sample(found, PACKETS_OF_A_ROW) for found in (all4, all6))
    of_udp = [s for s in services() if s.protocol == UDP]
    moving = [s for s in services() if s.pool == MOVING_POOL] * PACKETS_OF_A_ROW
    any_port = [s for s in all4 if s.port is None]
    prefixes = [s for s in all4 if s.vip.num_addresses > 1]
    rare = (any_port + prefixes)[-PREFIXES_OF_A_FAMILY - 8 : -PREFIXES_OF_A_FAMILY + 8]
    acks = _one_each(some, ACK, numbers)
    beside = ServiceEntry(ip_network(FIRST_VIP + 128), TCP, 8000, POOL)
    beside6 = ServiceEntry(ip_network(FIRST_VIP6 + 128), TCP, 8000, POOL)
    return [
        Row("tcp4_syn", _one_each(some, SYN, numbers), TX, WRAP_LEN),
        Row("tcp4_ack", acks, TX, WRAP_LEN),
        Row("udp4", _one_each(of_udp, 0, numbers), TX, WRAP_LEN),
        Row("tcp6_ack", _one_each(some6, ACK, numbers), TX, WRAP_LEN),
        Row(f"tcp4_ack_2e{FLOW_BITS}_flows", acks, TX, WRAP_LEN, flow_bits=FLOW_BITS),
        Row("tcp4_ack_in_transition", _one_each(moving, ACK, numbers), TX, WRAP_LEN + HOP_LEN),
        Row("not_for_vip", _one_each([beside] * PACKETS_OF_A_ROW, ACK, numbers), PASS, 0),
        Row("not_for_vip6", _one_each([beside6] * PACKETS_OF_A_ROW, ACK, numbers), PASS, 0),
        Row("tcp4_any_port_and_prefix", _one_each(rare, ACK, numbers), TX, WRAP_LEN),
        Row(
            f"all_services_2e{FLOW_BITS}_flows",
            _one_each(all4, ACK, numbers),
            TX,
            WRAP_LEN,
            flow_bits=FLOW_BITS,
        ),
    ]


def redirector_rows() -> list[Row]:
    """Return the rows that are compared with a TC program that does nothing."""
    numbers = random.Random(SEED)
    service = services()[0]
    vip = service.vip.network_address
    first, second = FIRST_DIP + 1, FIRST_DIP + 2
    inner = [
        tcp(*client, vip, service.port or 0, ACK) for client in _clients(PACKETS_OF_A_ROW, numbers)
    ]
    return [
        Row("redirector_other", [ethernet(packet + bytes(40)) for packet in inner], TC_OK, 0),
        Row(
            "redirector_accept", [ethernet(gue(first, OWN_DIP, p)) for p in inner], TC_OK, -WRAP_LEN
        ),
        Row(
            "redirector_pass_on",
            [ethernet(gue(first, OWN_DIP, packet, [second])) for packet in inner],
            TC_REDIRECT,
            0,
        ),
    ]


def egress_rows() -> list[Row]:
    """Return the rows of what leaves, which are compared with the same TC program."""
    numbers = random.Random(SEED)
    service = services()[0]
    vip, port = service.vip.network_address, service.port or 0
    clients = _clients(PACKETS_OF_A_ROW, numbers)
    acks, resets = ([tcp(vip, port, *c, flags) for c in clients] for flags in (ACK, RST))
    first, second = FIRST_DIP + 1, FIRST_DIP + 2
    wraps = [gue(first, OWN_DIP, packet, [second]) for packet in acks]
    return [
        Row("egress_segment", [ethernet(p + bytes(SEGMENT_BYTES)) for p in acks], TC_NEXT, 0),
        Row("egress_wrap", [ethernet(packet) for packet in wraps], TC_NEXT, 0),
        Row("egress_ack", [ethernet(p).ljust(SHORT_BYTES, b"x") for p in acks], TC_NEXT, 0),
        Row("egress_reset", [ethernet(p).ljust(SHORT_BYTES, b"x") for p in resets], TC_NEXT, 0),
    ]
