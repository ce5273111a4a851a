"""What rows about the forwarder are made of: a server, its services of both families, packets.

A row is one packet and what must become of it. The frame that comes out is the model's; a row says
what it must be where that is plain to see. Sections and lines are those of docs/wire.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from tests.model import Address, Config, Dip, Flow, Pool, Service, bucket_of, host
from tests.model.frames import ethernet, tcp_packet, udp_packet
from tests.model.result import Verdict

CLIENT = IPv4Address("198.51.100.7")
VIP = IPv4Address("192.0.2.10")
OTHER_VIP = IPv4Address("192.0.2.11")
CLIENT6, VIP6 = IPv6Address("2001:db8:c::7"), IPv6Address("2001:db8::10")
WIDE = IPv4Network("192.0.8.0/22")
IN_WIDE = IPv4Address("192.0.10.200")
WIDE6 = IPv6Network("2001:db8:8::/48")
IN_WIDE6 = IPv6Address("2001:db8:8::77")
AROUND, AROUND6 = IPv4Network("192.0.8.0/21"), IPv6Network("2001:db8:8::/45")
OWN, B, C, D = (IPv4Address("10.0.0.1") + n for n in range(4))
STRANGER = IPv4Address("10.7.7.7")
BARE = IPv4Address("10.0.0.9")
PROBER = IPv4Address("10.0.1.1")
MAC = bytes.fromhex("020000000a01")
MAC_B = bytes.fromhex("020000000a02")
KEY = bytes(range(16))
SYN, ACK, RST, FIN = 2, 16, 4, 1
SPORT = 40000


def pool_with(chain: tuple[int, ...], *flows: Flow, by_client: bool = False) -> Pool:
    """A pool in which the buckets of some flows have one chain, and all others are empty."""
    hashes = (flow.hash(KEY, by_client=by_client) for flow in flows)
    buckets = {bucket_of(number, 65536): chain for number in hashes}
    return Pool(KEY, 65536, buckets, depth=max(2, len(chain)), by_client=by_client)


def flow(protocol: int, port: int = 80, vip: Address = VIP) -> Flow:
    client = CLIENT if vip.version == 4 else CLIENT6
    return Flow(protocol, client, SPORT, vip, port)


def server(chain: tuple[int, ...] = (2,), *, stateless: bool = False, **others: object) -> Config:
    """This server, where the chain of every flow in this file is `chain`."""
    flows = [flow(protocol, vip=vip) for protocol in (6, 17) for vip in (VIP, VIP6)]
    flows += [flow(17, 53), flow(17, 6080), flow(6, 4711, IN_WIDE), flow(6, 443, IN_WIDE)]
    flows.append(flow(6, 443, IN_WIDE6))
    config = Config(
        self_dip=OWN,
        mac=MAC,
        mtu=1500,
        services=(
            Service(host(VIP), 6, 80, "web"),
            Service(host(VIP), 17, 80, "web", stateless=stateless),
            Service(host(VIP), 17, 6080, "web"),
            Service(host(OTHER_VIP), 6, 80, "unloaded"),
            Service(host(VIP6), 6, 80, "web"),
            Service(host(VIP6), 17, 80, "web", stateless=stateless),
            Service(WIDE, 6, None, "web"),
            Service(WIDE, 6, 80, "sticky"),
            Service(AROUND, 6, 443, "unloaded"),
            Service(WIDE6, 6, None, "web"),
            Service(AROUND6, 6, 443, "unloaded"),
        ),
        pools={
            "web": pool_with(chain, *flows),
            "unloaded": None,
            "sticky": pool_with(chain, flow(6, 80, IN_WIDE), by_client=True),
        },
        dips={1: Dip(OWN), 2: Dip(B, MAC_B), 3: Dip(C), 4: Dip(D, MAC)},
        known=frozenset({OWN, B, C, D, BARE}),
        probers=frozenset({PROBER}),
    )
    return replace(config, **others)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One packet and what must become of it."""

    name: str
    frame: bytes
    verdict: Verdict
    counter: str
    config: Config = field(default_factory=server)
    check: Callable[[bytes], bool] | None = None
    before: tuple[bytes, ...] = ()
    """Frames that came before."""


def tcp(
    flags: int = ACK,
    *,
    vip: Address = VIP,
    payload: bytes = b"",
    port: int = 80,
    **fields: Any,
) -> bytes:
    client = CLIENT if vip.version == 4 else CLIENT6
    return tcp_packet(client, SPORT, vip, port, flags=flags, payload=payload, **fields)


def udp(port: int = 80, *, vip: Address = VIP, payload: bytes = b"hello", **fields: Any) -> bytes:
    client = CLIENT if vip.version == 4 else CLIENT6
    return udp_packet(client, SPORT, vip, port, payload=payload, **fields)


def raw(packet: bytes, at: int, *values: int) -> bytes:
    """A frame with some bytes of its IP packet changed."""
    changed = bytearray(packet)
    changed[at : at + len(values)] = bytes(values)
    return ethernet(bytes(changed))


def hops_of(frame: bytes) -> list[IPv4Address]:
    """The destination and the hop list of an encapsulated frame: the visits in order."""
    count = frame[49]
    listed = [IPv4Address(frame[50 + 4 * n : 54 + 4 * n]) for n in range(count)]
    return [IPv4Address(frame[30:34]), *listed]


def visits(*dips: IPv4Address) -> Callable[[bytes], bool]:
    return lambda frame: hops_of(frame) == list(dips)


def to_mac(mac: bytes) -> Callable[[bytes], bool]:
    return lambda frame: frame[:6] == mac


FOREIGN = tcp_packet(CLIENT, SPORT, IPv4Address("192.0.2.99"), 80, flags=ACK)
PADDING = bytes(6)
