"""Which packets are of a socket's connection: wire.md, section 6.5."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import Address, SocketState
from tests.model.frames import ethernet
from tests.packets.redirector import FORWARD_SYN, LISTEN, OTHER_NUMBERS, REQUEST, WAITING, C, D, gue
from tests.packets.row import NO_REQUEST, Packet, Row
from tests.packets.world import ACK, AT_HOP, FIN, NOPS, RST, SYN, VIP, VIP6, tcp

NONE = SocketState.NONE
FAMILIES: tuple[tuple[str, Address], ...] = (("IPv4", VIP), ("IPv6", VIP6))
SEQUENCE, FAR = 1000, 1000 + (1 << 30)
SYN_WINDOW = 65535
LAST = 1 << 32


def row(name: str, *packets: Packet) -> Row:
    """Packets that arrive at this server one after another."""
    not_for = NO_REQUEST if REQUEST in {packet.state for packet in packets} else {}
    return Row("redirector", f"6.5 {name}", AT_HOP, packets, not_for)


def syn(
    sequence: int = SEQUENCE,
    state: SocketState | None = LISTEN,
    vip: Address = VIP,
    counter: str = "accept_syn",
    **fields: int,
) -> Packet:
    """A SYN that has another hop left."""
    frame = ethernet(gue(tcp(SYN, vip=vip, numbers=(sequence, 0)), C, **fields))
    return Packet(frame, counter, state=state)


def data(
    counter: str,
    sequence: int = SEQUENCE,
    state: SocketState | None = REQUEST,
    vip: Address = VIP,
    flags: int = ACK,
) -> Packet:
    """What comes behind it."""
    return Packet(
        ethernet(gue(tcp(flags, vip=vip, numbers=(sequence, 2000)), C)), counter, state=state
    )


KEPT, NOT_KEPT = "accept_socket", "pass_on"


def family_rows() -> Iterator[Row]:
    """What holds for both families."""
    for family, vip in FAMILIES:
        yield row(f"a request, {family}",
            syn(vip=vip),
            data(KEPT, vip=vip),
            data(KEPT, SEQUENCE + 1, vip=vip),
            data(KEPT, SEQUENCE + SYN_WINDOW, vip=vip),
            data(NOT_KEPT, SEQUENCE + SYN_WINDOW + 1, vip=vip),
            data(NOT_KEPT, SEQUENCE - 1, vip=vip),
            data(NOT_KEPT, FAR, vip=vip),
        )  # fmt: skip
        yield row(f"another connection of the same ports, {family}",
            data(NOT_KEPT, state=OTHER_NUMBERS, vip=vip),
            data(NOT_KEPT, state=OTHER_NUMBERS, vip=vip, flags=RST),
            data(NOT_KEPT, state=OTHER_NUMBERS, vip=vip, flags=ACK | FIN),
        )  # fmt: skip


def late_syn(next_hop: int, *hops: object) -> Packet:
    """A SYN that has no hop left."""
    inner = tcp(SYN, numbers=(SEQUENCE, 0))
    frame = ethernet(gue(inner, *hops, next_hop=next_hop))  # type: ignore[arg-type]
    return Packet(frame, "accept_last_hop", state=LISTEN)


OPTIONS = Packet(
    ethernet(gue(tcp(SYN, numbers=(SEQUENCE, 0), options=NOPS), C)), "accept_syn", state=LISTEN
)
RARE_DATA = Packet(
    ethernet(gue(tcp(numbers=(FAR, 2000), options=NOPS), C)), "pass_on", state=REQUEST
)

ROWS = (
    *family_rows(),
    row("a request's reset",
        syn(), data(KEPT, SEQUENCE + 1, flags=RST), data(NOT_KEPT, FAR, flags=RST)),
    row("modulo 2^32", syn(LAST - 1),
        data(KEPT, 0), data(KEPT, SYN_WINDOW - 1), data(NOT_KEPT, SYN_WINDOW)),
    row("nobody has the port", syn(state=NONE), data(NOT_KEPT, FAR)),
    row("a SYN in TIME-WAIT", syn(state=WAITING), data(NOT_KEPT, FAR)),
    row("a later SYN takes its place", syn(FAR), syn(), data(KEPT), data(NOT_KEPT, FAR)),
    row("not while there is a request", syn(), syn(FAR, REQUEST), data(KEPT), data(NOT_KEPT, FAR)),
    row("the last of several hops", late_syn(2, C, D), data(NOT_KEPT, FAR)),
    row("at rest nothing is remembered", late_syn(0), data(KEPT, FAR)),
    row("nor what is passed on",
        syn(counter="pass_on", private_flags=FORWARD_SYN), data(KEPT, FAR)),
    row("nor another packet",
        syn(), data(NOT_KEPT, FAR, LISTEN), data(KEPT), data(NOT_KEPT, FAR)),
    row("options", OPTIONS, RARE_DATA, data(KEPT)),
)  # fmt: skip
