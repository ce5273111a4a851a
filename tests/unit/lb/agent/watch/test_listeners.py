"""Listeners of this network namespace, and services that have none here."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from controlplane.domain.objects import TCP, UDP, Service, ServiceHealth, Vip
from lb.agent.watch.listeners import Listener, WatchedListeners, parse, read_listeners

VIP = IPv4Network("192.0.2.10/32")
PREFIX = IPv4Network("192.0.2.128/25")
VIP6 = IPv6Network("2001:db8::10/128")


def listener(address: str, *, both: bool = False) -> Listener:
    return Listener(ip_address(address).packed, 80, both)


@pytest.mark.parametrize(
    ("address", "both", "vip", "serves"),
    [
        ("0.0.0.0", False, VIP, True),
        ("0.0.0.0", False, VIP6, False),
        ("::", True, VIP, True),
        ("::", False, VIP, False),
        ("::", False, VIP6, True),
        ("192.0.2.10", False, VIP, True),
        ("192.0.2.11", False, VIP, False),
        ("192.0.2.200", False, PREFIX, True),
        ("192.0.2.10", False, PREFIX, False),
        ("2001:db8::10", False, VIP6, True),
        ("127.0.0.1", False, VIP, False),
    ],
)
def test_who_serves_a_vip(address: str, both: bool, vip: Vip, serves: bool) -> None:
    assert listener(address, both=both).serves(vip) == serves


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def test_listeners_are_read_from_the_kernel(stack: ExitStack) -> None:
    four = stack.enter_context(socket.create_server(("127.0.0.77", 0)))
    dual = stack.enter_context(
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    six = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6))
    mapped = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
    mapped.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    mapped.bind(("::ffff:127.0.0.78", 0))
    mapped.listen()
    silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    silent.bind(("127.0.0.79", 0))
    ports = [one.getsockname()[1] for one in (four, dual, six, mapped, silent)]
    found = {one for one in read_listeners([TCP]) if one.port in ports}
    assert found == {
        Listener(ip_address("127.0.0.77").packed, ports[0]),
        Listener(bytes(16), ports[1], both=True),
        Listener(bytes(16), ports[2]),
        Listener(ip_address("127.0.0.78").packed, ports[3]),
    }


def test_a_listener_that_is_bound_to_lo_is_of_no_use_to_clients() -> None:
    body = bytes((2, 10, 0, 0)) + (80).to_bytes(2, "big") + bytes(2) + bytes(32)
    rest = bytes(72 - len(body) - 4)
    assert parse(socket.AF_INET, body + (1).to_bytes(4, "little") + rest) is None
    assert parse(socket.AF_INET, body + (3).to_bytes(4, "little") + rest) == Listener(bytes(4), 80)


def service(name: str, vip: Vip = VIP, protocol: int = TCP, port: int | None = 80) -> Service:
    return Service(name, vip, protocol, port, "web")


def trouble(
    *services: Service, found: tuple[Listener, ...] = (), healthy: tuple[str, ...] = ()
) -> str:
    checks = {name: ServiceHealth(healthy=True) for name in healthy}

    def read(protocols: Iterable[int]) -> Iterable[Listener]:
        return [one for one in found if one.protocol in protocols]

    (thing,) = WatchedListeners(lambda: services, lambda: checks, read).things()
    assert not thing.essential, "the forwarder works"
    drift = thing.look()
    return f"{drift.line}; {drift.remedy}" if drift else ""


def test_a_service_without_a_listener_here_is_named() -> None:
    here = (listener("192.0.2.10"),)
    assert trouble(service("web"), found=here) == ""
    line = trouble(service("web"), service("six", VIP6), found=here)
    assert "listens for six (2001:db8::10 port 80); start it here" in line


def test_one_that_answers_its_check_lives_elsewhere() -> None:
    """Behind NAT: all is well until a chain has a second hop, then each connection is reset."""
    line = trouble(service("web"), healthy=("web",))
    assert "web answers its check from elsewhere: give its container the host's network" in line


def test_a_dead_udp_service_is_named() -> None:
    """Nothing else notices it: it has no check. A TCP socket of its port is another service."""
    dns = service("dns", protocol=UDP)
    bound = Listener(bytes(4), 80, protocol=UDP)
    assert trouble(dns, found=(bound,)) == ""
    assert "listens for dns (192.0.2.10 UDP port 80); start" in trouble(dns)
    assert "for dns" in trouble(dns, found=(listener("0.0.0.0"),))
    assert "for web (192.0.2.10 port 80)" in trouble(service("web"), dns, found=(bound,))


def test_a_udp_service_of_a_pool_without_this_server_may_be_elsewhere() -> None:
    services = (service("dns", protocol=UDP), service("web"))

    def read(_: object) -> tuple[Listener, ...]:
        return ()

    (thing,) = WatchedListeners(lambda: services, dict, read, lambda _: False).things()
    drift = thing.look()
    assert drift is not None
    assert "listens for web (" in str(drift)


def test_udp_sockets_are_read_from_the_kernel(stack: ExitStack) -> None:
    """A connected one gets no packet of a new flow."""
    four = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    four.bind(("127.0.0.77", 0))
    six = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    six.bind(("::", 0))
    connected = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    connected.bind(("127.0.0.78", 0))
    connected.connect(("127.0.0.77", four.getsockname()[1]))
    ports = [one.getsockname()[1] for one in (four, six, connected)]
    found = {one for one in read_listeners([TCP, UDP]) if one.port in ports}
    assert {one for one in found if one.protocol == UDP} == {
        Listener(ip_address("127.0.0.77").packed, ports[0], protocol=UDP),
        Listener(bytes(16), ports[1], both=True, protocol=UDP),
    }


def test_services_of_any_port_are_not_looked_for() -> None:
    assert trouble(service("any", port=None), service("any-udp", protocol=UDP, port=None)) == ""
    assert trouble() == ""
