"""What SYN-ACKs from VIPs advertise on links without room, seen by real clients."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from controlplane.domain.objects import Vip
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.undo_record import Journal, Record
from lb.agent.mss.keeper import MssKeeper
from lb.agent.mss.mirror import clear
from lb.agent.mss.rules import MAX_PREFIXES
from lb.agent.netlink.route_socket import RouteSocket
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until

VIP4, VIP6 = IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10")
VIPS = (VIP4, VIP6)
NETWORKS = (IPv4Network(VIP4), IPv6Network(VIP6))
PORT = 7000
TABLE = 6080
MTU = brigade.CLIENT_MTU
ROOM = {1: 36, 2: 40, 3: 44, 4: 48}
HEADERS = {4: 40, 6: 60}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A client and a server that are no server of a cluster: VIPs lie on lo, routes are static."""
    topology = brigade.brigade(1, 1, VIPS, server_mtu=MTU, dual_stack=True)
    with Network(topology) as made:
        made[brigade.server_name(1)].run(
            ["sh", "-c", "".join(f"ip address add {ip_network(v)} dev lo;" for v in VIPS)]
        )
        # Without timestamps TCP_MAXSEG is what the other side advertised.
        made[brigade.client_name(1)].sysctl("net.ipv4.tcp_timestamps", "0")
        yield made


@pytest.fixture
def server(network: Network) -> Iterator[Host]:
    host = network[brigade.server_name(1)]
    with host.entered():
        listener = socket.create_server(
            ("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=500
        )
    yield host
    listener.close()
    host.call(clear_table)
    restore(host)


def restore(host: Host) -> None:
    """Give the link its MTU and the routes that it lost, whatever a test did."""
    host.run(["ip", "link", "set", "dev", "eth0", "mtu", str(MTU), "up"])
    addresses = [brigade.router_address(1), brigade.server_address6(1) - 1]
    for gateway in addresses:
        host.run(["ip", f"-{gateway.version}", "route", "replace", "default", "via", str(gateway)])


def clear_table() -> None:
    with RouteSocket() as netlink:
        clear(netlink, TABLE)


@contextmanager
def kept(host: Host, mode: str = "auto", depth: int = 2) -> Iterator[MssKeeper]:
    """The agent's part that does it, in the server's namespace."""
    index = host.call(socket.if_nametoindex, "eth0")
    place = host.call(current_namespace)
    journal = Journal(host.state_dir, Record(place, "eth0", "/none"))
    facts = SharedFacts(0.0)
    deaths: list[str] = []
    keeper = MssKeeper(mode, TABLE, index, journal, facts, lambda: None)
    keeper.on_death = deaths.append
    with host.entered():
        keeper.start()
    try:
        keeper.lower(NETWORKS, depth)
        wait_until(lambda: keeper.settled, "the first wish is met")
        yield keeper
        assert facts.current.troubles == {}
    finally:
        keeper.stop()
        keeper.join(5)
    assert deaths == []


def mss(network: Network, vip: IPv4Address | IPv6Address) -> int:
    """Connect, and return what the SYN-ACK advertised."""
    with network[brigade.client_name(1)].entered():
        caller = socket.create_connection((str(vip), PORT), 3)
    with caller:
        return caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def advertised(network: Network) -> tuple[int, int]:
    return mss(network, VIP4), mss(network, VIP6)


def leaves(room: int, mtu: int = MTU) -> tuple[int, int]:
    return mtu - HEADERS[4] - room, mtu - HEADERS[6] - room


def table(host: Host, version: int, number: int | str = TABLE) -> str:
    words = ["ip", f"-{version}", "route", "show", "table", str(number)]
    return host.run(words, check=False).stdout


@pytest.mark.parametrize("cookies", ["1", "2"], ids=["usual", "cookies"])
def test_syn_acks_leave_room_and_only_while_they_have_to(
    network: Network, server: Host, cookies: str
) -> None:
    """Value 2 of tcp_syncookies: no SYN is remembered, all answers are cookies (ip-sysctl)."""
    server.sysctl("net.ipv4.tcp_syncookies", cookies)
    assert advertised(network) == leaves(0)
    with kept(server, depth=4):
        assert advertised(network) == leaves(ROOM[4])
        dip = network[brigade.client_name(1)]
        with dip.entered():
            own = socket.create_connection((str(brigade.dip(1)), PORT), 3)
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) == 1460, "not a VIP's"
        own.close()
    assert advertised(network) == leaves(ROOM[4]), "the table outlives the agent"
    server.call(clear_table)
    assert advertised(network) == leaves(0)
    server.sysctl("net.ipv4.tcp_syncookies", "1")


def test_it_follows_depth_mtu_and_the_setting(network: Network, server: Host) -> None:
    with kept(server, depth=1) as keeper:
        assert advertised(network) == leaves(ROOM[1])
        keeper.lower(NETWORKS, 3)
        wait_until(lambda: advertised(network) == leaves(ROOM[3]), "depth 3", 3)
        server.run(["ip", "link", "set", "dev", "eth0", "mtu", "1400"])
        wait_until(lambda: advertised(network) == leaves(ROOM[3], 1400), "MTU 1400", 3)
        server.run(["ip", "link", "set", "dev", "eth0", "mtu", str(MTU + ROOM[3])])
        wait_until(lambda: advertised(network) == leaves(0), "a link with room", 3)
        assert "6080" not in server.run(["ip", "rule"]).stdout
        keeper.lower(NETWORKS, 4)
        wait_until(lambda: mss(network, VIP4) == 1544 - 40 - 48, "too little of it", 3)
        keeper.lower((), 4)
        wait_until(lambda: not table(server, 4) and not table(server, 6), "no VIPs", 3)


@pytest.mark.parametrize("cookies", ["1", "2"], ids=["usual", "cookies"])
def test_many_vips_are_one_rule(network: Network, server: Host, cookies: str) -> None:
    """Of TCP that the server sends itself; its own connections are lowered too, no others'."""
    server.sysctl("net.ipv4.tcp_syncookies", cookies)
    many: list[Vip] = [*NETWORKS]
    for start in (IPv4Address("198.18.0.1"), IPv6Address("2001:db8:9::1")):
        many += [ip_network(start + 2 * n) for n in range(MAX_PREFIXES)]
    with kept(server) as keeper:
        for vips, rules in ((many, [(1, 1), (1, 1)]), (many[:2], [(0, 1), (0, 1)])):
            keeper.lower(vips, 2)
            wait_until(partial(have_become, server, rules), str(rules), 3)
            assert advertised(network) == leaves(ROOM[2])
            own = mss(network, brigade.dip(1))
            assert own == leaves(ROOM[2] if len(vips) > MAX_PREFIXES else 0)[0]
    server.call(clear_table)
    assert our_rules(server) == [(0, 0), (0, 0)]
    server.sysctl("net.ipv4.tcp_syncookies", "1")


ALL_TCP = ("from all iif lo ipproto tcp", "from all iif lo ipproto ipproto-6")
"""The second without /etc/protocols, which has the names of protocols (Debian's `netbase`)."""


def have_become(host: Host, rules: list[tuple[int, int]]) -> bool:
    return our_rules(host) == rules


def our_rules(host: Host) -> list[tuple[int, int]]:
    """How many rules are for all TCP, and how many lead to our table at all; for IPv4 and IPv6."""
    found = []
    for version in (4, 6):
        shown = host.run(["ip", f"-{version}", "rule"]).stdout.splitlines()
        ours = [line for line in shown if f"lookup {TABLE}" in line]
        found.append((sum(any(rule in line for rule in ALL_TCP) for line in ours), len(ours)))
    return found


def test_it_follows_every_kind_of_route_of_main(network: Network, server: Host) -> None:
    """After each change the table is main, line by line, but for mark, source and advmss."""
    router4, router6 = brigade.router_address(1), brigade.server_address6(1) - 1
    steps = [
        "-4 route add 203.0.113.0/24 via {4} advmss 900",
        "-4 route add 203.0.114.0/24 proto bird nexthop via {4} weight 3 nexthop dev eth0",
        "-4 route add unreachable 203.0.115.0/24 metric 7",
        "-4 route add 203.0.116.0/24 via {4} mtu 1300",
        "-4 route append 203.0.116.0/24 dev eth0",
        "-4 route replace default via {4} metric 50",
        "-4 route del default metric 0",
        "-6 route add 2001:db8:aa::/48 via {6} metric 5",
        "-6 route append 2001:db8:ab::/48 nexthop via {6} nexthop via {6_2}",
        "-6 route replace 2001:db8:ab::/48 via {6_2}",
        "-6 route add blackhole 2001:db8:ac::/48",
        "-4 nexthop add id 7 via {4} dev eth0",
        "-4 route add 203.0.117.0/24 nhid 7",
        "address add 10.99.0.1/32 dev lo",
        "-4 route add 203.0.118.0/24 dev eth0 src 10.99.0.1",
        "address del 10.99.0.1/32 dev lo",  # main's route goes with it
        "-4 route del 203.0.114.0/24",
        "-6 route flush proto static",
        "link set dev eth0 down",
        "link set dev eth0 up",
        "-4 route add default via {4}",
        "-6 route add default via {6}",
    ]
    names = {"4": router4, "6": router6, "6_2": router6 + 7}
    with kept(server):
        for step in steps:
            text = step
            for name, value in names.items():
                text = text.replace("{" + name + "}", str(value))
            server.run(["ip", *text.split()])
            wait_until(lambda: differences(server) == [], f"the mirror after: {text}", 3)
        wait_until(lambda: advertised(network) == leaves(ROOM[2]), "as before", 3)
        text = table(server, 4) + table(server, 6)
        assert "203.0.113.0" not in text, "the interface was down"
    server.run(["ip", "nexthop", "flush"])


def differences(host: Host) -> list[str]:
    """What main has and the mirror has not, or the reverse, by what iproute2 shows of both."""
    found = []
    for version in (4, 6):
        main, mirror = (lines(table(host, version, t)) for t in ("main", TABLE))
        found += [f"{line}: only in one" for line in sorted(main ^ mirror)]
        wrong = [line for line in table(host, version).splitlines() if "advmss" not in line]
        found += [line for line in wrong if line[0] not in "\tub"]  # next hops, unreachable...
    return found


def lines(shown: str) -> frozenset[str]:
    """One line a route, next hops in order, without what may differ."""
    found = set()
    for line in shown.replace("\n\t", " ").splitlines():
        words = line.split()
        for label in ("proto", "advmss"):
            if label in words:
                at = words.index(label)
                del words[at : at + 2]
        head, *hops = " ".join(words).split(" nexthop ")
        found.add(" nexthop ".join([head, *sorted(hops)]))
    return frozenset(found)


def test_what_others_do_to_it_is_mended_and_theirs_is_left(network: Network, server: Host) -> None:
    server.run(["ip", "rule", "add", "from", "192.0.2.0/24", "lookup", "main", "priority", "40000"])
    look = ["sh", "-c", "ip rule; ip -6 rule; ip route show table main"]
    before = server.run(look).stdout
    with kept(server):
        server.run(["ip", "rule", "del", "table", str(TABLE)])
        server.run(["ip", "-6", "route", "flush", "table", str(TABLE)])
        wait_until(lambda: advertised(network) == leaves(ROOM[2]), "mended", 3)
        for version in (4, 6):
            wait_until(lambda: differences(server) == [], "all of it", 3)
            assert "proto 60" in table(server, version)
    server.call(clear_table)
    assert (
        server.run(["sh", "-c", "ip rule; ip -6 rule; ip route show table main"]).stdout == before
    )
    server.run(["ip", "rule", "del", "priority", "40000"])


def test_ten_thousand_routes_and_lost_notifications(network: Network, server: Host) -> None:
    """Faster than they are told of: the socket overflows, the mirror is complete all the same."""
    gateway = brigade.router_address(1)
    many = [f"10.{128 + n // 250}.{n % 250}.0/24" for n in range(10_000)]
    batch = server.base / "routes"
    with kept(server) as keeper:
        batch.write_text("".join(f"route add {prefix} via {gateway}\n" for prefix in many))
        started = time.monotonic()
        server.run(["ip", "-batch", str(batch)])
        wait_until(lambda: table(server, 4).count("proto 60") >= 10_000, "all copied", 10)
        assert time.monotonic() - started < 10
        assert advertised(network) == leaves(ROOM[2])
        used = cpu_seconds(keeper)
        server.run(["ip", "route", "replace", "10.128.0.0/24", "dev", "eth0"])
        # the keeper rests in proportion to what the 10,000 took
        wait_until(lambda: "10.128.0.0/24 dev eth0" in table(server, 4), "one more change", 10)
        assert cpu_seconds(keeper) - used < 1, "one change must not cost what 10,000 do"
        batch.write_text("".join(f"route del {prefix}\n" for prefix in many))
        server.run(["ip", "-batch", str(batch)])
        wait_until(lambda: differences(server) == [], "all gone", 10)


def cpu_seconds(keeper: MssKeeper) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(keeper.ident or 0))
