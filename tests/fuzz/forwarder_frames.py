"""Frames for the forwarder: those that a router sends to a server, and an attacker's."""

from __future__ import annotations

import random

from tests.fuzz import packets
from tests.fuzz.damage import damaged, sweep
from tests.fuzz.mixing import Group, Maker, draw, interleave
from tests.fuzz.packets import ROUTER_MAC, SERVER_MAC, UDP, ethernet
from tests.fuzz.traffic import Traffic

TAG_TYPES = (0x8100, 0x88A8)
DAMAGED = 0.16
FOR_OTHER_HOST = 0.08
MOST_BYTES = 3400
"""A test run's page holds no more."""


def frames(traffic: Traffic, count: int) -> Group:
    """So many frames for one configuration."""
    makers: tuple[tuple[int, Maker], ...] = (
        (1300, lambda: [framed(traffic, traffic.plain())]),
        (100, lambda: [framed(traffic, traffic.error())]),
        (40, lambda: [framed(traffic, traffic.echo())]),
        (30, lambda: [framed(traffic, traffic.other())]),
        (90, lambda: [framed(traffic, one) for one in traffic.datagram_in_disorder()]),
        (90, lambda: [framed(traffic, large(traffic, over=False))]),
        (50, lambda: [framed(traffic, large(traffic, over=True))]),
        (60, lambda: [framed(traffic, spoofed(traffic))]),
        (30, lambda: [traffic.rng.randbytes(traffic.rng.randint(14, 200))]),
        (2, lambda: sweep_of(traffic)),
        (1, lambda: burst(traffic)),
    )
    return interleave(traffic.rng, draw(traffic.rng, makers, count))[:count]


def framed(traffic: Traffic, packet: bytes) -> bytes:
    """A frame around a packet, at times with tags, padding or damage."""
    rng = traffic.rng
    tags: list[tuple[int, int]] = []
    if rng.random() < 0.15:
        count = rng.choice((1, 1, 1, 2, 2, 3))
        tags = [(rng.choice(TAG_TYPES), rng.getrandbits(16)) for _ in range(count)]
    frame = damaged(rng, ethernet(packet, tags, destination(rng)), DAMAGED)
    if rng.random() < 0.3:
        frame += bytes(max(0, 60 - len(frame)))
    return frame[:MOST_BYTES]


def destination(rng: random.Random) -> bytes:
    """The server's MAC; at times one that a switch floods frames for, or almost the server's."""
    if rng.random() >= FOR_OTHER_HOST:
        return SERVER_MAC
    bit = 1 << rng.randrange(48)
    near = (int.from_bytes(SERVER_MAC, "big") ^ bit).to_bytes(6, "big")
    floods = (b"\xff" * 6, bytes(6), bytes.fromhex("01005e000001"), bytes.fromhex("333300000001"))
    return rng.choice((near, near, near, ROUTER_MAC, rng.randbytes(6), rng.choice(floods)))


def large(traffic: Traffic, *, over: bool) -> bytes:
    """A packet about as large as the link allows, or larger; errors and fragments too."""
    rng, mtu = traffic.rng, traffic.scene.config.mtu
    kind = rng.random()
    if not over or kind < 0.85:
        return traffic.large(mtu, over=over)
    flow = traffic.scene.flow(rng)
    if kind < 0.93:
        about = traffic.embedded(flow)
        return traffic.message(flow, 3 if flow.version == 4 else 2, 4, about + traffic.filler(mtu))
    return rng.choice(traffic.fragments(flow)) + traffic.filler(mtu)


def burst(traffic: Traffic) -> Group:
    """More packets that are too big than a window has answers for."""
    return [ethernet(traffic.large(traffic.scene.config.mtu, over=True)) for _ in range(100)]


def spoofed(traffic: Traffic) -> bytes:
    """UDP from this server's own DIP, mostly to the GUE port."""
    rng, config = traffic.rng, traffic.scene.config
    flow = traffic.scene.flow(rng)
    if flow.version == 6:
        return traffic.plain(flow)
    destination = config.self_dip.packed if rng.random() < 0.4 else flow.destination
    port = config.gue_port if rng.random() < 0.8 else flow.destination_port
    protocol = UDP if rng.random() < 0.9 else flow.protocol
    source = config.self_dip.packed
    return traffic.plain(packets.Flow(protocol, source, 5000, destination, port))


def sweep_of(traffic: Traffic) -> Group:
    """One frame, cut at every offset; its length fields stay."""
    rng = traffic.rng
    makers = (traffic.plain, traffic.error, traffic.echo, lambda: traffic.fragments()[0])
    packet = rng.choice(makers)()
    tags = [(rng.choice(TAG_TYPES), rng.getrandbits(16)) for _ in range(rng.choice((0, 0, 1, 2)))]
    return sweep(ethernet(packet, tags, destination(rng)))
