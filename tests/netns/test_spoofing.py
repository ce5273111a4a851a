"""A stranger sends GUE to a server: dropped by name, nothing reflected, nothing delivered."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest

from netns.brigade import client_address, client_address6, dip, server_name
from netns.polling import wait_until
from netns.topology import Address
from tests.model.frames import gue_packet, icmp_error, ipv6, udp_packet
from tests.netns.capture import Capture
from tests.netns.raw import send_packets
from tests.netns.stage import ECHO_PORT, SERVERS, VIP4, VIP6, Stage

TARGET, OTHER = dip(1), dip(2)
STRANGER, STRANGER6 = client_address(1), client_address6(1)
STRANGERS_PORT = 40000
NOT_A_VIP, NOT_A_VIP6 = IPv4Address("192.0.2.66"), IPv6Address("2001:db8::66")
GUE_PORT = 6080
TIMES = 3


def inner(destination: Address = VIP4, payload: bytes = b"spoofed") -> bytes:
    source = STRANGER if destination.version == 4 else STRANGER6
    return udp_packet(source, STRANGERS_PORT, destination, ECHO_PORT, payload=payload)


def lying(payload_length: int) -> bytes:
    """IPv6 whose length is not what the wrap leaves for it."""
    return ipv6(
        STRANGER6, VIP6, socket.IPPROTO_UDP, inner(VIP6)[40:], payload_length=payload_length
    )


def error_about(source: IPv4Address) -> bytes:
    """A port unreachable for the VIP that speaks of a packet of somebody else's."""
    about = udp_packet(source, ECHO_PORT, STRANGER, STRANGERS_PORT)
    return icmp_error(STRANGER, about, destination=VIP4, kind=3, code=3)


def gue_in_gue(destination: IPv4Address) -> bytes:
    return gue_packet(OTHER, destination, inner())


ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "unknown source": ("drop_unknown_source", lambda: gue_packet(STRANGER, TARGET, inner())),
    "unknown source, hops": (
        "drop_unknown_source",
        lambda: gue_packet(STRANGER, TARGET, inner(), [OTHER]),
    ),
    "unknown source, IPv6 inside": (
        "drop_unknown_source",
        lambda: gue_packet(STRANGER, TARGET, inner(VIP6)),
    ),
    "our own DIP, from the wire": ("drop_spoofed", lambda: gue_packet(TARGET, TARGET, inner())),
    "our own DIP, hops": ("drop_spoofed", lambda: gue_packet(TARGET, TARGET, inner(), [OTHER])),
    "to no VIP": ("drop_not_vip", lambda: gue_packet(OTHER, TARGET, inner(NOT_A_VIP))),
    "to a DIP": ("drop_not_vip", lambda: gue_packet(OTHER, TARGET, inner(TARGET))),
    "to the stranger": ("drop_not_vip", lambda: gue_packet(OTHER, TARGET, inner(STRANGER))),
    "to no VIP, hops": (
        "drop_not_vip",
        lambda: gue_packet(OTHER, TARGET, inner(STRANGER), [OTHER]),
    ),
    "to no VIP of IPv6": (
        "drop_not_vip",
        lambda: gue_packet(OTHER, TARGET, inner(NOT_A_VIP6)),
    ),
    "to the stranger, IPv6": (
        "drop_not_vip",
        lambda: gue_packet(OTHER, TARGET, inner(STRANGER6)),
    ),
    "unknown hop": (
        "drop_unknown_hop",
        lambda: gue_packet(OTHER, TARGET, inner(), [STRANGER]),
    ),
    "unknown hop behind a known": (
        "drop_unknown_hop",
        lambda: gue_packet(OTHER, TARGET, inner(), [OTHER, STRANGER]),
    ),
    "next_hop beyond hop_count": (
        "drop_gue_malformed",
        lambda: gue_packet(OTHER, TARGET, inner(), [OTHER], next_hop=2),
    ),
    "more hops than the list": (
        "drop_gue_malformed",
        lambda: gue_packet(OTHER, TARGET, inner(), [OTHER], hop_count=2, hlen=2),
    ),
    "a loop": ("drop_hop_loop", lambda: gue_packet(OTHER, TARGET, inner(), [TARGET])),
    "a longer loop": ("drop_hop_loop", lambda: gue_packet(OTHER, TARGET, inner(), [OTHER, TARGET])),
    "GUE in GUE, to us": ("drop_not_vip", lambda: gue_packet(OTHER, TARGET, gue_in_gue(TARGET))),
    "GUE in GUE, to another": (
        "drop_not_vip",
        lambda: gue_packet(OTHER, TARGET, gue_in_gue(dip(3)), [OTHER]),
    ),
    "IPv6 that lies about its length": (
        "drop_inner_malformed",
        lambda: gue_packet(OTHER, TARGET, lying(2000)),
    ),
    "IPv6 said to be IPv4": (
        "drop_inner_malformed",
        lambda: gue_packet(OTHER, TARGET, inner(VIP6), proto=4),
    ),
    "an error that speaks of another's packet": (
        "drop_not_vip",
        lambda: gue_packet(OTHER, TARGET, error_about(NOT_A_VIP)),
    ),
    "a last_hop_gre": (
        "drop_gue_malformed",
        lambda: gue_packet(OTHER, TARGET, inner(), private_flags=0x04),
    ),
}


class Eavesdropper:
    """Hears every UDP datagram that a server's stack is given, and all that servers send."""

    def __init__(self, stage: Stage, stranger: socket.socket, close: ExitStack) -> None:
        self.stranger = stranger
        self._sockets = []
        for number in SERVERS:
            for family in (socket.AF_INET, socket.AF_INET6):
                with stage.host(number).entered():
                    sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
                sock.settimeout(0)
                self._sockets.append(close.enter_context(sock))
        # From the servers: the ways to them are full of what the stranger sends.
        self._captures = [
            close.enter_context(Capture(stage.router, server_name(number), "ip or ip6"))
            for number in SERVERS
        ]

    def delivered(self) -> list[bytes]:
        """What stacks were given since the last time."""
        found = []
        for sock in self._sockets:
            while True:
                try:
                    found.append(sock.recv(2048))
                except BlockingIOError:
                    break
        return found

    def sent(self) -> list[bytes]:
        """What servers have sent since the beginning, apart from what they send by themselves."""
        packets = [p.data[14:] for c in self._captures for p in c.packets() if not p.outgoing]
        return [d for d in packets if not is_neighbour_discovery(d) and not is_path_probe(d)]


def is_neighbour_discovery(packet: bytes) -> bool:
    """Whether it is ICMPv6 that keeps a link going (RFC 4861, RFC 3810)."""
    return packet[0] >> 4 == 6 and packet[6] in (0, socket.IPPROTO_ICMPV6)


def is_path_probe(packet: bytes) -> bool:
    """Whether it is a probe between servers or its answer: ICMP echo from one DIP to another."""
    dips = {dip(number).packed for number in SERVERS}
    if packet[0] != 0x45 or not {packet[12:16], packet[16:20]} <= dips:
        return False
    if packet[9] == socket.IPPROTO_ICMP:
        return packet[20] == 0
    inner = packet[36:]
    hops = packet[35]
    return hops == 0 and inner[0] == 0x45 and inner[9] == socket.IPPROTO_ICMP and inner[20] == 8


@pytest.fixture
def ears(stage: Stage) -> Iterator[Eavesdropper]:
    with ExitStack() as close:
        with stage.client.entered():
            stranger = close.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        # An answer that nobody waits for would be one more packet to the VIP: an ICMP error.
        stranger.bind((str(STRANGER), STRANGERS_PORT))
        stranger.settimeout(5)
        yield Eavesdropper(stage, stranger, close)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_stranger_wraps_is_dropped_by_name_and_goes_nowhere(
    stage: Stage, ears: Eavesdropper, attack: str
) -> None:
    reason, packet = ATTACKS[attack]
    before = stage.counters()
    send_packets(stage.client, [packet()] * TIMES)
    # One that is in order, behind them: once it has come, they have been decided about.
    send_packets(stage.client, [gue_packet(OTHER, TARGET, inner(payload=b"in order"))])
    heard: list[bytes] = []

    def has_come() -> bool:
        heard.extend(ears.delivered())
        return any(datagram.endswith(b"in order") for datagram in heard)

    wait_until(has_come, "the one that is in order has come")
    # It is there: one on its way to a closed socket would be an ICMP error in the next case.
    assert ears.stranger.recv(2048) == b"server1 in order"
    assert len(heard) == 1
    sent = ears.sent()
    assert len(sent) == 1, [d.hex() for d in sent]
    assert sent[0].endswith(b"server1 in order")
    grown = {n: +stage.grown(before, n) for n in SERVERS}
    assert grown[1][reason] == TIMES, grown
    drops = {n: {k: v for k, v in g.items() if k.startswith("drop")} for n, g in grown.items()}
    assert drops == {1: {reason: TIMES}, 2: {}, 3: {}}
    assert grown[1]["pass_on"] == grown[2]["accept_last_hop"] == grown[3]["accept_last_hop"] == 0
