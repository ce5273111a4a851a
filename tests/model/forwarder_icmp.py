"""ICMP that reaches a forwarder: errors go after the flow they speak of (wire.md, section 4.3)."""

from __future__ import annotations

from tests.model.arrival import Arrival, Found
from tests.model.config import Config
from tests.model.embedded import LEAST_UPPER_LENGTH, flow_of_error, read_embedded
from tests.model.extension import Problem
from tests.model.headers import ICMP_LENGTH, PROTOCOL_TCP, PROTOCOL_UDP
from tests.model.packet import IpPacket
from tests.model.result import Result


def _drop(counter: str) -> Result:
    return Result("drop", counter, None)


def find_by_error(arrival: Arrival, config: Config) -> Found | Result:
    """Lines I1 to I9, I1b included, for a whole ICMP packet of the IP header's own family."""
    packet, error = arrival.packet, arrival.upper
    if not config.is_vip(packet.destination):  # I1
        return arrival.passed("pass_no_service")
    if arrival.is_for_another_host(config):  # I1b
        return arrival.passed("pass_other_host")
    if len(error) < ICMP_LENGTH:  # I2
        return _drop("drop_malformed")
    if not packet.is_icmp_error(error[0]):  # I3
        return arrival.passed("pass_vip_icmp")
    embedded = read_embedded(error, packet.version)
    if embedded is None or embedded.source != packet.destination:  # I4, I5
        return _drop("drop_malformed")
    return _find_embedded(arrival, embedded, config)


def _find_embedded(arrival: Arrival, embedded: IpPacket, config: Config) -> Found | Result:
    """Lines I6 to I9."""
    if embedded.problem is Problem.TOO_MANY:  # I6
        return _drop("drop_ext_headers")
    if embedded.problem is not None:  # I6
        return _drop("drop_malformed")
    if embedded.is_later_fragment or embedded.protocol not in {PROTOCOL_TCP, PROTOCOL_UDP}:  # I7
        return arrival.passed("pass_vip_icmp")
    read = ICMP_LENGTH + embedded.upper_at + LEAST_UPPER_LENGTH
    if len(arrival.upper) < read:  # I8
        return _drop("drop_malformed")
    flow = flow_of_error(arrival.upper, embedded)
    service = config.service_index(flow.destination, flow.protocol, flow.destination_port)
    if service is None:  # I9
        return arrival.passed("pass_vip_icmp")
    return Found(flow, service, arrival.packet.upper_at + read, answerable=False)
