"""Fresh UDP flows: wire.md, section 6.4. A flow stays here before it has a connected socket."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import SocketState
from tests.model.frames import ethernet, udp_packet
from tests.packets.redirector import CONNECTED, KNOWN, UDP_ERROR, UDP_ERROR6, UNCONNECTED, C, D, gue
from tests.packets.row import Packet, Row
from tests.packets.world import AT_HOP, CLIENT, CLIENT6, DATA, NOPS, UDP, UDP6, VIP, VIP6

NONE = SocketState.NONE
FAMILIES = (("IPv4", UDP, UDP_ERROR), ("IPv6", UDP6, UDP_ERROR6))
OTHER_PORT = udp_packet(CLIENT, 40001, VIP, 53, payload=b"question")
OTHER_PORT6 = udp_packet(CLIENT6, 40001, VIP6, 53, payload=b"question")
OPTIONS = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question", options=NOPS)
FIRST_FRAGMENT = udp_packet(CLIENT, 40000, VIP, 53, payload=b"question", fragment=0x2000)


def row(name: str, *packets: Packet) -> Row:
    """Packets that arrive at this server one after another."""
    return Row("redirector", f"6.4 {name}", AT_HOP, packets)


def last(inner: bytes, state: SocketState = NONE) -> Packet:
    """A packet whose last hop this server is."""
    frame = ethernet(gue(inner, C, D, next_hop=2))
    return Packet(frame, "accept_last_hop", state=state)


def at_rest(inner: bytes) -> Packet:
    """A packet whose bucket is at rest."""
    return Packet(ethernet(gue(inner)), "accept_last_hop")


def asked_first(inner: bytes, counter: str, state: SocketState = NONE) -> Packet:
    """A packet that has another hop left."""
    return Packet(ethernet(gue(inner, C)), counter, state=state)


def family_rows() -> Iterator[Row]:
    """What holds for both families."""
    for family, datagram, error in FAMILIES:
        other = OTHER_PORT if family == "IPv4" else OTHER_PORT6
        for name, state in (("no socket", NONE), ("an unconnected socket", UNCONNECTED)):
            yield row(f"{name}, {family}",
                asked_first(datagram, "pass_on", state),
                last(datagram, state),
                asked_first(datagram, "accept_udp_socket", state),
                asked_first(datagram, "accept_udp_socket", state),
                asked_first(other, "pass_on", state),
            )  # fmt: skip
        yield row(f"a bucket at rest, {family}",
            at_rest(datagram), asked_first(datagram, "pass_on"))  # fmt: skip
        yield row(f"a connected socket, {family}",
            last(datagram, CONNECTED), asked_first(datagram, "pass_on"))  # fmt: skip
        yield row(f"an error about a fresh flow, {family}",
            last(datagram), asked_first(error, "pass_on"))  # fmt: skip


ROWS = (
    *family_rows(),
    row("options", last(OPTIONS), asked_first(UDP, "accept_udp_socket")),
    row("a first fragment", last(FIRST_FRAGMENT), asked_first(UDP, "accept_udp_socket")),
    row("TCP", last(DATA, KNOWN), last(DATA), asked_first(DATA, "pass_on")),
)
