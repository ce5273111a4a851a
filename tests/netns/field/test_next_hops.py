"""Next hops of every kind are followed, and what cannot concern them costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controlplane.domain.objects import Cluster, Pool, Server, ServerState
from lb.dataplane.pinned import PinnedDataplane
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import BUCKETS, POOL, VIP, Fleet, cluster, service, table
from tests.netns.capture import Capture
from tests.netns.raw import mac

START_SECONDS = 60.0
QUIET_SECONDS = 4.0
"""In this time, who never answers was asked eight times."""
CHURN_SECONDS = 5.0
CHANGES_PER_SECOND = 50
MOST_OF_A_CORE = 0.02
SERVERS = 300
STATES = [ServerState.ACTIVE] * 2
GATEWAY = brigade.router_address(1)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Network(brigade.brigade(2, 1, [VIP], dual_stack=True)) as network:
        made = Fleet(network)
        made.publish(cluster(1, STATES))
        made.publish(table(1, [2, 0]))
        yield made


def start(fleet: Fleet) -> None:
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)


def next_hop_mac(fleet: Fleet) -> bytes | None:
    """Where server 1's forwarder sends frames for server 2."""
    with PinnedDataplane(fleet.host(1).bpffs / brigade.INTERFACE) as dataplane:
        address, found = dataplane.dips()[2]
        assert address == IPv4Address(brigade.dip(2))
        return found


def unresolved(fleet: Fleet) -> int:
    return int(fleet.status(1)["neighbours_unresolved"])


def link_local(fleet: Fleet, interface: str) -> str:
    """The router's link-local address on one of its interfaces."""
    words = ["ip", "-6", "-o", "address", "show", "dev", interface, "scope", "link"]
    return fleet.network[brigade.ROUTER].run(words).stdout.split()[3].partition("/")[0]


def without_subnet(fleet: Fleet) -> Callable[..., object]:
    """Give server 1 a DIP of its own length and no IPv4 route; return what runs `ip` there."""
    host = fleet.host(1)

    def ip(*words: str) -> object:
        return host.run(["ip", *words])

    dip = brigade.dip(1)
    ip("address", "add", f"{dip}/32", "dev", "eth0")
    ip("address", "del", f"{dip}/30", "dev", "eth0")
    ip("-4", "route", "flush", "default")
    return ip


def asked_for(capture: Capture) -> list[bytes]:
    """The addresses that ARP requests asked for."""
    return [packet.data[38:42] for packet in capture.packets() if packet.data[20:22] == b"\0\1"]


@contextmanager
def another_interface(host: Host) -> Iterator[str]:
    """Give a host one more interface for a while."""
    host.run(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2"])
    try:
        for end in ("eth1", "eth2"):
            host.run(["ip", "link", "set", "dev", end, "up"])
        yield "eth1"
    finally:
        host.run(["ip", "link", "del", "eth1"])


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_an_ipv4_route_by_an_ipv6_neighbour_is_followed(fleet: Fleet, several: bool) -> None:
    """BGP unnumbered. It was taken for a DIP on the link: ARP without end, never resolved."""
    ip = without_subnet(fleet)
    router = fleet.network[brigade.ROUTER]
    hop = ("via", "inet6", link_local(fleet, "server1"), "dev", "eth0")
    with another_interface(fleet.host(1)) as other, Capture(router, "server1", "arp") as capture:
        if several:
            elsewhere = ("nexthop", "via", "inet6", "fe80::99", "dev", other)
            ip("-4", "route", "add", "0.0.0.0/0", *elsewhere, "nexthop", *hop)
        else:
            ip("-4", "route", "add", "0.0.0.0/0", *hop)
        start(fleet)
        gateway = mac(router, "server1")
        wait_until(lambda: next_hop_mac(fleet) == gateway, "the MAC of the IPv6 neighbour")
        wait_until(lambda: unresolved(fleet) == 0, "nothing unresolved")
        time.sleep(QUIET_SECONDS)
        assert brigade.dip(2).packed not in asked_for(capture)


def test_a_dip_without_a_route_is_not_asked_for(fleet: Fleet) -> None:
    """The kernel supposed that it was on the link; with a route, it is there at once."""
    ip = without_subnet(fleet)
    router = fleet.network[brigade.ROUTER]
    with Capture(router, "server1", "arp") as capture:
        start(fleet)
        wait_until(lambda: unresolved(fleet) == 1, "one unresolved")
        time.sleep(QUIET_SECONDS)
        assert brigade.dip(2).packed not in asked_for(capture)
    assert next_hop_mac(fleet) is None
    ip("route", "add", str(GATEWAY), "dev", "eth0")
    ip("route", "add", "default", "via", str(GATEWAY))
    wait_until(lambda: next_hop_mac(fleet) == mac(router, "server1"), "the gateway's MAC")
    wait_until(lambda: unresolved(fleet) == 0, "nothing unresolved")


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, in all its threads, to the nanosecond (proc-schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def share_of_a_core(pid: int, work: Callable[[], None]) -> float:
    """The CPU time of a process while something is done, as a share of the time."""
    before, began = cpu_seconds(pid), time.monotonic()
    work()
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


def churn(fleet: Fleet, prefix: str, number: str) -> None:
    """Add and delete a route, fifty changes a second."""
    process = fleet.host(1).popen(["ip", "-batch", "-"], "churn", pipes=True)
    assert process.stdin is not None
    due = time.monotonic()
    for change in range(int(CHURN_SECONDS * CHANGES_PER_SECOND)):
        word = "del" if change % 2 else "add"
        process.stdin.write(f"route {word} {prefix} via {GATEWAY} table {number}\n".encode())
        process.stdin.flush()
        due += 1 / CHANGES_PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))
    process.stdin.close()
    assert process.wait(5) == 0


def test_routes_that_concern_no_dip_cost_next_to_nothing(fleet: Fleet) -> None:
    """Another table, or a prefix without a DIP: each change had all 300 DIPs looked up."""
    servers = [
        Server(f"server{n}", brigade.dip(n) if n < 3 else IPv4Address("10.50.0.0") + n, n, state)
        for n, state in zip(range(1, SERVERS + 1), STATES * SERVERS, strict=False)
    ]
    pools = (Pool(POOL, BUCKETS, 2, key_id="web-key"),)
    fleet.publish(Cluster(2, tuple(servers), (service(),), pools))
    agent = fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
    wait_until(lambda: unresolved(fleet) == 0, "all resolved")
    quiet = share_of_a_core(agent.pid, lambda: time.sleep(CHURN_SECONDS))
    for prefix, number in (("10.50.0.0/16", "4711"), ("198.18.0.0/15", "main")):
        busy = share_of_a_core(agent.pid, lambda p=prefix, n=number: churn(fleet, p, n))  # type: ignore[misc]
        assert busy < quiet + MOST_OF_A_CORE, f"{prefix} in table {number}"
    gateway = mac(fleet.network[brigade.ROUTER], "server1")
    assert next_hop_mac(fleet) == gateway
    fleet.host(1).run(["ip", "route", "add", "unreachable", f"{brigade.dip(2)}/32"])
    wait_until(lambda: next_hop_mac(fleet) is None, "what does concern a DIP is still noticed")
