"""Random configurations, and the facts about them that packet generators use."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tests.fuzz.packets import TCP, UDP, Flow
from tests.model import Config, Dip, Pool, Service

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

OWN = IPv4Address("10.0.0.1")
MAC = bytes.fromhex("020000000a01")
STRANGER = IPv4Address("10.9.9.9")
PROBER = IPv4Address("10.0.1.1")
BARE = IPv4Address("10.0.0.250")
"""A DIP that is known but has no entry: a server between the two states."""

SOCKET_VIPS: tuple[Address, ...] = (IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10"))
"""Always VIPs: where the sockets are (tests/fuzz/sockets.py)."""
CLIENTS: tuple[Address, ...] = (
    *(IPv4Address(text) for text in ("198.51.100.7", "203.0.113.255", "10.0.0.2", "8.8.8.8")),
    *(IPv6Address(text) for text in ("2001:db8:c::7", "2a00::1", "fd00::ffff", "2001:db8::11")),
)
ODD_CLIENTS: tuple[Address, ...] = (
    *(IPv4Address(text) for text in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255")),
    *(
        IPv4Address(text)
        for text in ("224.0.0.0", "239.1.1.1", "255.255.255.255", "223.255.255.255")
    ),
    *(IPv4Address(text) for text in ("1.0.0.0", "126.255.255.255", "128.0.0.0", "10.0.0.1")),
    *(
        IPv6Address(text)
        for text in ("::", "::1", "::2", "ff00::", "ff02::1", "feff::1", "fe80::1")
    ),
)
POOL_NAMES = ("at-rest", "moving", "deep", "clients", "holes", "unloaded")
MANY_SHARE = 0.01
POOL_WEIGHTS = (6, 6, 6, 4, 2, 1)
FILLERS = ((), (4, 2, 1), (8,))
"""Unused inner tables in front: others are inline, on both sides of the limit, or separate."""
LARGE_TABLE = 1 << 17
"""More than one inner table holds."""
PORTS = (53, 80, 443, 6080)


def random_pool(
    rng: random.Random, depth: int, indices: list[int], *, holes: bool = False, client: bool = False
) -> Pool:
    """A pool whose chains name DIPs at random; with holes, empty slots and unknown indices too."""
    buckets = LARGE_TABLE if rng.random() < 0.02 else 256 << rng.randrange(3)
    chains = {}
    for bucket in range(buckets):
        chain = rng.sample(indices, depth)
        if holes:
            chain = [rng.choice((0, 77, index, index, index)) for index in chain]
        elif rng.random() < 0.3:
            chain = chain[: rng.randint(1, depth)]
        chains[bucket] = tuple(chain)
    return Pool(rng.randbytes(16), buckets, chains, depth=depth, by_client=client)


def _nested(rng: random.Random, base: Address, lengths: list[int]) -> list[Network]:
    """Prefixes around one address, each inside the one before."""
    kind = IPv4Network if base.version == 4 else IPv6Network
    return [kind((int(base), length), strict=False) for length in lengths if rng.random() < 0.9]


def random_vips(rng: random.Random) -> list[Network]:
    """Exact addresses, neighbours of them, and prefixes in prefixes; IPv6 in at most 8 lengths."""
    first4 = IPv4Address("192.0.2.8")
    vips: list[Network] = [
        IPv4Network(f"{SOCKET_VIPS[0]}/32"),
        IPv6Network(f"{SOCKET_VIPS[1]}/128"),
    ]
    vips += [IPv4Network(first4 + n) for n in rng.sample(range(8), 3)]
    vips += [IPv6Network(IPv6Address("2001:db8::8") + n) for n in rng.sample(range(8), 2)]
    # away from the DIPs in 10.0.0.0/8
    base4 = IPv4Address(rng.randrange(20 << 24, 200 << 24))
    lengths4 = sorted(rng.sample(range(8, 33), rng.randint(2, 7)))
    vips += _nested(rng, base4, lengths4)
    vips += _nested(rng, IPv4Address("192.0.2.10"), sorted(rng.sample(range(12, 32), 2)))
    base6 = IPv6Address(0x2001 << 112 | rng.getrandbits(112))
    lengths6 = sorted(rng.sample(range(16, 128), rng.randint(1, 7)))
    vips += _nested(rng, base6, lengths6)
    vips += _nested(rng, IPv6Address("2001:db8::10"), rng.sample(lengths6, min(2, len(lengths6))))
    return sorted(set(vips), key=str)


def _service_of(rng: random.Random, vip: Network, protocol: int, port: int | None) -> Service:
    (name,) = rng.choices(POOL_NAMES, POOL_WEIGHTS)
    return Service(vip, protocol, port, name, stateless=rng.random() < 0.3)


def random_services(rng: random.Random, vips: list[Network]) -> tuple[Service, ...]:
    """For each VIP some of all (protocol, port or any); a few VIPs have more than a row holds."""
    services = []
    for vip in vips:
        kinds = [(protocol, port) for protocol in (TCP, UDP) for port in (*PORTS, None)]
        many = rng.random() < 0.1
        if many:
            kinds += [(rng.choice((TCP, UDP)), port) for port in rng.sample(range(1000, 1100), 12)]
        count = len(kinds) if many else rng.choice((1, 1, 2, 3, 4, 5, 7))
        services += [_service_of(rng, vip, *kind) for kind in rng.sample(kinds, count)]
    taken = {(service.vip, service.protocol, service.port) for service in services}
    for address in SOCKET_VIPS:
        vip = IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)
        services += [
            Service(vip, protocol, 80, "moving")
            for protocol in (TCP, UDP)
            if (vip, protocol, 80) not in taken
        ]
    if rng.random() < MANY_SHARE:
        services += many_services(rng)
    rng.shuffle(services)
    return tuple(services)


def many_services(rng: random.Random, count: int = 600) -> list[Service]:
    """More single addresses than fit into the rows of the exact-match table."""
    first4, first6 = IPv4Address("198.18.0.0"), IPv6Address("2001:2::")
    made: list[Service] = []
    for number in range(count // 2):
        made.append(_service_of(rng, IPv4Network(first4 + number), rng.choice((TCP, UDP)), 80))
        made.append(_service_of(rng, IPv6Network(first6 + number), rng.choice((TCP, UDP)), 80))
    return made


def random_config(rng: random.Random) -> Config:
    """Seven DIPs, some without a MAC, six pools of all kinds, services on VIPs of all forms."""
    dips = {
        index: Dip(
            OWN + index - 1, None if rng.random() < 0.25 else b"\x02\0\0\0\x0a" + bytes([index])
        )
        for index in range(1, 8)
    }
    indices = list(dips)
    pools = {
        "at-rest": random_pool(rng, 1, indices),
        "moving": random_pool(rng, 2, indices),
        "deep": random_pool(rng, rng.choice((3, 4)), indices),
        "clients": random_pool(rng, rng.choice((1, 2, 4)), indices, client=True),
        "holes": random_pool(rng, 3, indices, holes=True, client=rng.random() < 0.3),
        "unloaded": None,
    }
    return Config(
        self_dip=OWN,
        mac=MAC,
        gue_port=rng.choice((6080, 6080, 6080, 19523)),
        mtu=rng.choice((576, 1280, 1500, 1500, 1600)),
        services=random_services(rng, random_vips(rng)),
        pools=pools,
        dips=dips,
        known=frozenset({*(dip.address for dip in dips.values()), BARE}),
        probers=frozenset({PROBER}),
    )


@dataclass(frozen=True)
class Scene:
    """A configuration, and flows that hit it or just miss it."""

    config: Config

    def address_in(self, rng: random.Random, vip: Network) -> Address:
        """An address of a prefix, often at one of its edges or in a longer prefix inside it."""
        first, last = int(vip.network_address), int(vip.broadcast_address)
        edges = (first, last, first + 1, last - 1, (first + last) // 2, rng.randint(first, last))
        number = min(max(rng.choice(edges), first), last)
        return IPv4Address(number) if vip.version == 4 else IPv6Address(number)

    def address_beside(self, rng: random.Random, vip: Network) -> Address:
        """An address just outside a prefix, which another prefix may contain."""
        size = 32 if vip.version == 4 else 128
        first, last = int(vip.network_address), int(vip.broadcast_address)
        bit = 1 << rng.randrange(size - vip.prefixlen, size) if vip.prefixlen else 0
        number = rng.choice((first - 1, last + 1, first ^ bit, last ^ bit)) % (1 << size)
        return IPv4Address(number) if vip.version == 4 else IPv6Address(number)

    def client(self, rng: random.Random, version: int, *, odd: float = 0.03) -> Address:
        """A client's address of a family; at times one that no client has."""
        among = ODD_CLIENTS if rng.random() < odd else CLIENTS
        return rng.choice([address for address in among if address.version == version])

    def flow(self, rng: random.Random, *, hit: float = 0.9, odd: float = 0.03) -> Flow:
        """A flow that (mostly) has a service."""
        service = rng.choice(self.config.services)
        protocol, port = service.protocol, service.port
        if port is None:
            port = rng.choice((rng.randrange(65536), rng.choice(PORTS)))
        vip = self.address_in(rng, service.vip)
        if rng.random() >= hit:
            miss = rng.random()
            if miss < 0.4:
                vip = self.address_beside(rng, service.vip)
            elif miss < 0.7:
                port = rng.choice((*PORTS, rng.randrange(65536), port ^ 0x100))
            elif miss < 0.85:
                protocol = TCP + UDP - protocol
            else:
                vip = self.client(rng, vip.version)
        source = self.client(rng, vip.version, odd=odd)
        return Flow(protocol, source.packed, rng.randrange(65536), vip.packed, port)
