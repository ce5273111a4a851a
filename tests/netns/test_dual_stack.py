"""IPv6 through the router, captures, links without room: all without a load balancer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

import pytest

from netns.brigade import (
    CLIENT_MTU,
    INTERFACE,
    ROUTER,
    brigade,
    client_address6,
    client_name,
    server_address6,
    server_name,
)
from netns.build import set_link
from netns.errors import NetworkError
from netns.network import Network
from netns.offload import switch_merging
from netns.polling import wait_until
from tests.netns.capture import Capture, above_mtu

VIP = IPv6Address("2001:db8::10")
PREFIX = IPv6Network("2001:db8:1::/64")
PORT = 9000
FLOWS = 64
BIG = 4000


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    topology = brigade(servers=2, vips=[VIP, PREFIX], server_mtu=CLIENT_MTU, dual_stack=True)
    with Network(topology) as made:
        for number in (1, 2):
            made[server_name(number)].run(["ip", "address", "add", f"{VIP}/128", "dev", "lo"])
            local = ["ip", "-6", "route", "add", "local", str(PREFIX), "dev", "lo"]
            made[server_name(number)].run(local)
            # Addresses of a prefix are local, and of no interface.
            made[server_name(number)].sysctl("net.ipv6.ip_nonlocal_bind", "1")
        yield made


def test_addresses_are_usable_at_once_and_nobody_advertises(network: Network) -> None:
    for number in (1, 2):
        shown = network[server_name(number)].run(["ip", "-6", "address"]).stdout
        assert f"{server_address6(number)}/64" in shown
        assert "tentative" not in shown
        assert "dynamic" not in shown
        link = network[server_name(number)].run(["ip", "link", "show", INTERFACE]).stdout
        assert f"mtu {CLIENT_MTU}" in link


@pytest.mark.parametrize("vip", [VIP, PREFIX[0x77]])
def test_the_router_spreads_flows_over_all_servers_by_their_ports(
    network: Network, vip: IPv6Address
) -> None:
    answered = who_answers(network, vip)
    assert sum(answered.values()) == FLOWS
    assert set(answered) == {"server1", "server2"}


def test_a_server_without_carrier_gets_nothing(network: Network) -> None:
    set_link(network["server2"], INTERFACE, up=False)
    try:
        wait_until(lambda: set(who_answers(network, VIP)) == {"server1"}, "server1 alone", 5.0)
    finally:
        set_link(network["server2"], INTERFACE, up=True)
        gateway = str(server_address6(2) - 1)
        network["server2"].run(["ip", "-6", "route", "replace", "default", "via", gateway])
    wait_until(lambda: set(who_answers(network, VIP)) == {"server1", "server2"}, "both again", 5.0)


def who_answers(network: Network, vip: IPv6Address) -> dict[str, int]:
    """Ask from many ports; each server answers from the VIP, straight to the client."""
    servers = {name: udp(network, name, str(vip)) for name in ("server1", "server2")}
    clients = [udp(network, client_name(1), str(client_address6(1)), 0) for _ in range(FLOWS)]
    counts = dict.fromkeys(servers, 0)
    for client in clients:
        client.connect((str(vip), PORT))
        client.send(b"hello")
    for name, server in servers.items():
        for _ in range(FLOWS):
            try:
                _data, address = server.recvfrom(100)
            except TimeoutError:
                break
            server.sendto(name.encode(), address)
    for client in clients:
        try:
            counts[client.recv(100).decode()] += 1
        except TimeoutError:
            continue
    for sock in (*servers.values(), *clients):
        sock.close()
    return {name: count for name, count in counts.items() if count}


def udp(network: Network, host: str, address: str, port: int = PORT) -> socket.socket:
    with network[host].entered():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.settimeout(0.1)
    sock.bind((address, port))
    return sock


def test_a_capture_sees_both_directions_and_what_exceeds_an_mtu(network: Network) -> None:
    router = network[ROUTER]
    server = udp(network, "server1", str(server_address6(1)))
    client = udp(network, client_name(1), str(client_address6(1)))
    with (
        Capture(router, "server1", f"ip6 and udp port {PORT}") as both,
        Capture(router, "server1", above_mtu(CLIENT_MTU)) as above,
        Capture(router, "server1", above_mtu(CLIENT_MTU - 1)) as full_size,
    ):
        client.sendto(b"x" * (CLIENT_MTU - 48), (str(server_address6(1)), PORT))
        _data, address = server.recvfrom(2000)
        server.sendto(b"y", address)
        assert client.recv(10) == b"y"
        seen = [(p.outgoing, p.length) for p in both.packets()]
        assert seen == [(True, 14 + CLIENT_MTU), (False, 14 + 48 + 1)]
        assert above.packets() == []
        assert [p.length for p in full_size.packets()] == [14 + CLIENT_MTU]
    server.close()
    client.close()


def test_what_arrives_is_captured_as_it_was_on_the_wire(network: Network) -> None:
    """An interface with XDP may merge the segments that it receives; not during a capture."""
    router = network[ROUTER]
    router.call(switch_merging, "server1", on=True)
    with network["server1"].entered():
        listener = socket.create_server((str(server_address6(1)), PORT), family=socket.AF_INET6)
    with network[client_name(1)].entered():
        client = socket.create_connection((str(server_address6(1)), PORT), 5)
    accepted, _ = listener.accept()
    with (
        Capture(router, "server1", above_mtu(CLIENT_MTU)) as above,
        Capture(router, "server1", above_mtu(CLIENT_MTU - 1)) as full_size,
    ):
        accepted.sendall(bytes(200_000))
        assert len(client.makefile("rb").read(200_000)) == 200_000
        assert above.packets() == []
        assert len(full_size.packets()) > 100
    assert router.call(switch_merging, "server1", on=False), "as it was before"
    for sock in (listener, client, accepted):
        sock.close()


def test_a_capture_that_lost_packets_or_has_no_filter_says_so(network: Network) -> None:
    with pytest.raises(NetworkError, match="capture filter 'no such thing'"):
        Capture(network[ROUTER], "server1", "no such thing")
    with Capture(network[ROUTER], "server1", "udp", snap_bytes=64) as capture:
        capture._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        who_answers(network, VIP)
        with pytest.raises(
            NetworkError, match="packets on server1 of router did not fit the buffer"
        ):
            capture.packets()
