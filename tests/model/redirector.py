"""The redirector: what a server does with a frame on its way to the local stack (wire.md, 6)."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.model.config import Config, RedirectorConfig
from tests.model.decap import accepted, passed_on
from tests.model.decision import PASS_ON, decide, note_last_hop
from tests.model.encap import wrap_length
from tests.model.gue import GUE_AT, GueHeader, hops_ahead
from tests.model.headers import (
    ETHERNET_LENGTH,
    ETHERTYPE_IPV4,
    IPV4_LENGTH,
    PROTOCOL_UDP,
    UDP_LENGTH,
    Ipv4Header,
    ether_type,
)
from tests.model.inner import Inner, read_inner, upper_problem
from tests.model.memory import FragmentKey, Memory
from tests.model.result import Result
from tests.model.sockets import SocketOracle

_LEAST_TOTAL_LENGTH = wrap_length(0)


def redirect(
    frame: bytes, config: RedirectorConfig, sockets: SocketOracle, memory: Memory | None = None
) -> Result:
    """The redirector's verdict; lines R1 to R25, the first that applies decides.

    ``memory`` is what earlier frames left; without one there were none.
    """
    memory = Memory() if memory is None else memory
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
    start = ETHERNET_LENGTH + wrap_length(gue.hop_count)
    data = frame[start : ETHERNET_LENGTH + outer.total_length]
    inner = read_inner(data, gue, outer.source, config)  # R7 to R11
    decision = inner if isinstance(inner, str) else _decide(inner, gue, sockets, memory)
    if decision.startswith("accept_"):
        return _accept(decision, frame, gue)
    if decision == PASS_ON:
        return _pass_on(frame, outer, ahead[0], config)
    return _drop(decision)


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

    The list of known DIPs has this server's own too; a list without it refuses what the forwarder
    sent to self (F19).
    """
    if source not in config.known | config.probers:  # R4
        return "drop_unknown_source"
    if config.self_dip in ahead:  # R5
        return "drop_hop_loop"
    if not config.known.issuperset(ahead):  # R6
        return "drop_unknown_hop"
    return None


def _decide(inner: Inner, gue: GueHeader, sockets: SocketOracle, memory: Memory) -> str:
    """Lines R12 to R22: the counter of an accept or a drop, or ``pass_on``.

    AMBIGUOUS in wire.md: whether a decision is remembered when ECN, R23 or R24 drop the first
    fragment all the same. Section 6.2 names only R18 to R22, so it is.
    """
    is_last = gue.next_hop == gue.hop_count
    if inner.packet.is_later_fragment:  # R12
        if is_last:
            return "accept_last_hop"
        return memory.decisions.recall(FragmentKey.of(inner.packet)) or "drop_inner_fragment"
    problem = upper_problem(inner)
    if problem is not None:  # R13 to R15
        return problem
    if is_last:  # R16
        note_last_hop(inner, gue, sockets, memory)
        return "accept_last_hop"
    decision = decide(inner, gue, sockets, memory)  # R17 to R22
    if inner.packet.is_first_fragment:
        memory.decisions.remember(FragmentKey.of(inner.packet), decision)
    return decision


def _accept(counter: str, frame: bytes, gue: GueHeader) -> Result:
    delivered = accepted(frame, gue)
    if delivered is None:
        return _drop("drop_ecn")
    return Result("ok", counter, delivered)


def _pass_on(frame: bytes, outer: Ipv4Header, hop: IPv4Address, config: Config) -> Result:
    """Lines R23 to R25."""
    dip = config.dip_at(hop)
    if dip is None:  # R23
        return _drop("drop_no_dip")
    if outer.total_length > config.mtu:  # R24
        return _drop("drop_too_big")
    return Result("redirect", PASS_ON, passed_on(frame, dip, config))
