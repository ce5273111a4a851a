"""`lbctl where` against the golden vectors and against the model of the forwarder."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

import numpy as np
import pytest

from controlplane.domain.errors import UsageError
from controlplane.domain.objects import TCP, UDP, Cluster, Pool, Server, ServerState, Service, Table
from lb.flow_hash import Flow, bucket_of, siphash, source_port_of
from lb.where import Answer, most_specific, parse_endpoint, parse_flow, where
from tests.model import flow as model_flow
from tests.model.visits import visiting_order as model_order

KEY = bytes(range(16))
CLIENT, VIP = IPv4Address("198.51.100.7"), IPv4Address("192.0.2.10")
BUCKETS = 256


def dip(index: int) -> IPv4Address:
    return IPv4Address(f"10.0.0.{index}")


@pytest.mark.parametrize(
    ("rounds", "data", "expected"),
    [
        ((2, 4), bytes(range(15)), 0xA129CA6149BE45E5),
        ((1, 3), b"", 0xABAC0158050FC4DC),
        ((1, 3), b"\0", 0xC9F49BF37D57CA93),
    ],
)
def test_published_vectors_of_siphash(rounds: tuple[int, int], data: bytes, expected: int) -> None:
    assert siphash(KEY, data, *rounds) == expected


@pytest.mark.parametrize(
    ("source", "destination", "protocol", "expected", "bucket", "port"),
    [
        ("198.51.100.7:40000", "192.0.2.10:80", "tcp", 0xFA43B87DE3E4A666, 42598, 64067),
        ("198.51.100.7:40001", "192.0.2.10:80", "tcp", 0x453B30345EECB2E6, 45798, 50491),
        ("198.51.100.7:40000", "192.0.2.10:80", "udp", 0x8B6AE32195B2506F, 20591, 35690),
        ("203.0.113.255:65535", "192.0.2.1:53", "udp", 0x6C0FAA4C6AA11A17, 6679, 60431),
        ("0.0.0.0:0", "255.255.255.255:0", "tcp", 0x5DE43582E562AB0F, 43791, 56804),
        (
            "[2001:db8:c::7]:40000",
            "[2001:db8::10]:443",
            "tcp",
            *(0x38FCCC008CD0F753, 63315, 47356),
        ),
    ],
)
def test_golden_flows_of_the_wire_document(
    source: str, destination: str, protocol: str, expected: int, bucket: int, port: int
) -> None:
    flow_hash = siphash(KEY, parse_flow(protocol, source, destination).hash_input)
    assert flow_hash == expected
    assert (bucket_of(flow_hash, 65536), source_port_of(flow_hash)) == (bucket, port)


@pytest.mark.parametrize(
    ("client", "expected"),
    [("198.51.100.7", 0xBEA1E9D79020926A), ("2001:db8:c::7", 0x6C870CB6F2BEBF1F)],
)
def test_golden_clients_of_the_wire_document(client: str, expected: int) -> None:
    flow = Flow(ip_address(client), 1, ip_address(client), 2, TCP)
    assert siphash(KEY, flow.client_hash_input) == expected


def test_buckets_and_ports_agree_with_the_model_on_many_flows() -> None:
    rng = np.random.default_rng(1)
    for numbers in rng.integers(0, 1 << 32, (200, 4)).tolist():
        source, destination = IPv4Address(numbers[0]), IPv4Address(numbers[1])
        ports = (numbers[2] & 0xFFFF, numbers[3] & 0xFFFF)
        ours = Flow(source, ports[0], destination, ports[1], TCP)
        theirs = model_flow.Flow(TCP, source, ports[0], destination, ports[1])
        flow_hash = siphash(KEY, ours.hash_input)
        assert flow_hash == theirs.hash(KEY)
        assert bucket_of(flow_hash, 4096) == model_flow.bucket_of(flow_hash, 4096)
        assert source_port_of(flow_hash) == model_flow.outer_source_port(flow_hash)


def cluster(*, stateless: bool = False) -> Cluster:
    servers = tuple(Server(f"s{i}", dip(i), i, ServerState.ACTIVE) for i in (1, 2, 3, 4))
    services = (
        Service("web", IPv4Network(VIP), TCP, 80, "web"),
        Service("dns", IPv4Network(VIP), UDP, 53, "web", stateless=stateless),
        Service("bare", IPv4Network(VIP), TCP, 81, "bare"),
    )
    return Cluster(1, servers, services, (Pool("web", BUCKETS, key_id="k"), Pool("bare", BUCKETS)))


def ask(
    chain: list[int], own: int, port: int = 80, protocol: int = TCP, *, stateless: bool = False
) -> Answer:
    chains = np.tile(np.array(chain, np.uint16), (BUCKETS, 1))
    tables = {"web": Table("web", 1, 1, chains, np.zeros(BUCKETS, np.uint32))}
    flow = Flow(CLIENT, 40000, VIP, port, protocol)
    return where(flow, cluster(stateless=stateless), tables, {"k": KEY}, dip(own))


@pytest.mark.parametrize(
    ("chain", "own", "verdict"),
    [
        ([1, 0], 1, "pass_local"),
        ([1, 2], 1, "pass_to_self"),
        ([1, 0], 2, "tx_forward"),
        ([1, 2], 2, "tx_forward_chain"),
        ([0, 0], 1, "drop_no_bucket"),
        ([0, 2], 1, "drop_no_bucket"),
        ([1, 9], 2, "drop_no_dip"),
        ([1, 2, 3, 4], 1, "pass_to_self"),
        ([1, 2, 3, 4], 4, "tx_forward_chain"),
        ([1, 2, 3, 9], 4, "drop_no_dip"),
    ],
)
def test_verdicts_about_tcp(chain: list[int], own: int, verdict: str) -> None:
    assert ask(chain, own).verdict == verdict


def test_udp_visits_the_oldest_first_unless_stateless() -> None:
    connected = ask([1, 2], 1, 53, UDP)
    assert [s.name for s in connected.visits if isinstance(s, Server)] == ["s2", "s1"]
    assert connected.verdict == "tx_forward_chain"
    assert ask([1, 2], 1, 53, UDP, stateless=True).verdict == "pass_local"


@pytest.mark.parametrize("stateless", [True, False])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("slots", [(3, 1), (3, 1, 2), (3, 1, 0, 0), (3, 1, 4, 2)])
def test_visits_are_those_of_the_model(
    slots: tuple[int, ...], protocol: int, stateless: bool
) -> None:
    port = 80 if protocol == TCP else 53
    answer = ask(list(slots), 2, port, protocol, stateless=stateless)
    whole = tuple(index for index in slots if index)
    assert tuple(s.index for s in answer.chain if isinstance(s, Server)) == whole
    indices = tuple(s.index for s in answer.visits if isinstance(s, Server))
    assert indices == model_order(whole, protocol, stateless=stateless and protocol == UDP)


def test_what_is_not_for_a_service_or_has_no_table() -> None:
    assert ask([1, 0], 1, port=82).verdict == "pass_no_service"
    assert ask([1, 0], 1, port=81).verdict == "drop_no_table"
    forged = Flow(dip(1), 1, dip(2), 6080, UDP)
    assert where(forged, cluster(), {}, {}, dip(1)).verdict == "drop_spoofed"
    assert where(replace(forged, source=CLIENT), cluster(), {}, {}, dip(1)).verdict == (
        "pass_no_service"
    )


@pytest.mark.parametrize(
    "text",
    ["192.0.2.1", "192.0.2.1:70000", "1.2.3:4", "[1.2.3.4]:80", "::1:80", "[::1]", "x:1", ""],
)
def test_bad_endpoints_are_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not ADDRESS:PORT"):
        parse_endpoint(text)


def test_a_flow_is_of_one_ip_version() -> None:
    with pytest.raises(UsageError, match="different IP versions"):
        parse_flow("tcp", "198.51.100.7:1", "[2001:db8::1]:80")


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        ("192.0.2.10:80", "one"),
        ("192.0.2.10:81", "one-any"),
        ("192.0.2.11:80", "net-any"),
        ("192.0.3.1:80", "wide"),
        ("192.0.3.1:81", None),
        ("[2001:db8::10]:443", "six"),
        ("[2001:db8:1::10]:443", None),
    ],
)
def test_the_longest_prefix_serves_then_the_port(destination: str, name: str | None) -> None:
    services = (
        Service("net-any", IPv4Network("192.0.2.0/24"), TCP, None, "web"),
        Service("one-any", IPv4Network("192.0.2.10"), TCP, None, "web"),
        Service("wide", IPv4Network("192.0.0.0/16"), TCP, 80, "web"),
        Service("one", IPv4Network("192.0.2.10"), TCP, 80, "web"),
        Service("six", IPv6Network("2001:db8::/64"), TCP, None, "web"),
    )
    source = "[2001:db8:c::7]:1" if destination.startswith("[") else "198.51.100.7:1"
    found = most_specific(services, parse_flow("tcp", source, destination))
    assert (found.name if found else None) == name


def test_a_pool_that_looks_at_clients_alone_keeps_a_client_in_a_bucket() -> None:
    by_client = replace(cluster(), pools=(Pool("web", BUCKETS, key_id="k", hash_mode="client"),))
    tables = {
        "web": Table("web", 1, 1, np.ones((BUCKETS, 1), np.uint16), np.zeros(BUCKETS, np.uint32))
    }
    flows = (Flow(CLIENT, port, VIP, 80, TCP) for port in range(40000, 40008))
    buckets = {where(flow, by_client, tables, {"k": KEY}, dip(2)).bucket for flow in flows}
    assert buckets == {0xBEA1E9D79020926A % BUCKETS}
