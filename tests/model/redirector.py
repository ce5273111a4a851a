"""The redirector: what a server does with a frame on its way to the local stack (wire.md, 6)."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.model.config import Config, RedirectorConfig
from tests.model.decap import accepted, passed_on
from tests.model.encap import wrap_length
from tests.model.gue import GUE_AT, PROTO_IPV6, GueHeader, hops_ahead
from tests.model.headers import (
    ETHERNET_LENGTH,
    ETHERTYPE_IPV4,
    IPV4_LENGTH,
    PROTOCOL_ICMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    UDP_LENGTH,
    Ipv4Header,
    can_carry_cookie,
    ether_type,
    is_syn,
)
from tests.model.inner import InnerPacket, inner_problem
from tests.model.result import Result
from tests.model.sockets import SocketOracle, SocketState

_LEAST_TOTAL_LENGTH = wrap_length(0)


def redirect(frame: bytes, config: RedirectorConfig, sockets: SocketOracle) -> Result:
    """The redirector's verdict; lines R1 to R22, the first that applies decides."""
    if not _is_gue_for_me(frame, config):  # R1
        return Result("ok", "ok_not_gue", frame)
    outer = Ipv4Header.parse(frame[ETHERNET_LENGTH:])
    if _is_outer_malformed(frame, outer):  # R2
        return _drop("drop_gue_malformed")
    gue = GueHeader.parse(frame)
    if gue.is_malformed(outer.total_length):  # R3
        return _drop("drop_gue_malformed")
    ahead = hops_ahead(frame, gue)
    untrusted = _untrusted(outer.source, ahead, config)
    if untrusted is not None:
        return _drop(untrusted)
    if gue.proto == PROTO_IPV6:  # R7
        return _drop("drop_inner_ipv6")
    start = ETHERNET_LENGTH + wrap_length(gue.hop_count)
    packet = frame[start : ETHERNET_LENGTH + outer.total_length]
    problem = inner_problem(packet, config)
    if problem is not None:
        return _drop(problem)
    reason = _reason_to_accept(InnerPacket.parse(packet), gue, ahead, sockets)
    if reason is not None:
        return _accept(reason, frame, gue)
    return _pass_on(frame, outer, ahead[0], config)


def _drop(counter: str) -> Result:
    return Result("drop", counter, None)


def _is_gue_for_me(frame: bytes, config: Config) -> bool:
    """Line R1."""
    if len(frame) < GUE_AT or ether_type(frame) != ETHERTYPE_IPV4:
        return False
    ip = Ipv4Header.parse(frame[ETHERNET_LENGTH:])
    port_at = ETHERNET_LENGTH + IPV4_LENGTH + 2
    return (
        (ip.version, ip.ihl, ip.is_fragment) == (4, 5, False)
        and ip.protocol == PROTOCOL_UDP
        and ip.destination == config.self_dip
        and int.from_bytes(frame[port_at : port_at + 2], "big") == config.gue_port
    )


def _is_outer_malformed(frame: bytes, outer: Ipv4Header) -> bool:
    """Line R2."""
    udp = frame[ETHERNET_LENGTH + IPV4_LENGTH :][:UDP_LENGTH]
    udp_length = int.from_bytes(udp[4:6], "big")
    udp_checksum = int.from_bytes(udp[6:8], "big")
    return (
        not _LEAST_TOTAL_LENGTH <= outer.total_length <= len(frame) - ETHERNET_LENGTH
        or udp_length != outer.total_length - IPV4_LENGTH
        or udp_checksum != 0
    )


def _untrusted(source: IPv4Address, ahead: tuple[IPv4Address, ...], config: Config) -> str | None:
    """Lines R4 to R6.

    AMBIGUOUS in wire.md: whether this server's own DIP is a known one by itself. The model looks at
    the list alone, so a list without it refuses what the forwarder sent to self (F19).
    """
    if source not in config.known | config.probers:  # R4
        return "drop_unknown_source"
    if config.self_dip in ahead:  # R5
        return "drop_hop_loop"
    if not config.known.issuperset(ahead):  # R6
        return "drop_unknown_hop"
    return None


def _reason_to_accept(
    inner: InnerPacket,
    gue: GueHeader,
    ahead: tuple[IPv4Address, ...],
    sockets: SocketOracle,
) -> str | None:
    """Lines R14 to R19: the counter of a packet that stays here, None for one that goes on."""
    if not ahead:  # R14
        return "accept_last_hop"
    if inner.protocol == PROTOCOL_ICMP:  # R15: what is left of ICMP here is an echo request
        return "accept_echo"
    if inner.protocol == PROTOCOL_TCP:
        return _reason_of_tcp(inner, gue, sockets)
    if _ask(inner, sockets) is SocketState.UDP_CONNECTED:  # R19
        return "accept_udp_socket"
    return None


def _reason_of_tcp(inner: InnerPacket, gue: GueHeader, sockets: SocketOracle) -> str | None:
    """Lines R16 to R18.

    AMBIGUOUS in wire.md: R17 excepts "a SYN as in R16". R16 has accepted those already, so the
    exception says something only if it means the three TCP flags without the fourth condition: a
    SYN under forward_syn is passed on without a look at the sockets.
    """
    if is_syn(inner.tcp_flags):
        return None if gue.forward_syn else "accept_syn"  # R16
    state = _ask(inner, sockets)
    if state is SocketState.KNOWN:  # R17
        return "accept_socket"
    if state is SocketState.LISTEN_COOKIE and can_carry_cookie(inner.tcp_flags):  # R18
        return "accept_syncookie"
    return None


def _ask(inner: InnerPacket, sockets: SocketOracle) -> SocketState:
    return sockets.lookup(
        inner.protocol,
        inner.source,
        inner.source_port,
        inner.destination,
        inner.destination_port,
    )


def _accept(counter: str, frame: bytes, gue: GueHeader) -> Result:
    delivered = accepted(frame, gue.hop_count)
    if delivered is None:
        return _drop("drop_ecn")
    return Result("ok", counter, delivered)


def _pass_on(frame: bytes, outer: Ipv4Header, hop: IPv4Address, config: Config) -> Result:
    """Lines R20 to R22."""
    dip = config.dip_at(hop)
    if dip is None:  # R20
        return _drop("drop_no_dip")
    if outer.total_length > config.mtu:  # R21
        return _drop("drop_too_big")
    return Result("redirect", "pass_on", passed_on(frame, dip, config))
