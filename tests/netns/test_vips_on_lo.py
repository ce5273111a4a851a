"""VIPs of each form on a server: delivered, counted, never answered for on the wire."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from controlplane.domain.objects import TCP, Service, Vip
from lb.agent.machine import sysctls
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.report.presence.dump import count_open
from lb.agent.vips.addresses import remove_vips
from lb.agent.vips.keeper import VipKeeper
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from tests.netns.capture import Capture

VIPS: tuple[Vip, ...] = (
    IPv4Network("192.0.2.10/32"),
    IPv4Network("198.18.7.0/24"),
    IPv6Network("2001:db8::10/128"),
    IPv6Network("2001:db8:1::/64"),
)
INSIDE = ("192.0.2.10", "198.18.7.0", "198.18.7.200", "2001:db8::10", "2001:db8:1::7:7")
PORT = 7000
LOOK = (
    "ip address show; ip route show table all; ip -6 route show table all; "
    "sysctl -a -r 'net.ipv[46].conf.*(disable_ipv6|arp_)'"
)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(brigade.brigade(1, 1, VIPS, dual_stack=True)) as made:
        yield made


@pytest.fixture
def server(network: Network) -> Host:
    return network[brigade.server_name(1)]


def look(host: Host) -> list[str]:
    shown = host.run(["sh", "-c", LOOK]).stdout.splitlines()
    return [line.partition("valid_lft")[0] for line in shown]


def put_up(host: Host, wanted: tuple[Vip, ...]) -> Journal:
    """Do what the agent does once its programs are attached."""
    journal = Journal(host.state_dir, Record(host.call(current_namespace), "eth0", "/none"))

    def put() -> None:
        changes = sysctls.needed_sysctls("eth0", sysctls.read_sysctl)
        sysctls.change(journal, changes, sysctls.write_sysctl)
        with RouteSocket() as netlink:
            keeper = VipKeeper(netlink, journal)
            keeper.enabled = True
            keeper.shrink(frozenset(wanted))
            keeper.extend(frozenset(wanted))

    host.call(put)
    return journal


def take_down(host: Host) -> None:
    """Do what `lbctl down` does, from the disk."""
    record = read_record(host.state_dir)
    assert record is not None

    def take() -> None:
        with RouteSocket() as netlink:
            remove_vips(netlink, record.vips)
            remove_vips(netlink, record.vips)  # what is gone is no fault
        for path, (old, _) in record.sysctls.items():
            sysctls.write_sysctl(path, old)

    host.call(take)


@pytest.fixture
def vips_up(server: Host) -> Iterator[Host]:
    # IPv6 is off on lo, as where an administrator switched it off by default.
    server.sysctl("net.ipv6.conf.lo.disable_ipv6", "1")
    before = look(server)
    put_up(server, VIPS)
    yield server
    take_down(server)
    assert look(server) == before
    server.sysctl("net.ipv6.conf.lo.disable_ipv6", "0")


def call(network: Network, address: str) -> socket.socket:
    with network[brigade.client_name(1)].entered():
        return socket.create_connection((address, PORT), 3)


def test_every_form_is_delivered_and_its_connections_are_counted(
    network: Network, vips_up: Host
) -> None:
    def count(*vips: str) -> int:
        services = (Service(vip, ip_network(vip), TCP, PORT, "web") for vip in vips)
        return vips_up.call(count_open, tuple(services))

    with ExitStack() as held:
        with vips_up.entered():
            listener = socket.create_server(
                ("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True
            )
        held.enter_context(listener)
        for address in INSIDE:
            held.enter_context(call(network, address))
            accepted, _ = listener.accept()
            held.enter_context(accepted)
            assert ip_address(accepted.getsockname()[0].removeprefix("::ffff:")) == ip_address(
                address
            )
        assert count(*map(str, VIPS)) == len(INSIDE)
        assert count("198.18.7.0/24") == 2
        assert count("198.18.7.128/25") == 1
        assert count("2001:db8:1::/64", "192.0.2.10/32") == 2
        with call(network, str(brigade.dip(1))):
            assert count(*map(str, VIPS)) == len(INSIDE), "a DIP is no VIP"


def test_ours_go_and_others_stay(server: Host) -> None:
    server.run(["ip", "address", "add", "2001:db8::10/128", "dev", "lo"])
    server.run(["ip", "route", "add", "local", "198.18.7.0/24", "dev", "lo"])
    before = look(server)
    assert set(put_up(server, VIPS).record.vips) == {VIPS[0], VIPS[3]}
    assert put_up(server, VIPS[:1]).record.vips == (), "a new record owns nothing that it found"
    server.run(["ip", "address", "del", "192.0.2.10/32", "dev", "lo"])
    server.run(["ip", "-6", "route", "del", "local", "2001:db8:1::/64", "dev", "lo"])
    put_up(server, VIPS)
    take_down(server)
    assert [line for line in look(server) if "arp_" not in line] == [
        line for line in before if "arp_" not in line
    ]
    server.run(["ip", "address", "del", "2001:db8::10/128", "dev", "lo"])
    server.run(["ip", "route", "del", "local", "198.18.7.0/24", "dev", "lo"])


@pytest.mark.parametrize("what", ["link", "gateway"])
def test_a_prefix_around_a_neighbour_stays_down(server: Host, what: str) -> None:
    """It would be delivered here: nobody else in it could be reached any more."""
    near = (brigade.router_address(1), brigade.server_address6(1) - 1)
    lengths = (24, 64) if what == "link" else (31, 127)  # the server's own is in another pair
    texts = [f"{address}/{length}" for address, length in zip(near, lengths, strict=True)]
    covering = [ip_network(text, strict=False) for text in texts]
    kept = VIPS if what == "link" else VIPS[:2]
    for _ in range(2):
        journal = put_up(server, (*kept, *covering))
        assert set(journal.record.vips) == {*kept}
        take_down(server)
    for address in near:
        shown = server.run(["ip", f"-{address.version}", "route", "get", str(address)]).stdout
        assert "dev eth0" in shown


def ask(network: Network, address: str) -> int:
    """Have the router look for a VIP on the server's link; return how many answers there were."""
    router = network[brigade.ROUTER]
    version = ip_address(address).version
    answers = "arp[6:2] = 2" if version == 4 else "icmp6 and ip6[40] = 136"
    link = brigade.server_name(1)
    router.sysctl(f"net.ipv{version}.neigh.{link}.retrans_time_ms", "50")
    route = ["ip", f"-{version}", "route"]
    destination = str(ip_network(address))
    router.run([*route, "replace", destination, "dev", link])
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def known(*states: str) -> bool:
        shown = router.run(["ip", "neigh", "show", "to", address, "dev", link]).stdout
        return any(state in shown for state in states)

    try:
        with Capture(router, link, answers) as seen, router.entered():
            with socket.socket(family, socket.SOCK_DGRAM) as asking:
                asking.sendto(b"x", (address, 9))
            wait_until(lambda: known("FAILED", "REACHABLE", "DELAY", "STALE"), "an end", 5)
            wanted = ip_address(address).packed
            return sum(not p.outgoing and wanted in p.data for p in seen.packets())
    finally:
        router.run([*route, "del", destination, "dev", link])
        router.run(["ip", "neigh", "flush", "to", address])


@pytest.mark.parametrize("address", ["192.0.2.10", "198.18.7.200", "2001:db8::10", "2001:db8:1::7"])
def test_nobody_answers_for_a_vip_on_the_wire(
    network: Network, vips_up: Host, address: str
) -> None:
    assert vips_up.sysctl("net.ipv4.conf.eth0.arp_ignore") == "1"
    assert ask(network, address) == 0
    own = brigade.dip(1) if "." in address else brigade.server_address6(1)
    network[brigade.ROUTER].run(["ip", "neigh", "flush", "dev", "server1"])
    assert ask(network, str(own)) > 0, "the server does answer for its own"


@pytest.mark.parametrize("vip", ["192.0.2.10", "198.18.7.200", "2001:db8::10", "2001:db8:1::7"])
def test_nobody_asks_in_a_vips_name(network: Network, vips_up: Host, vip: str) -> None:
    """Else the answer to the question would move the VIP to this server's MAC in its neighbours."""
    version = ip_address(vip).version
    near = brigade.router_address(1) if version == 4 else brigade.server_address6(1) - 1
    vips_up.run(["ip", "neigh", "flush", "dev", "eth0"])
    with Capture(vips_up, "eth0", "arp or (icmp6 and ip6[40] = 135)") as seen:
        kind = socket.AF_INET if version == 4 else socket.AF_INET6
        with vips_up.entered():
            sender = socket.socket(kind, socket.SOCK_DGRAM)
        with sender:
            if version == 6:
                sender.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: of no interface
            sender.bind((vip, 0))
            sender.sendto(b"x", (str(near), 9))
            wait_until(lambda: any(p.outgoing for p in seen.packets()), "a question", 3)
        packed = ip_address(vip).packed
        assert not any(packed in packet.data for packet in seen.packets() if packet.outgoing)
