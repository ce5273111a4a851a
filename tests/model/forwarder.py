"""The forwarder: what happens to a frame that an interface received (wire.md, section 4)."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.model.config import Config, Dip, ForwarderConfig
from tests.model.encap import wrap, wrap_length
from tests.model.flow import Flow, bucket_of, outer_source_port
from tests.model.headers import (
    ETHERNET_LENGTH,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPES_VLAN,
    IPV4_LENGTH,
    PROTOCOL_ICMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP_LENGTH,
    UDP_LENGTH,
    Ipv4Header,
    ether_type,
    ports,
)
from tests.model.link import header_towards
from tests.model.result import Result, Verdict
from tests.model.visits import visiting_order

_TRANSPORT_LENGTHS = {PROTOCOL_TCP: TCP_LENGTH, PROTOCOL_UDP: UDP_LENGTH}


def forward(frame: bytes, config: ForwarderConfig) -> Result:
    """The forwarder's verdict about one frame; lines F1 to F22, the first that applies decides."""
    other = _other_than_ipv4(frame)
    if other is not None:
        return Result("pass", other, frame)
    ip = Ipv4Header.parse(frame[ETHERNET_LENGTH:])
    unfit = _unfit(frame, ip)
    if unfit is not None:
        verdict, counter = unfit
        return _if_for_vip(verdict, counter, frame, ip, config)
    if ip.protocol not in _TRANSPORT_LENGTHS:  # F10
        return Result("pass", "pass_no_service", frame)
    if len(frame) < _end_of_transport(ip):  # F11
        return _if_for_vip("drop", "drop_malformed", frame, ip, config)
    flow = _flow(frame, ip)
    if _is_spoofed(flow, config):  # F12
        return Result("drop", "drop_spoofed", None)
    service = config.service_index(flow.destination, flow.protocol, flow.destination_port)
    if service is None:  # F13
        return Result("pass", "pass_no_service", frame)
    return _serve(frame, ip, flow, service, config)


def _other_than_ipv4(frame: bytes) -> str | None:
    """Lines F1 to F5: the counter of a frame that is no IPv4 packet we can look at."""
    if len(frame) < ETHERNET_LENGTH:  # F1
        return "pass_not_ip"
    kind = ether_type(frame)
    if kind in ETHERTYPES_VLAN:  # F2
        return "pass_vlan"
    if kind == ETHERTYPE_IPV6:  # F3
        return "pass_ipv6"
    if kind != ETHERTYPE_IPV4:  # F4
        return "pass_not_ip"
    if len(frame) < ETHERNET_LENGTH + IPV4_LENGTH or frame[ETHERNET_LENGTH] >> 4 != 4:  # F5
        return "pass_malformed"
    return None


def _unfit(frame: bytes, ip: Ipv4Header) -> tuple[Verdict, str] | None:
    """Lines F6 to F9: what becomes of a packet for a VIP that this version does not forward."""
    if ip.ihl < 5:  # F6
        return "drop", "drop_malformed"
    if ip.ihl > 5:  # F7
        return "drop", "drop_ip_options"
    if ip.is_fragment:  # F8
        return "drop", "drop_fragment"
    if ip.protocol == PROTOCOL_ICMP:  # F9
        return "pass", "pass_vip_icmp"
    return None


def _if_for_vip(
    verdict: Verdict, counter: str, frame: bytes, ip: Ipv4Header, config: Config
) -> Result:
    """The "VIP?" of section 4."""
    if not config.is_vip(ip.destination):
        return Result("pass", "pass_no_service", frame)
    return Result(verdict, counter, None if verdict == "drop" else frame)


def _end_of_transport(ip: Ipv4Header) -> int:
    """The least length of a frame that holds the whole TCP or UDP header."""
    return ETHERNET_LENGTH + IPV4_LENGTH + _TRANSPORT_LENGTHS[ip.protocol]


def _flow(frame: bytes, ip: Ipv4Header) -> Flow:
    source_port, destination_port = ports(frame[ETHERNET_LENGTH + IPV4_LENGTH :])
    return Flow(ip.protocol, ip.source, source_port, ip.destination, destination_port)


def _is_spoofed(flow: Flow, config: Config) -> bool:
    """Line F12. The destination address does not matter."""
    return (
        flow.source == config.self_dip
        and flow.protocol == PROTOCOL_UDP
        and flow.destination_port == config.gue_port
    )


def _serve(frame: bytes, ip: Ipv4Header, flow: Flow, index: int, config: Config) -> Result:
    """Lines F14 to F17, for a packet that its service counts from here on."""

    def drop(counter: str) -> Result:
        return Result("drop", counter, None, index)

    least = IPV4_LENGTH + _TRANSPORT_LENGTHS[ip.protocol]
    if not least <= ip.total_length <= len(frame) - ETHERNET_LENGTH:  # F14
        return drop("drop_malformed")
    service = config.services[index]
    pool = config.pools.get(service.pool)
    if pool is None:  # F15
        return drop("drop_no_table")
    flow_hash = flow.hash(pool.key)
    chain = pool.chain(bucket_of(flow_hash, pool.buckets))
    if not chain:  # F16
        return drop("drop_no_bucket")
    order = visiting_order(chain, flow.protocol, stateless=service.stateless)
    if any(visit not in config.dips for visit in order):  # F17
        return drop("drop_no_dip")
    visits = tuple(config.dips[visit] for visit in order)
    return _send(frame, ip, visits, outer_source_port(flow_hash), index, config)


def _send(
    frame: bytes,
    ip: Ipv4Header,
    visits: tuple[Dip, ...],
    source_port: int,
    index: int,
    config: Config,
) -> Result:
    """Lines F18 to F22."""
    first = visits[0]
    to_self = first.address == config.self_dip
    if to_self and len(visits) == 1:  # F18
        return Result("pass", "pass_local", frame, index)
    outer_length = ip.total_length + wrap_length(len(visits) - 1)
    # AMBIGUOUS in wire.md: F19 stands before F20, so nothing keeps a packet to self below the
    # 65,535 bytes that its length field can say. Such a packet cannot be built: too big.
    if outer_length > (0xFFFF if to_self else config.mtu):  # F20
        return Result("drop", "drop_too_big", None, index)
    addresses: tuple[IPv4Address, ...] = tuple(dip.address for dip in visits)
    inside = wrap(ip, config.self_dip, addresses, source_port, config.gue_port)
    packet = inside + frame[ETHERNET_LENGTH:]
    if to_self:  # F19
        return Result("pass", "pass_to_self", frame[:ETHERNET_LENGTH] + packet, index)
    counter = "tx_forward" if len(visits) == 1 else "tx_forward_chain"  # F21, F22
    return Result("tx", counter, header_towards(first, frame, config) + packet, index)
