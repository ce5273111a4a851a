"""What may be a VIP, how it is spelled, and what it covers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

import pytest

from controlplane.domain.objects import (
    TCP,
    Check,
    Service,
    Vip,
    endpoint_text,
    first_address,
    vip_text,
)
from controlplane.domain.vips import BadVip, Hosts, VipPrefixes, check_vip, ipv6_lengths, parse_vip


@pytest.mark.parametrize(
    ("text", "spelled", "endpoint", "first"),
    [
        ("192.0.2.10", "192.0.2.10", "192.0.2.10:80", "192.0.2.10"),
        ("192.0.2.10/32", "192.0.2.10", "192.0.2.10:80", "192.0.2.10"),
        ("192.0.2.10/31", "192.0.2.10/31", "192.0.2.10/31:80", "192.0.2.10"),
        ("192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24:80", "192.0.2.1"),
        ("20.0.0.0/8", "20.0.0.0/8", "20.0.0.0/8:80", "20.0.0.1"),
        ("2001:DB8:0::10", "2001:db8::10", "[2001:db8::10]:80", "2001:db8::10"),
        ("2001:db8::2/127", "2001:db8::2/127", "[2001:db8::2/127]:80", "2001:db8::2"),
        ("2001:db8:1::/64", "2001:db8:1::/64", "[2001:db8:1::/64]:80", "2001:db8:1::1"),
        ("2001::/16", "2001::/16", "[2001::/16]:80", "2001::1"),
        ("fd00::1", "fd00::1", "[fd00::1]:80", "fd00::1"),
    ],
)
def test_every_form_is_read_and_spelled(text: str, spelled: str, endpoint: str, first: str) -> None:
    vip = parse_vip(text)
    assert vip_text(vip) == spelled
    assert parse_vip(spelled) == vip
    assert endpoint_text(vip, 80) == endpoint
    assert endpoint_text(vip, None) == endpoint.replace(":80", ":any")
    assert str(first_address(vip)) == first


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("192.0.2.1/24", "bad_prefix", "bits set beyond its prefix: 192.0.2.1/24 is in 192.0.2."),
        ("2001:db8::1/64", "bad_prefix", "is in 2001:db8::/64"),
        ("10.0.0.0/7", "bad_prefix", "must be a prefix of /8 to /32, not 10.0.0.0/7"),
        ("0.0.0.0/0", "bad_prefix", "must be a prefix of /8 to /32"),
        ("2000::/15", "bad_prefix", "must be a prefix of /16 to /128, not 2000::/15"),
        ("::/0", "bad_prefix", "must be a prefix of /16"),
        ("0.0.0.0", "bad_address", "0.0.0.0 is in 0.0.0.0/8"),
        ("127.0.0.1", "bad_address", "127.0.0.1 is in 127.0.0.0/8 (loopback)"),
        ("169.254.1.1", "bad_address", "(link-local)"),
        ("169.0.0.0/8", "bad_address", "169.0.0.0/8 covers 169.254.0.0/16 (link-local)"),
        ("224.0.0.1", "bad_address", "(multicast)"),
        ("232.0.0.0/8", "bad_address", "(multicast)"),
        ("255.255.255.255", "bad_address", "(reserved)"),
        ("::", "bad_address", "(no address)"),
        ("::1", "bad_address", "(loopback)"),
        ("::/16", "bad_address", "::/16 covers"),
        ("::ffff:192.0.2.1", "bad_address", "(IPv4-mapped)"),
        ("::ffff:0:0/96", "bad_address", "(IPv4-mapped)"),
        ("fe80::1", "bad_address", "(link-local)"),
        ("ff02::1", "bad_address", "(multicast)"),
        ("", "bad_address", "not ''"),
        ("web", "bad_address", "not 'web'"),
        ("192.0.2", "bad_address", "must be an address or a prefix"),
        ("192.0.2.256", "bad_address", "must be an address or a prefix"),
        ("192.0.2.0/33", "bad_address", "must be an address or a prefix"),
        ("192.0.2.0/024", "bad_address", "must be an address or a prefix"),
        ("192.0.2.0/255.255.255.0", "bad_address", "must be an address or a prefix"),
        ("192.0.2.0/0.0.0.255", "bad_address", "must be an address or a prefix"),
        ("192.0.2.0/", "bad_address", "must be an address or a prefix"),
        (" 192.0.2.1", "bad_address", "must be an address or a prefix"),
        ("192.0.2.1\n", "bad_address", "must be an address or a prefix"),
        ("2001:db8::1%eth0", "bad_address", "must be an address or a prefix"),
        ("2001:db8::/129", "bad_address", "must be an address or a prefix"),
        ("\u0661.0.0.1", "bad_address", "must be an address or a prefix"),
        ("1" * 1000, "bad_address", "must be an address or a prefix"),
    ],
)
def test_what_clients_cannot_connect_to_is_refused(text: str, reason: str, line: str) -> None:
    with pytest.raises(BadVip) as caught:
        parse_vip(text)
    assert caught.value.reason == reason
    text = str(caught.value)
    assert text.startswith("must ")
    assert line in text
    assert "\n" not in text
    assert len(text) < 200


@pytest.mark.parametrize("text", ["9.255.255.0/24", "128.0.0.0/8", "170.0.0.0/8", "fe00::/16"])
def test_neighbours_of_what_is_refused_are_vips(text: str) -> None:
    check_vip(ip_network(text))


@pytest.mark.parametrize(
    ("vip", "found"),
    [
        (IPv4Network("10.0.0.5"), None),
        (IPv4Network("10.0.0.4"), "10.0.0.4"),
        (IPv4Network("10.0.0.0/30"), None),
        (IPv4Network("10.0.0.8/29"), "10.0.0.9"),
        (IPv4Network("10.0.0.0/8"), "10.0.0.4"),
        (IPv4Network("11.0.0.0/8"), None),
        (IPv6Network("::a00:4/128"), None),
    ],
)
def test_hosts_that_a_vip_covers_are_found(vip: Vip, found: str | None) -> None:
    hosts = Hosts([IPv4Address("10.0.0.9"), IPv4Address("10.0.0.4")])
    assert hosts.covered_by(vip) == (IPv4Address(found) if found else None)
    assert Hosts([]).covered_by(vip) is None


def test_only_ipv6_lengths_count() -> None:
    vips = [parse_vip(text) for text in ("192.0.2.0/24", "2001:db8::1", "fd00::/64", "fd01::/64")]
    assert ipv6_lengths(vips) == {64, 128}


def test_whom_a_check_asks() -> None:
    prefix = IPv4Network("192.0.2.0/24")
    plain = Service("a", prefix, TCP, None, "web")
    assert (plain.check_address, plain.check_port) == (IPv4Address("192.0.2.1"), None)
    named = Service(
        "a", prefix, TCP, 80, "web", check=Check(port=81, address=IPv4Address("192.0.2.9"))
    )
    assert (named.check_address, named.check_port) == (IPv4Address("192.0.2.9"), 81)


@pytest.mark.parametrize(
    ("what", "covering"),
    [
        ("192.0.2.10", ["192.0.2.0/24", "192.0.2.10"]),
        ("192.0.2.255", ["192.0.2.0/24"]),
        ("192.0.2.0/24", ["192.0.2.0/24"]),
        ("192.0.0.0/16", []),
        ("192.0.3.0", []),
        ("2001:db8::ffff:0:0:1", ["2001:db8::/64"]),
        ("2001:db8:0:1::1", []),
        ("::c000:20a", []),
    ],
)
def test_vips_that_cover_something_are_found(what: str, covering: list[str]) -> None:
    vips = VipPrefixes(map(ip_network, ("192.0.2.10", "192.0.2.0/24", "2001:db8::/64")))
    assert [vip_text(vip) for vip in vips.covering(ip_network(what))] == covering
