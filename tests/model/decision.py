"""Whether a packet with hops left stays: lines R17 to R22 of wire.md, and its section 6.4."""

from __future__ import annotations

from tests.model.gue import GueHeader
from tests.model.headers import PROTOCOL_TCP, PROTOCOL_UDP, TCP_RST, can_carry_cookie, is_syn
from tests.model.inner import Inner
from tests.model.memory import Memory
from tests.model.sockets import SocketOracle, SocketState

PASS_ON = "pass_on"
_OWNERS = {PROTOCOL_TCP: SocketState.KNOWN, PROTOCOL_UDP: SocketState.UDP_CONNECTED}


def decide(inner: Inner, gue: GueHeader, sockets: SocketOracle, memory: Memory) -> str:
    """The counter of a packet that stays here, ``pass_on`` for one that goes on.

    ``inner`` has passed R13 to R15, so what is no TCP, UDP or ICMP error is an echo request.
    """
    if inner.is_error:
        return "accept_icmp_error" if _is_owner(inner, sockets) else PASS_ON  # R22
    if inner.packet.is_icmp:  # R17
        return "accept_echo"
    if inner.packet.protocol == PROTOCOL_TCP:
        return _decide_tcp(inner, gue, sockets)
    if _is_owner(inner, sockets) or memory.fresh.recall(inner.flow()):  # R21
        return "accept_udp_socket"
    return PASS_ON


def note_last_hop(inner: Inner, gue: GueHeader, sockets: SocketOracle, memory: Memory) -> None:
    """Section 6.4: what R16 accepts can make a UDP flow fresh."""
    is_datagram = not inner.is_error and inner.packet.protocol == PROTOCOL_UDP
    if is_datagram and gue.hop_count > 0 and not _is_owner(inner, sockets):
        memory.fresh.remember(inner.flow(), value=True)


def _decide_tcp(inner: Inner, gue: GueHeader, sockets: SocketOracle) -> str:
    """Lines R18 to R20. A SYN under forward_syn goes on without a look at the sockets."""
    if is_syn(inner.tcp_flags):
        return PASS_ON if gue.forward_syn else "accept_syn"  # R18
    state = _ask(inner, sockets)
    ends_wait = state is SocketState.TIME_WAIT and bool(inner.tcp_flags & TCP_RST)
    if state is SocketState.KNOWN or ends_wait:  # R19
        return "accept_socket"
    if state is SocketState.LISTEN_COOKIE and can_carry_cookie(inner.tcp_flags):  # R20
        return "accept_syncookie"
    return PASS_ON


def _is_owner(inner: Inner, sockets: SocketOracle) -> bool:
    """Whether a socket of the flow's own matches: an open connection, or connected UDP."""
    return _ask(inner, sockets) is _OWNERS[inner.flow().protocol]


def _ask(inner: Inner, sockets: SocketOracle) -> SocketState:
    flow = inner.flow()
    return sockets.lookup(
        flow.protocol,
        flow.source,
        flow.source_port,
        flow.destination,
        flow.destination_port,
    )
