"""The forwarder: what happens to a frame that an interface received (wire.md, section 4)."""

from __future__ import annotations

from tests.model.arrival import Arrival, Found, read_arrival
from tests.model.config import Config, ForwarderConfig
from tests.model.extension import EXTENSION_HEADERS, Problem
from tests.model.flow import Flow
from tests.model.forwarder_icmp import find_by_error
from tests.model.headers import PROTOCOL_TCP, PROTOCOL_UDP, TCP_LENGTH, UDP_LENGTH, ports
from tests.model.memory import FragmentKey, Memory
from tests.model.result import Result
from tests.model.serve import serve

_TRANSPORT_LENGTHS = {PROTOCOL_TCP: TCP_LENGTH, PROTOCOL_UDP: UDP_LENGTH}


def forward(frame: bytes, config: ForwarderConfig, memory: Memory | None = None) -> Result:
    """The forwarder's verdict about one frame; lines F1 to F22, the first that applies decides.

    ``memory`` is what earlier frames left; without one there were none.
    """
    memory = Memory() if memory is None else memory
    arrival = read_arrival(frame)
    if isinstance(arrival, str):  # F1 to F4
        return Result("pass", arrival, frame)
    result = _unfit(arrival, config)  # F5 to F7
    if result is not None:
        return result
    found = _find(arrival, config, memory)  # F8 to F13
    if isinstance(found, Result):
        return found
    return serve(arrival, found, config, memory)  # F14 to F22


def _unfit(arrival: Arrival, config: Config) -> Result | None:
    """Lines F5 to F7: headers that cannot be read, and ICMP in pieces."""
    packet = arrival.packet
    if packet.problem is Problem.TOO_MANY:  # F6
        return arrival.if_for_vip("drop", "drop_ext_headers", config)
    if packet.problem is not None:  # F5, F6
        return arrival.if_for_vip("drop", "drop_malformed", config)
    if packet.is_icmp and packet.fragment is not None:  # F7
        return arrival.if_for_vip("pass", "pass_vip_icmp", config)
    return None


def _find(arrival: Arrival, config: Config, memory: Memory) -> Found | Result:
    """The flow and service of a packet, in the three ways there are."""
    if arrival.packet.is_icmp:  # F8
        return find_by_error(arrival, config)
    if arrival.packet.is_later_fragment:  # F9
        return _find_later_fragment(arrival, config, memory)
    return _find_by_ports(arrival, config)


def _find_by_ports(arrival: Arrival, config: Config) -> Found | Result:
    """Lines F10 to F13."""
    packet = arrival.packet
    if packet.protocol not in _TRANSPORT_LENGTHS:  # F10
        return arrival.passed("pass_no_service")
    least = _TRANSPORT_LENGTHS[packet.protocol]
    if len(arrival.upper) < least:  # F11
        return arrival.if_for_vip("drop", "drop_malformed", config)
    source_port, destination_port = ports(arrival.upper)
    flow = Flow(packet.protocol, packet.source, source_port, packet.destination, destination_port)
    if _is_spoofed(flow, config) and not arrival.is_for_another_host(config):  # F12
        return Result("drop", "drop_spoofed", None)
    return _find_service(arrival, flow, packet.upper_at + least, config)


def _is_spoofed(flow: Flow, config: Config) -> bool:
    """Line F12 but for the MAC. The destination does not matter; a DIP is an IPv4 address."""
    return (
        flow.source == config.self_dip
        and flow.protocol == PROTOCOL_UDP
        and flow.destination_port == config.gue_port
    )


def _find_service(
    arrival: Arrival, flow: Flow, read: int, config: Config, *, answerable: bool = True
) -> Found | Result:
    """Lines F13 and F13b."""
    service = config.service_index(flow.destination, flow.protocol, flow.destination_port)
    if service is None:  # F13
        return arrival.passed("pass_no_service")
    if arrival.is_for_another_host(config):  # F13b
        return arrival.passed("pass_other_host")
    return Found(flow, service, read, answerable)


def _find_later_fragment(arrival: Arrival, config: Config, memory: Memory) -> Found | Result:
    """Section 4.4, and lines F13 and F13b with what was remembered.

    AMBIGUOUS in wire.md: whether a later fragment for another host uses what is remembered (then
    something else is forgotten first). It goes on to F13b "with the remembered ports": it does.
    """
    packet = arrival.packet
    numbers = set(_TRANSPORT_LENGTHS) | (EXTENSION_HEADERS if packet.version == 6 else set())
    if packet.protocol not in numbers:
        return arrival.passed("pass_no_service")
    upper = memory.fragments.recall(FragmentKey.of(packet))
    if upper is None:
        return arrival.if_for_vip("drop", "drop_fragment", config)
    flow = Flow(
        upper.protocol,
        packet.source,
        upper.source_port,
        packet.destination,
        upper.destination_port,
    )
    return _find_service(arrival, flow, packet.upper_at + 1, config, answerable=False)
