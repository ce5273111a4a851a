"""What the data plane is loaded with while it is measured, and the packets of each row."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np

from lb.bench.frames import ACK, OWN_MAC, SYN, TCP, UDP, ethernet, gue, tcp, udp
from lb.dataplane import ClusterView, Dataplane, Identity, ServiceEntry

SERVICES = 1000
DIPS = 1000
BUCKETS = 65536
PACKETS_OF_A_ROW = 16
FLOW_BITS = 19
SEED = 20240501
OWN_INDEX = DIPS + 1
OWN_DIP = IPv4Address("10.200.0.1")
FIRST_DIP = IPv4Address("10.200.1.0")
FIRST_VIP = IPv4Address("198.18.0.1")
SERVICES_A_VIP = 10
UDP_SERVICES = 9
POOL = "web"
MOVING_POOL = "moving"
MTU = 1600
TX, PASS = 3, 2
TC_OK, TC_REDIRECT = 0, 7
WRAP = 36


@dataclass(frozen=True)
class Row:
    """One line of the result: the packets fed and what must happen to each of them."""

    name: str
    frames: Sequence[bytes]
    verdict: int
    growth: int
    flow_bits: int = 0


def identity() -> Identity:
    """This server, which owns no bucket."""
    return Identity(dip=OWN_DIP, mac=OWN_MAC, mtu=MTU, ifindex=1)


def services() -> tuple[ServiceEntry, ...]:
    """A thousand: the last one's pool is in transition, nine before it are UDP."""
    found = []
    for number in range(SERVICES):
        vip = FIRST_VIP + number // SERVICES_A_VIP
        last = number == SERVICES - 1
        is_udp = not last and number >= SERVICES - 1 - UDP_SERVICES
        found.append(
            ServiceEntry(
                vip=vip,
                protocol=UDP if is_udp else TCP,
                port=8000 + number % SERVICES_A_VIP,
                pool=MOVING_POOL if last else POOL,
            )
        )
    return tuple(found)


def dips() -> dict[int, IPv4Address]:
    """A thousand other servers and this one."""
    return {OWN_INDEX: OWN_DIP} | {index: FIRST_DIP + index for index in range(1, DIPS + 1)}


def fill(dataplane: Dataplane) -> None:
    """Load everything: services, DIPs with their MACs, a table at rest and one in transition."""
    numbers = np.random.default_rng(SEED)
    dataplane.set_cluster(ClusterView(services(), dips()))
    for index in range(1, DIPS + 1):
        dataplane.set_neighbour(index, b"\x02\x00\xbb\x00" + index.to_bytes(2, "big"))
    # every DIP equally often, in any order
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


def _one_each(
    chosen: Sequence[ServiceEntry], flags: int, random_source: random.Random
) -> list[bytes]:
    clients = _clients(len(chosen), random_source)
    return [
        ethernet(
            udp(*client, service.vip, service.port)
            if service.protocol == UDP
            else tcp(*client, service.vip, service.port, flags)
        )
        for client, service in zip(clients, chosen, strict=True)
    ]


def forwarder_rows() -> list[Row]:
    """The rows that are compared with the floor."""
    numbers = random.Random(SEED)
    all_services = services()
    at_rest = [s for s in all_services if s.protocol == TCP and s.pool == POOL]
    of_udp = [s for s in all_services if s.protocol == UDP]
    moving = [s for s in all_services if s.pool == MOVING_POOL]
    some = numbers.sample(at_rest, PACKETS_OF_A_ROW)
    beside = [
        ethernet(tcp(*client, FIRST_VIP + SERVICES, 8000, ACK))
        for client in _clients(PACKETS_OF_A_ROW, numbers)
    ]
    many = _one_each(at_rest, ACK, numbers)
    return [
        Row("tcp4_syn", _one_each(some, SYN, numbers), TX, WRAP),
        Row("tcp4_ack", _one_each(some, ACK, numbers), TX, WRAP),
        Row("udp4", _one_each(of_udp, 0, numbers), TX, WRAP),
        Row(f"tcp4_ack_2e{FLOW_BITS}_flows", many, TX, WRAP, flow_bits=FLOW_BITS),
        Row(
            "tcp4_ack_in_transition",
            _one_each(moving * PACKETS_OF_A_ROW, ACK, numbers),
            TX,
            WRAP + 4,
        ),
        Row("not_for_vip", beside, PASS, 0),
    ]


def redirector_rows() -> list[Row]:
    """The rows that are compared with a TC program that does nothing."""
    numbers = random.Random(SEED)
    service = services()[0]
    first, second = FIRST_DIP + 1, FIRST_DIP + 2
    inner = [
        tcp(*client, service.vip, service.port, ACK)
        for client in _clients(PACKETS_OF_A_ROW, numbers)
    ]
    return [
        Row("redirector_other", [ethernet(packet + bytes(40)) for packet in inner], TC_OK, 0),
        Row("redirector_accept", [ethernet(gue(first, OWN_DIP, p)) for p in inner], TC_OK, -WRAP),
        Row(
            "redirector_pass_on",
            [ethernet(gue(first, OWN_DIP, packet, [second])) for packet in inner],
            TC_REDIRECT,
            0,
        ),
    ]
