"""Whether a packet with hops left stays: lines R17 to R22 of wire.md, sections 6.4 and 6.5."""

from __future__ import annotations

from tests.model.gue import GueHeader
from tests.model.headers import PROTOCOL_TCP, PROTOCOL_UDP, TCP_RST, can_carry_cookie, is_syn
from tests.model.inner import Inner
from tests.model.memory import Memory
from tests.model.sockets import SocketOracle, SocketState

PASS_ON = "pass_on"
_OWNERS = {
    PROTOCOL_TCP: frozenset({SocketState.KNOWN, SocketState.OTHER_NUMBERS}),
    PROTOCOL_UDP: frozenset({SocketState.UDP_CONNECTED}),
}
_ROOM_FOR_AN_OPENING = frozenset(
    {
        SocketState.NONE,
        SocketState.LISTEN,
        SocketState.LISTEN_COOKIE,
        SocketState.TIME_WAIT,
    }
)
_WINDOW_BEFORE_SCALING = 65535
_SEQUENCE_NUMBERS = 1 << 32


def decide(inner: Inner, gue: GueHeader, sockets: SocketOracle, memory: Memory) -> str:
    """The counter of a packet that stays here, ``pass_on`` for one that goes on.

    ``inner`` has passed R13 to R15, so what is no TCP, UDP or ICMP error is an echo request.
    """
    if inner.is_error:
        return "accept_icmp_error" if _is_owner(inner, sockets) else PASS_ON  # R22
    if inner.packet.is_icmp:  # R17
        return "accept_echo"
    if inner.packet.protocol == PROTOCOL_TCP:
        return _decide_tcp(inner, gue, sockets, memory)
    if _is_owner(inner, sockets) or memory.fresh.recall(inner.flow()):  # R21
        return "accept_udp_socket"
    return PASS_ON


def note_last_hop(inner: Inner, gue: GueHeader, sockets: SocketOracle, memory: Memory) -> None:
    """What R16 accepts can make a UDP flow fresh (section 6.4) or open a TCP flow (6.5)."""
    if gue.hop_count == 0:
        return
    if inner.packet.protocol == PROTOCOL_UDP and not _is_owner(inner, sockets):
        memory.fresh.remember(inner.flow(), value=True)
    if is_syn(inner.tcp_flags):
        _note_opening(inner, sockets, memory)


def _note_opening(inner: Inner, sockets: SocketOracle, memory: Memory) -> None:
    """Section 6.5: an accepted SYN is remembered where it can open a connection."""
    if _ask(inner, sockets) in _ROOM_FOR_AN_OPENING:
        memory.openings.remember(inner.flow(), inner.sequence)


def _decide_tcp(inner: Inner, gue: GueHeader, sockets: SocketOracle, memory: Memory) -> str:
    """Lines R18 to R20. A SYN under forward_syn goes on without a look at the sockets."""
    if is_syn(inner.tcp_flags):
        if gue.forward_syn:
            return PASS_ON
        _note_opening(inner, sockets, memory)
        return "accept_syn"  # R18
    state = _ask(inner, sockets)
    if _is_of_connection(inner, state, memory):  # R19
        return "accept_socket"
    if state is SocketState.LISTEN_COOKIE and can_carry_cookie(inner.tcp_flags):  # R20
        return "accept_syncookie"
    return PASS_ON


def _is_of_connection(inner: Inner, state: SocketState, memory: Memory) -> bool:
    """The table of section 6.5. Of a socket in any other state the oracle has seen the numbers."""
    if state is SocketState.TIME_WAIT:
        return bool(inner.tcp_flags & TCP_RST)
    if state is SocketState.REQUEST:
        opening = memory.openings.recall(inner.flow())
        if opening is None:
            return True
        return (inner.sequence - opening) % _SEQUENCE_NUMBERS <= _WINDOW_BEFORE_SCALING
    return state is SocketState.KNOWN


def _is_owner(inner: Inner, sockets: SocketOracle) -> bool:
    """Whether a socket of the flow's own matches: an open connection, or connected UDP."""
    return _ask(inner, sockets) in _OWNERS[inner.flow().protocol]


def _ask(inner: Inner, sockets: SocketOracle) -> SocketState:
    flow = inner.flow()
    return sockets.lookup(
        flow.protocol,
        flow.source,
        flow.source_port,
        flow.destination,
        flow.destination_port,
    )
