"""Which service a packet is for, and which bucket: wire.md, sections 1 and 4.1."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.model import Address, Config, Flow, Pool, Service, bucket_of, forward, host
from tests.model.encap import room
from tests.model.frames import framed, icmp_packet, tcp_packet, udp_packet
from tests.unit.model.world import CLIENT, CLIENT6, KEY, VIP, VIP6, config, dip


def _service(vip: str, protocol: int, port: int | None, *, stateless: bool = False) -> Service:
    return Service(ip_network(vip), protocol, port, "web", stateless)


SERVICES = (
    _service("198.18.0.0/16", 6, None),  # 0
    _service("198.18.0.0/16", 6, 443),  # 1
    _service("198.18.7.0/24", 6, 80),  # 2
    _service("198.18.7.9/32", 6, None),  # 3
    _service("198.18.7.9/32", 6, 443),  # 4
    _service("198.18.7.0/24", 17, None, stateless=True),  # 5
    _service("2001:db8:1::/48", 6, None),  # 6
    _service("2001:db8:1:2::/64", 6, 80),  # 7
    _service("2001:db8:1:2::3/128", 17, 53),  # 8
    _service("2001:db8:1::/48", 17, 53),  # 9
)
HERE = replace(config(1, (2,)), services=SERVICES)


@pytest.mark.parametrize(
    ("address", "protocol", "port", "index"),
    [
        ("198.18.0.0", 6, 1, 0),
        ("198.18.255.255", 6, 1, 0),
        ("198.18.255.255", 6, 443, 1),
        ("198.17.255.255", 6, 443, None),
        ("198.19.0.0", 6, 443, None),
        ("198.18.7.1", 6, 80, 2),
        ("198.18.7.1", 6, 443, 1),  # the /24 has no service of that port
        ("198.18.7.1", 6, 22, 0),
        ("198.18.7.9", 6, 443, 4),
        ("198.18.7.9", 6, 80, 3),  # any port of a longer prefix before a port of a shorter one
        ("198.18.7.9", 6, 0, 3),
        ("198.18.7.9", 17, 443, 5),
        ("198.18.8.9", 17, 443, None),
        ("2001:db8:1::", 6, 80, 6),
        ("2001:db8:1:ffff:ffff:ffff:ffff:ffff", 6, 80, 6),
        ("2001:db8:2::", 6, 80, None),
        ("2001:db8:1:2::", 6, 80, 7),
        ("2001:db8:1:2::", 6, 81, 6),
        ("2001:db8:1:2::3", 17, 53, 8),
        ("2001:db8:1:2::2", 17, 53, 9),
        ("2001:db8:1:2::3", 17, 54, None),
    ],
)
def test_the_longest_prefix_then_the_port(
    address: str, protocol: int, port: int, index: int | None
) -> None:
    vip = ip_address(address)
    client = CLIENT if vip.version == 4 else CLIENT6
    make = tcp_packet if protocol == 6 else udp_packet
    for services in (SERVICES, SERVICES[::-1]):
        expected = None if index is None else services.index(SERVICES[index])
        here = replace(HERE, services=services)
        assert forward(framed(make(client, 1, vip, port)), here).service == expected


def test_families_do_not_meet() -> None:
    everything = replace(HERE, services=(_service("::/0", 6, None),))
    assert not everything.is_vip(VIP)
    assert forward(framed(tcp_packet(CLIENT, 1, VIP, 80)), everything).service is None
    everything = replace(HERE, services=(_service("0.0.0.0/0", 6, None),))
    assert forward(framed(tcp_packet(CLIENT6, 1, VIP6, 80)), everything).service is None


@pytest.mark.parametrize(
    ("vip", "counter"),
    [
        ("198.18.255.255", "pass_vip_icmp"),
        ("198.19.0.0", "pass_no_service"),
        ("2001:db8:1:ffff::", "pass_vip_icmp"),
        ("2001:db8:2::", "pass_no_service"),
    ],
)
def test_a_vip_is_any_address_in_a_prefix(vip: str, counter: str) -> None:
    address = ip_address(vip)
    client = CLIENT if address.version == 4 else CLIENT6
    assert forward(framed(icmp_packet(client, address)), HERE).counter == counter


def test_stateless_is_the_services_that_was_found() -> None:
    here = replace(config(1, (2, 3)), services=SERVICES)
    stateless = forward(framed(udp_packet(CLIENT, 1, ip_address("198.18.7.1"), 5)), here)
    assert stateless.counter == "tx_forward"
    stateful = forward(framed(udp_packet(CLIENT6, 1, ip_address("2001:db8:1::1"), 53)), here)
    assert stateful.counter == "tx_forward_chain"


@pytest.mark.parametrize(("client", "vip"), [(CLIENT, VIP), (CLIENT6, VIP6)], ids=["IPv4", "IPv6"])
def test_the_hash_mode_is_the_pools(client: Address, vip: Address) -> None:
    """Only the bucket of the hash has a chain, so a wrong hash would be an empty bucket."""
    for by_client in (False, True):
        flow = Flow(6, client, 40000, vip, 80)
        flow_hash = flow.hash(KEY, by_client=by_client)
        chains = {bucket_of(flow_hash, 65536): (2,)}
        here = Config(
            self_dip=dip(1),
            mac=bytes(6),
            services=(Service(host(vip), 6, None, "web"),),
            pools={"web": Pool(KEY, 65536, chains, depth=1, by_client=by_client)},
            dips=config(1).dips,
        )
        result = forward(framed(tcp_packet(client, 40000, vip, 80)), here)
        assert result.counter == "tx_forward"
        assert result.frame is not None
        source_port = 0x8000 | flow_hash >> 48
        assert int.from_bytes(result.frame[34:36], "big") == source_port
        other = forward(framed(tcp_packet(client, 40001, vip, 81)), here)
        assert other.counter == ("tx_forward" if by_client else "drop_no_bucket")


@pytest.mark.parametrize(("depth", "expected"), [(1, 36), (2, 40), (3, 44), (4, 48)])
def test_room(depth: int, expected: int) -> None:
    assert room(depth) == expected


@pytest.mark.parametrize("depth", [0, 5])
def test_a_table_that_no_chain_fits(depth: int) -> None:
    with pytest.raises(ValueError, match="1 to 4 deep"):
        Pool(KEY, 256, {}, depth=depth)


def test_a_chain_that_is_longer_than_its_table() -> None:
    with pytest.raises(ValueError, match="at most 2 DIPs"):
        Pool(KEY, 256, {7: (1, 2, 3)}, depth=2)


def test_two_services_of_the_same_name() -> None:
    with pytest.raises(ValueError, match="same address, protocol and port"):
        replace(HERE, services=(SERVICES[0], replace(SERVICES[0], stateless=True)))
