"""Random configurations and frames: right ones, and right ones with something wrong in them."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address

from tests.model import Config, Dip, Pool, Service
from tests.model.frames import (
    ethernet,
    gue_packet,
    icmp_packet,
    ipv4,
    tcp_packet,
    udp_packet,
)

OWN = IPv4Address("10.0.0.1")
MAC = bytes.fromhex("020000000a01")
CLIENTS = tuple(IPv4Address(text) for text in ("198.51.100.7", "203.0.113.255", "10.0.0.2"))
VIPS = tuple(IPv4Address("192.0.2.10") + n for n in range(4))
NOT_VIPS = tuple(IPv4Address(text) for text in ("192.0.2.99", "10.0.0.1", "198.18.0.1"))
STRANGER = IPv4Address("10.9.9.9")
PROBER = IPv4Address("10.0.1.1")
BARE = IPv4Address("10.0.0.250")
"""A DIP that is known but has no entry: a server between the two states."""
POOL_NAMES = ("at-rest", "moving", "deep", "holes", "unloaded")
TCP_FLAG_SETS = (0x02, 0x10, 0x12, 0x04, 0x14, 0x18, 0x11, 0x06, 0x00, 0x3F)
ECN_TOS = (0, 1, 2, 3, 0xB8, 0xBA, 0xFF)


def random_pool(rng: random.Random, depth: int, indices: list[int], *, holes: bool) -> Pool:
    """A pool whose chains name DIPs at random; with holes, empty slots and unknown indices too."""
    buckets = 256 << rng.randrange(3)
    chains = {}
    for bucket in range(buckets):
        chain = rng.sample(indices, depth)
        if holes:
            chain = [rng.choice((0, 77, index, index)) for index in chain]
        chains[bucket] = tuple(chain)
    return Pool(rng.randbytes(16), buckets, chains)


def random_config(rng: random.Random) -> Config:
    """Seven DIPs, some without a MAC, five pools of all kinds, services on four VIPs."""
    dips = {
        index: Dip(
            OWN + index - 1, None if rng.random() < 0.25 else b"\x02\0\0\0\x0a" + bytes([index])
        )
        for index in range(1, 8)
    }
    indices = list(dips)
    pools = {
        "at-rest": random_pool(rng, 1, indices, holes=False),
        "moving": random_pool(rng, 2, indices, holes=False),
        "deep": random_pool(rng, rng.choice((3, 4)), indices, holes=False),
        "holes": random_pool(rng, 3, indices, holes=True),
        "unloaded": None,
    }
    services = tuple(
        Service(vip, protocol, port, rng.choice(POOL_NAMES), stateless=rng.random() < 0.3)
        for vip in VIPS
        for protocol in (6, 17)
        for port in (53, 80, 6080)
    )
    return Config(
        self_dip=OWN,
        mac=MAC,
        gue_port=6080,
        mtu=rng.choice((576, 1500, 1600)),
        services=services,
        pools=pools,
        dips=dips,
        known=frozenset({*(dip.address for dip in dips.values()), BARE}),
        probers=frozenset({PROBER}),
    )


def random_payload(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 6, 40, 500, 560, 1400, 1440, 1500)))


def random_inner(rng: random.Random, *, to_vip: float = 0.9) -> bytes:
    """An IPv4 packet, almost always right, mostly to a VIP."""
    destination = rng.choice(VIPS if rng.random() < to_vip else NOT_VIPS)
    source = rng.choice(CLIENTS)
    port = rng.choice((53, 80, 80, 6080, 8080))
    sport = rng.randrange(65536)
    payload, tos = random_payload(rng), rng.choice(ECN_TOS)
    kind = rng.random()
    if kind < 0.55:
        flags, offset = rng.choice(TCP_FLAG_SETS), 5
        if rng.random() < 0.05:
            offset = rng.randrange(16)
        return tcp_packet(
            source, sport, destination, port,
            flags=flags, data_offset=offset, payload=payload, tos=tos,
        )  # fmt: skip
    if kind < 0.87:
        return udp_packet(source, sport, destination, port, payload=payload, tos=tos)
    if kind < 0.95:
        kinds = rng.choice(((8, 0), (8, 0), (8, 1), (0, 0), (3, 4), (11, 0)))
        return icmp_packet(
            source, destination, kind=kinds[0], code=kinds[1], payload=payload, tos=tos
        )
    protocol = rng.choice((0, 2, 4, 41, 47, 50, 132, 255))
    return ipv4(source, destination, protocol, payload, tos=tos)


def _flip_bits(rng: random.Random, frame: bytes) -> bytes:
    damaged = bytearray(frame)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(min(len(damaged), 110))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _set_byte(rng: random.Random, frame: bytes) -> bytes:
    at = rng.randrange(12, min(len(frame), 110))
    return frame[:at] + bytes([rng.choice((0, 1, 4, 5, 0x45, 0x46, 0x7F, 0xFF))]) + frame[at + 1 :]


def _truncate(rng: random.Random, frame: bytes) -> bytes:
    return frame[: rng.randrange(14, min(len(frame), 130) + 1)]


def _pad(rng: random.Random, frame: bytes) -> bytes:
    return frame + rng.randbytes(rng.randrange(1, 60))


def _lie_about_length(rng: random.Random, frame: bytes) -> bytes:
    if len(frame) < 20:
        return frame
    length = int.from_bytes(frame[16:18], "big") + rng.choice((-100, -20, -8, -1, 1, 8, 20, 100))
    if rng.random() < 0.3:
        length = rng.choice((0, 19, 20, 27, 28, 39, 40, 65535))
    return frame[:16] + (length & 0xFFFF).to_bytes(2, "big") + frame[18:]


def _other_type(rng: random.Random, frame: bytes) -> bytes:
    kind = rng.choice((0x8100, 0x88A8, 0x86DD, 0x0806, 0x0000, 0x05DC, 0x0801))
    return frame[:12] + kind.to_bytes(2, "big") + frame[14:]


def _fragment(rng: random.Random, frame: bytes) -> bytes:
    word = rng.choice((0x2000, 0x1FFF, 0x0001, 0x6000, 0x8000, 0xC000))
    return frame[:20] + word.to_bytes(2, "big") + frame[22:]


def _options(rng: random.Random, frame: bytes) -> bytes:
    words = rng.choice((0, 4, 6, 15))
    return frame[:14] + bytes([0x40 | words]) + frame[15:]


DAMAGE: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip_bits,
    _set_byte,
    _truncate,
    _pad,
    _lie_about_length,
    _other_type,
    _fragment,
    _options,
)


def damaged(rng: random.Random, frame: bytes, share: float) -> bytes:
    """Perhaps something wrong with a frame, at most one in three times two things."""
    while rng.random() < share:
        frame = rng.choice(DAMAGE)(rng, frame)
        share /= 3
        if len(frame) < 14:
            break
    return frame


def random_vip_frame(rng: random.Random) -> bytes:
    """For the forwarder: a client's frame, or one that tries to look like the brigade's own."""
    if rng.random() < 0.04:
        packet = udp_packet(OWN, 5000, rng.choice((OWN, *VIPS)), rng.choice((6080, 6080, 53)))
    else:
        packet = random_inner(rng)
    frame = damaged(rng, ethernet(packet), 0.3)
    return frame + bytes(max(0, 60 - len(frame))) if rng.random() < 0.3 else frame


def _random_hops(rng: random.Random) -> list[IPv4Address]:
    hops = rng.sample([OWN + n for n in range(1, 7)], rng.choice((0, 1, 1, 2, 3)))
    if hops and rng.random() < 0.15:
        hops[rng.randrange(len(hops))] = rng.choice((OWN, STRANGER, PROBER, BARE, BARE))
    return hops


WRONG_GUE: tuple[dict[str, int], ...] = (
    {"variant": 1},
    {"control": 1},
    {"hlen": 0},
    {"hlen": 31},
    {"proto": 41},
    {"proto": 41},
    {"proto": 17},
    {"gue_flags": 1},
    {"private_version": 1},
    {"private_flags": 0x04},
    {"private_flags": 0x02},
    {"private_flags": 0x01},
    {"reserved": 1},
    {"next_hop": 4},
    {"hop_count": 4},
    {"udp_checksum": 0x1234},
    {"udp_length": 9},
    {"gue_port": 6081},
)


def _inside(rng: random.Random) -> bytes:
    """What a GUE packet carries: sometimes damaged inside, sometimes GUE again."""
    inner = random_inner(rng, to_vip=0.95)
    if rng.random() < 0.2:
        inner = damaged(rng, ethernet(inner), 1.0)[14:]
    if rng.random() < 0.03:
        inner = gue_packet(OWN + 1, OWN, inner)
    return inner


def random_gue_frame(rng: random.Random) -> bytes:
    """For the redirector: a frame from a hop, often with something wrong in it."""
    hops = _random_hops(rng)
    wrong = rng.choice(WRONG_GUE) if rng.random() < 0.15 else {}
    # the outer packet must fit a test run's page
    inner = _inside(rng)[:1500]
    source = rng.choice((OWN + 1, OWN + 2, OWN, PROBER))
    if rng.random() < 0.04:
        source = STRANGER
    fields: dict[str, int] = {
        "next_hop": rng.randint(0, len(hops)),
        "tos": rng.choice(ECN_TOS),
        "private_flags": 0x08 if rng.random() < 0.3 else 0,
    }
    packet = gue_packet(source, OWN, inner, hops, **(fields | wrong))  # type: ignore[arg-type]
    frame = damaged(rng, ethernet(packet), 0.15)
    return frame + bytes(max(0, 60 - len(frame))) if rng.random() < 0.3 else frame


def can_be_skb(frame: bytes) -> bool:
    """Whether every kernel's BPF_PROG_TEST_RUN makes a socket buffer of a frame.

    Newer ones refuse an IP packet shorter than its header; the host-compiled headers see those.
    """
    least = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 14)
    return least <= len(frame) <= 3500


def random_skb_frame(rng: random.Random) -> bytes:
    """A frame for the redirector that can be fed to it."""
    while not can_be_skb(frame := random_gue_frame(rng)):
        pass
    return frame
