"""What the attached redirector takes out of GUE arrives: frames on a wire, real sockets behind it.

A test run (BPF_PROG_TEST_RUN) shows the bytes; that the stack takes them for what they are is seen
here only: the protocol of the buffer, checksums, reassembly, tags that the kernel takes out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lb.agent.attach import clsact
from lb.agent.netlink.route_socket import RouteSocket
from tests.dataplane.own_netns import OwnNetns, ip
from tests.dataplane.rig import Rig
from tests.dataplane.socket_case import (
    DEADLINE_SECONDS,
    ETH_P_ALL,
    MAC,
    OWN,
    PORT,
    QUIET,
    SYN,
    UDP_PORT,
    B,
    C,
    Family,
    is_syn_ack,
    make_server,
    server_config,
)
from tests.dataplane.socket_states import PLAIN, Shape, families
from tests.model import SameSocket, redirect
from tests.model.frames import (
    C_TAG,
    destination_options,
    ethernet,
    fragments_of,
    gue_packet,
    hop_by_hop,
    routing,
    tcp_packet,
    udp_packet,
)

OUTSIDE, INSIDE = "wire0", "wire1"
PRIORITY_TAG = C_TAG[:2] + bytes(2)
ECT0, CE = 2, 3
# what a Linux stack takes, too: no authentication header, no more than 7 bytes of padding
RARE: dict[int, Shape] = {
    4: {"options": bytes((1, 1, 1, 0))},
    6: {"headers": [hop_by_hop(), routing(), destination_options()]},
}
# hop-by-hop options stand before a fragment header, never in what is cut
CUT: dict[int, Shape] = {**RARE, 6: {"headers": [routing(), destination_options()]}}
shapes = pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])


class Wire:
    """A server behind a link, with the redirector attached as the agent attaches it."""

    def __init__(self, netns: OwnNetns, rig: Rig) -> None:
        self.netns = netns
        self.rig = rig

    def set_up(self) -> None:
        """Make the link; attach."""
        mac = MAC.hex(":")
        peer = ("peer", "name", INSIDE, "address", mac)
        ip("link", "add", OUTSIDE, "type", "veth", *peer)
        for link in (OUTSIDE, INSIDE):
            ip("link", "set", link, "addrgenmode", "none", "up")
            Path(f"/proc/sys/net/ipv4/conf/{link}/rp_filter").write_text("0")
        Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
        with RouteSocket() as netlink:
            index = socket.if_nametoindex(INSIDE)
            clsact.add_clsact(netlink, index)
            clsact.attach_filter(netlink, index, self.rig.dataplane.redirector_fd)

    def packets(self, link: str) -> socket.socket:
        """A socket that sends and sees frames of a link."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            made.bind((link, ETH_P_ALL))
            made.settimeout(DEADLINE_SECONDS)
            return made

        return self.netns.run(make)

    def send(
        self,
        *packets: bytes,
        hops: tuple[IPv4Address, ...] = (),
        tos: int = 0,
        tag: bytes = b"",
    ) -> None:
        """Put packets on the wire, wrapped."""
        tags = (tag,) if tag else ()
        with self.packets(OUTSIDE) as outside:
            for packet in packets:
                outside.send(ethernet(gue_packet(B, OWN, packet, hops, tos=tos), tags=tags))

    def server(self, family: Family) -> socket.socket:
        """A UDP server on the VIP that is told about TOS."""

        def make() -> socket.socket:
            made = socket.socket(family.kind, socket.SOCK_DGRAM)
            if family.version == 4:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            made.settimeout(DEADLINE_SECONDS)
            made.bind((str(family.vip), UDP_PORT))
            return made

        return self.netns.run(make)

    def counter(self, name: str) -> int:
        return self.rig.dataplane.counters()[name]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Programs of its own: an attached one counts packets that no test has sent."""
    rig = Rig()
    try:
        rig.configure(server_config())
        with make_server() as netns:
            made = Wire(netns, rig)
            netns.run(made.set_up)
            yield made
    finally:
        rig.close()


def received(server: socket.socket) -> tuple[bytes, str, int]:
    """Payload, source address and TOS of the next datagram."""
    payload, ancillary, _, source = server.recvmsg(4096, 256)
    (_, _, data) = ancillary[0]
    return payload, str(source[0]), int.from_bytes(data[:4], "little")


@families
@shapes
@pytest.mark.parametrize("tag", [b"", PRIORITY_TAG], ids=["untagged", "tagged"])
def test_a_datagram_arrives(wire: Wire, family: Family, rare: bool, tag: bytes) -> None:
    shape = RARE[family.version] if rare else PLAIN
    packet = udp_packet(family.silent, 5353, family.vip, UDP_PORT, payload=b"hello", **shape)
    with wire.server(family) as server:
        for hops in ((), (C,)):
            if hops:
                server.connect((str(family.silent), 5353))
            wire.send(packet, hops=hops, tag=tag)
            assert received(server) == (b"hello", str(family.silent), 0)


@families
@shapes
def test_congestion_on_the_way_is_told_to_the_socket(
    wire: Wire, family: Family, rare: bool
) -> None:
    shape = RARE[family.version] if rare else PLAIN
    ends = (family.silent, 5353, family.vip, UDP_PORT)
    with wire.server(family) as server:
        for inner, outer, wanted in ((0xB8 | ECT0, CE, 0xBB), (ECT0, 1, 1), (0x20, ECT0, 0x20)):
            wire.send(udp_packet(*ends, payload=b"x", tos=inner, **shape), tos=outer)
            assert received(server) == (b"x", str(family.silent), wanted)


@families
@shapes
def test_fragments_become_a_datagram_again(wire: Wire, family: Family, rare: bool) -> None:
    shape = CUT[family.version] if rare else PLAIN
    content = bytes(range(256)) * 4
    packet = udp_packet(family.silent, 5353, family.vip, UDP_PORT, payload=content, **shape)
    with wire.server(family) as server:
        for number, hops in enumerate(((), (C,)), 1):
            if hops:
                server.connect((str(family.silent), 5353))
            wire.send(*fragments_of(packet, 400, identification=number), hops=hops)
            assert received(server)[:2] == (content, str(family.silent))


@families
@shapes
def test_a_syn_is_answered(wire: Wire, family: Family, rare: bool) -> None:
    shape = RARE[family.version] if rare else PLAIN
    syn = tcp_packet(family.silent, 4711, family.vip, PORT, flags=SYN, **shape)

    def listen() -> socket.socket:
        made = socket.create_server((str(family.vip), PORT), family=family.kind)
        made.settimeout(DEADLINE_SECONDS)
        return made

    with wire.netns.run(listen), wire.packets(QUIET) as quiet:
        wire.send(syn, hops=(C,))
        answer = quiet.recv(2048)
        while not is_syn_ack(answer[14:], family):
            answer = quiet.recv(2048)
    at = 14 + family.tcp_at
    assert struct.unpack_from(">HH", answer, at) == (PORT, 4711)


@families
@shapes
def test_an_unknown_connection_leaves_by_the_way_it_came(
    wire: Wire, family: Family, rare: bool
) -> None:
    shape = RARE[family.version] if rare else PLAIN
    packet = udp_packet(family.silent, 1, family.vip, UDP_PORT, payload=b"x", **shape)
    frame = ethernet(gue_packet(B, OWN, packet, (C,)))
    wanted = redirect(frame, server_config(), SameSocket())
    assert wanted.verdict == "redirect"
    with wire.packets(OUTSIDE) as outside:
        outside.send(frame)
        while outside.recv(2048) != wanted.frame:
            pass


def test_a_packet_of_another_port_is_the_stacks(wire: Wire) -> None:
    before = wire.counter("ok_not_gue")
    with wire.packets(OUTSIDE) as outside:
        outside.send(ethernet(gue_packet(B, OWN, b"", gue_port=6081)))
    assert wire.counter("ok_not_gue") > before
