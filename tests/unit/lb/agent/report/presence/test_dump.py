"""Real sockets of this machine: which are connections, of which service and bucket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import numpy as np
import pytest

from controlplane.domain.objects import (
    TCP,
    UDP,
    AskedFlow,
    FlowName,
    HashMode,
    Pool,
    Server,
    ServerState,
    Service,
    Table,
    Vip,
)
from lb.agent.report.presence.dump import Found, count_open, take_dump
from lb.agent.report.presence.kernel_filter import filter_of
from lb.agent.report.presence.sockets import ESTABLISHED, SYN_RECV, Sockets, read_sockets
from lb.agent.report.presence.sorting import Sorter
from lb.flow_hash import Flow, bucket_of, siphash
from lb.led_here import Steering, pool_here
from netns.polling import wait_until
from tests.unit.lb.flows import columns

OWN_NET = f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"
"""Addresses of lo that no other run of these tests has at the same time."""
ADDRESS, OTHER = f"{OWN_NET}.77", f"{OWN_NET}.78"
VIP = IPv4Network(ADDRESS)
DIP = IPv4Address(f"{OWN_NET}.9")
OWN = Server("s1", DIP, 1, ServerState.ACTIVE)
KEYS = {"web": bytes(range(16)), "plain": bytes(range(1, 17))}
BUCKETS = {"web": 65536, "plain": 256}
Connect = Callable[..., Flow]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture
def listener(stack: ExitStack) -> socket.socket:
    return stack.enter_context(
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2000)
    )


@pytest.fixture
def connect(stack: ExitStack, listener: socket.socket) -> Connect:
    """Open a connection to the listener; return its flow."""

    def opened(source: str = "127.0.0.1", address: str = ADDRESS) -> Flow:
        port = listener.getsockname()[1]
        caller = socket.create_connection((address, port), 2, source_address=(source, 0))
        stack.enter_context(caller)
        stack.enter_context(listener.accept()[0])
        client = caller.getsockname()
        return Flow(ip_address(source), client[1], ip_address(address), port, TCP)

    return opened


def tcp(port: int | None, vip: Vip = VIP, pool: str = "web") -> Service:
    return Service("tcp", vip, TCP, port, pool)


def udp(port: int | None, vip: Vip = VIP, *, stateless: bool = False) -> Service:
    return Service("udp", vip, UDP, port, "web", stateless)


def dump(
    *services: Service,
    led: Sequence[int] | None = None,
    pools: Sequence[str] = ("web",),
    mode: HashMode = "flow",
) -> Found:
    """Dump with tables by which these buckets lead here, or all."""
    return take_dump(Sorter(steering(*services, led=led, pools=pools, mode=mode)), 10.0)


def steering(
    *services: Service,
    led: Sequence[int] | None = None,
    pools: Sequence[str] = ("web",),
    mode: HashMode = "flow",
) -> Steering:
    here = {}
    for name in pools:
        chains = np.full((BUCKETS[name], 1), 1 if led is None else 2, np.uint16)
        chains[list(led or ())] = 1
        table = Table(name, 1, 1, chains, np.zeros(BUCKETS[name], np.uint32))
        pool = Pool(name, BUCKETS[name], 1, mode)
        here[name] = pool_here(table, pool, KEYS[name], OWN, 0.0)
    return Steering(1, services, here, DIP)


def bucket(flow: Flow, pool: str = "web") -> int:
    return bucket_of(siphash(KEYS[pool], flow.hash_input), BUCKETS[pool])


def occupied(found: Found) -> list[int]:
    return np.flatnonzero(found.occupied).tolist()


def test_connections_are_in_the_buckets_of_their_flows(connect: Connect) -> None:
    flows = [connect(), connect("127.0.0.2"), connect("::1", "::1")]
    found = dump(tcp(flows[0].destination_port), tcp(None, IPv6Network("::1/128")))
    assert occupied(found) == sorted({bucket(flow) for flow in flows[:2]})
    assert found.connections.tolist() == [2], "the client of the third is this server"
    assert found.opened == 2


def test_ipv6_clients_are_in_the_buckets_of_their_flows() -> None:
    vip, port = ip_address("2001:db8::10"), 443
    flows = [Flow(ip_address(f"2001:db8:c::{n}"), 40000 + n, vip, port, TCP) for n in range(1, 9)]
    found = Sockets(
        columns(flows),
        np.full(8, port, np.uint16),
        np.full(8, ESTABLISHED, np.uint8),
        np.ones(8, np.bool_),
        np.arange(8, dtype=np.uint64),
    )
    sorter = Sorter(steering(tcp(port, IPv6Network("2001:db8::/64")), led=()))
    taken = take_dump(sorter, 10.0, read=lambda *_: iter([found]))
    assert occupied(taken) == sorted(bucket(flow) for flow in flows)
    assert taken.strays.bucket.tolist() == [bucket(flow) for flow in flows]


def test_open_connections_that_are_asked_for_are_found(connect: Connect) -> None:
    flows = [connect("127.0.0.2") for _ in range(3)]
    names = [FlowName("web", siphash(KEYS["web"], flow.hash_input)) for flow in flows]
    services = tcp(flows[0].destination_port)
    for mode in ("flow", "client"):
        sorter = Sorter(steering(services, mode=mode))
        for asked in ((), names[:1], names[1:]):
            found = take_dump(sorter, 1.0, frozenset(name.asked for name in asked))
            assert set(found.held) == set(asked), "whatever the pool's mode"
        other = AskedFlow("web", names[0].asked.part ^ 1), AskedFlow("gone", names[0].asked.part)
        assert not take_dump(sorter, 1.0, frozenset(other)).held


@pytest.mark.parametrize(("state", "open_one"), [(ESTABLISHED, True), (SYN_RECV, False)])
def test_a_connection_that_is_being_opened_is_no_answer(state: int, open_one: bool) -> None:
    vip = ip_address("192.0.2.10")
    flow = Flow(ip_address("198.51.100.7"), 40000, vip, 80, TCP)
    found = Sockets(
        columns([flow]),
        np.full(1, 80, np.uint16),
        np.full(1, state, np.uint8),
        np.ones(1, np.bool_),
        np.zeros(1, np.uint64),
    )
    name = FlowName("web", siphash(KEYS["web"], flow.hash_input))
    sorter = Sorter(steering(tcp(80, IPv4Network(vip))))
    taken = take_dump(sorter, 1.0, [name.asked], lambda *_: iter([found]))
    assert set(taken.held) == ({name} if open_one else set())
    assert taken.open_cookies.tolist() == ([0] if open_one else [])


def test_the_kernel_leaves_other_sockets_out(connect: Connect, stack: ExitStack) -> None:
    flow = connect()
    other = stack.enter_context(socket.create_server((ADDRESS, 0)))
    stack.enter_context(socket.create_connection(other.getsockname(), 2))
    read = read_sockets(TCP, filter_of([tcp(flow.destination_port)]))
    assert {int(port) for found in read for port in found.local_port} == {flow.destination_port}


def test_pools_have_keys_and_sizes_of_their_own(connect: Connect) -> None:
    first, second = connect(), connect(address=OTHER)
    port = first.destination_port
    services = tcp(port), tcp(port, IPv4Network(OTHER), "plain")
    found = dump(*services, pools=("plain", "web"))
    assert occupied(found) == [bucket(second, "plain"), BUCKETS["plain"] + bucket(first)]
    assert found.connections.tolist() == [1, 1]


def test_a_pool_may_hash_clients_alone(connect: Connect) -> None:
    flows = [connect("127.0.0.2") for _ in range(5)]
    found = dump(tcp(flows[0].destination_port), mode="client")
    client = siphash(KEYS["web"], flows[0].client_hash_input)
    assert occupied(found) == [bucket_of(client, 65536)]
    assert found.connections.tolist() == [5]


def test_a_pool_without_a_table_has_open_connections_and_no_buckets(connect: Connect) -> None:
    flow = connect()
    found = dump(tcp(flow.destination_port, pool="new"))
    assert (found.opened, found.connections.tolist(), occupied(found)) == (1, [0], [])


def test_several_thousand_sockets_take_several_pieces(connect: Connect) -> None:
    flows = [connect(f"127.0.1.{number % 250}") for number in range(3000)]
    found = dump(tcp(flows[0].destination_port))
    assert found.connections.tolist() == [3000]
    assert occupied(found) == sorted({bucket(flow) for flow in flows})


def test_a_half_closed_connection_is_one_and_a_closed_one_is_not(
    stack: ExitStack, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    service = tcp(port)
    caller = stack.enter_context(socket.create_connection((ADDRESS, port), 2))
    accepted = stack.enter_context(listener.accept()[0])
    caller.shutdown(socket.SHUT_WR)
    assert accepted.recv(1) == b""
    assert dump(service).opened == 1, "CLOSE-WAIT"
    accepted.close()
    assert caller.recv(1) == b""
    caller.close()
    wait_until(lambda: dump(service).connections.tolist() == [0], "the last ACK has arrived")
    assert dump(service).opened == 0


def test_what_the_application_has_closed_is_present_until_the_client_closes(
    stack: ExitStack, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    caller = stack.enter_context(socket.create_connection((ADDRESS, port), 2))
    listener.accept()[0].close()
    assert caller.recv(1) == b""
    wait_until(lambda: dump(tcp(port)).opened == 0, "the ACK of the FIN has arrived")
    found = dump(tcp(port), led=())
    assert found.connections.tolist() == [1], "FIN-WAIT-2"
    assert (found.opened, len(found.strays.cookie)) == (0, 0), "nothing is left to be lost"


def test_what_the_application_has_written_and_closed_is_open_until_it_has_arrived(
    stack: ExitStack, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    caller = stack.enter_context(socket.create_connection((ADDRESS, port), 2))
    accepted, _ = listener.accept()
    accepted.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            accepted.send(bytes(1 << 16))
    accepted.close()
    found = dump(tcp(port), led=())
    assert (found.opened, len(found.strays.cookie)) == (1, 1), "FIN-WAIT-1"
    assert caller.recv(1) == b"\0"


def test_time_wait_is_no_connection(stack: ExitStack, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    caller = stack.enter_context(socket.create_connection((ADDRESS, port), 2))
    listener.accept()[0].close()
    assert caller.recv(1) == b""
    caller.close()
    wait_until(lambda: dump(tcp(port)).connections.tolist() == [0], "it is in TIME-WAIT")


def test_a_stray_is_open_where_no_table_leads(connect: Connect) -> None:
    flows = [connect() for _ in range(20)]
    led = [bucket(flow) for flow in flows[:15]]
    found = dump(tcp(flows[0].destination_port), led=led)
    expected = sorted(bucket(flow) for flow in flows if bucket(flow) not in led)
    assert sorted(found.strays.bucket.tolist()) == expected
    assert len(expected) > 0
    assert len(set(found.strays.cookie.tolist())) == len(expected)


@pytest.mark.parametrize("client", [ADDRESS, OTHER, str(DIP)], ids=["vip", "other", "dip"])
def test_a_client_on_this_server_is_no_stray(connect: Connect, client: str) -> None:
    """Its packets never meet a table."""
    flow = connect(client)
    services = tcp(flow.destination_port), tcp(1, IPv4Network(OTHER))
    found = dump(*services, led=())
    assert len(found.strays.cookie) == 0
    assert found.opened == (client != ADDRESS)


# The services that sockets belong to


def test_only_services_of_that_address_and_port_count(connect: Connect) -> None:
    port = connect().destination_port
    assert count_open(()) == 0
    assert count_open((tcp(port),)) == 1
    assert count_open((tcp(None),)) == 1
    assert count_open((tcp(port + 1),)) == 0
    assert count_open((tcp(port, IPv4Network(OTHER)),)) == 0
    assert count_open((udp(port),)) == 0
    mapped = tcp(port, IPv6Network("::ffff:0:0/96"))
    assert count_open((mapped,)) == 0, "an IPv4 connection is of no IPv6 VIP"


@pytest.mark.parametrize(
    ("prefix", "count"),
    [("76/30", 1), ("64/26", 1), ("80/28", 0), ("77/32", 1)],
)
def test_prefixes_count_what_is_in_them(connect: Connect, prefix: str, count: int) -> None:
    port = connect().destination_port
    assert count_open((tcp(port, ip_network(f"{OWN_NET}.{prefix}")),)) == count


def udp_socket(stack: ExitStack, address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    return made


def test_udp_flows_count_where_services_keep_them(stack: ExitStack) -> None:
    """Connected sockets: what the redirector, too, takes for a flow of this server."""
    flow = udp_socket(stack, ADDRESS)
    port = flow.getsockname()[1]
    assert count_open((udp(port),)) == 0, "unconnected: no flow"
    flow.connect(("127.0.0.1", 9))
    found = dump(udp(port), led=())
    known = Flow(ip_address("127.0.0.1"), 9, ip_address(ADDRESS), port, UDP)
    assert occupied(found) == [bucket(known)]
    assert found.strays.bucket.tolist() == [bucket(known)]
    assert count_open((udp(port, stateless=True),)) == 0
    assert count_open((udp(port + 1),)) == 0, "another port"
    assert count_open((udp(None),)) == 1
    assert count_open((udp(port, IPv4Network(OTHER)),)) == 0, "no VIP"
    own = udp_socket(stack, ADDRESS, port)
    own.connect((ADDRESS, 9))
    assert count_open((udp(port),)) == 1, "a server's own check is no client"


def test_udp_flows_of_dual_stack_sockets_count_too(stack: ExitStack) -> None:
    flow = udp_socket(stack, f"::ffff:{ADDRESS}")
    flow.connect(("::ffff:127.0.0.1", 9))
    assert count_open((udp(flow.getsockname()[1]),)) == 1
