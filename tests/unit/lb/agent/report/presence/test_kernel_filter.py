"""The kernel's filter, run as inet_diag_bc_run() runs it: services' sockets pass, few others do."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.objects import TCP, Service, Vip
from lb.agent.report.presence.kernel_filter import MOST_CONDITIONS, Ports, filter_of, port_ranges

VIP4, VIP6 = IPv4Network("192.0.2.0/24"), IPv6Network("2001:db8::/32")


def service(port: int | None, vip: Vip = VIP4) -> Service:
    return Service("s", vip, TCP, port, "web")


def passes(program: bytes, port: int, address: str = "192.0.2.1") -> bool:
    """Run the bytecode on a socket, as net/ipv4/inet_diag.c does."""
    at = 0
    while at < len(program):
        code, yes, no = struct.unpack_from("=BBH", program, at)
        at += yes if matches(code, program[at + 4 :], port, address) else no
    return at == len(program)


def matches(code: int, operand: bytes, port: int, address: str) -> bool:
    if code == 7:
        return address_matches(operand, address)
    limit = int(struct.unpack_from("=2xH", operand)[0])
    return {1: False, 2: port >= limit, 3: port <= limit}[code]


def address_matches(condition: bytes, text: str) -> bool:
    family, length, port = struct.unpack_from("=BB2xi", condition)
    assert port == -1
    size = {2: 4, 10: 16}[family]
    vip = ip_network((condition[8 : 8 + size], length))
    address = ip_address(text)
    return address in vip


def audited(program: bytes) -> None:
    """Check what inet_diag_bc_audit() refuses: distances that end inside an operation."""
    starts, at = [], 0
    while at < len(program):
        starts.append(at)
        at += program[at + 1]
    assert at == len(program)
    for start in starts:
        _, yes, no = struct.unpack_from("=BBH", program, start)
        assert start + yes in {*starts, len(program)}
        assert start + no in {*starts, len(program), len(program) + 4}


@given(st.sets(st.integers(0, 65535), min_size=1, max_size=40), st.integers(0, 65535))
def test_ports_of_services_pass_and_others_do_not(ports: set[int], other: int) -> None:
    program = filter_of(map(service, ports))
    audited(program)
    assert all(passes(program, port) for port in ports)
    assert passes(program, other) == (other in ports)


@given(st.sets(st.integers(0, 65535), min_size=1, max_size=300))
def test_many_ports_become_few_ranges(ports: set[int]) -> None:
    ranges = port_ranges(ports)
    assert len(ranges) <= MOST_CONDITIONS
    assert all(any(r.first <= port <= r.last for r in ranges) for port in ports)
    assert all(before.last < after.first for before, after in pairwise(ranges))
    assert {end for r in ranges for end in r} <= ports, "no wider than the ports"


def test_neighbours_are_one_range_and_the_widest_gaps_stay() -> None:
    assert port_ranges([80, 81, 82, 443]) == [Ports(80, 82), Ports(443, 443)]
    assert port_ranges([1, 5, 1000, 1007, 60000], most=3) == [
        Ports(1, 5),
        Ports(1000, 1007),
        Ports(60000, 60000),
    ]


def test_a_service_of_any_port_passes_by_its_address() -> None:
    program = filter_of([service(80), service(None), service(None, VIP6)])
    audited(program)
    for port in (1, 80, 65535):
        assert passes(program, port, "192.0.2.77")
        assert passes(program, port, "2001:db8:9::1")
        assert passes(program, port, "198.51.100.1") == (port == 80)
        assert passes(program, port, "2001:db9::1") == (port == 80)


@pytest.mark.parametrize("count", [MOST_CONDITIONS, MOST_CONDITIONS + 1])
def test_too_many_addresses_are_not_filtered(count: int) -> None:
    vips = [ip_network(f"192.0.{number}.0/24") for number in range(count)]
    program = filter_of(service(None, vip) for vip in vips)
    assert bool(program) == (count == MOST_CONDITIONS)
    audited(program)
