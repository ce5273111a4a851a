"""Which of a fleet's services a probe asks."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from controlplane.domain.objects import TCP, UDP, Address, Check, Service
from controlplane.domain.vips import VipPrefixes
from controlplane.observe.probe import sockets
from controlplane.observe.probe.target import (
    FALLBACK_PORT,
    best_targets,
    candidates,
    choose,
    outside,
    target_of,
    why_not,
)

HERE = IPv4Address("10.0.0.9")


def service(
    vip: str, protocol: int, port: int | None, pool: str = "web", check_port: int | None = None
) -> Service:
    check = Check(port=check_port)
    return Service(f"{vip}-{port}", ip_network(vip), protocol, port, pool, check=check)


IN_ORDER = (
    (service("192.0.2.1", TCP, 443), "192.0.2.1:443"),
    (service("2001:db8::1", TCP, 443), "[2001:db8::1]:443"),
    (service("192.0.2.0/24", TCP, 443), "192.0.2.1:443"),
    (service("2001:db8::/64", TCP, 443), "[2001:db8::1]:443"),
    (service("192.0.2.0/24", TCP, None, check_port=8080), "192.0.2.1:8080"),
    (service("2001:db8::/64", TCP, None, check_port=8080), "[2001:db8::1]:8080"),
    (service("192.0.2.1", UDP, 53), "192.0.2.1:53"),
    (service("2001:db8::1", UDP, 53), "[2001:db8::1]:53"),
    (service("192.0.2.0/24", UDP, 53), "192.0.2.1:53"),
    (service("2001:db8::/64", UDP, 53), "[2001:db8::1]:53"),
    (service("192.0.2.0/24", UDP, None), f"192.0.2.1:{FALLBACK_PORT}"),
    (service("2001:db8::/64", TCP, None), f"[2001:db8::1]:{FALLBACK_PORT}"),
)
"""Best first."""


def anything(_: Address) -> Address:
    return HERE


def ipv4_only(vip: Address) -> Address | None:
    return HERE if vip.version == 4 else None


def everything(_: str) -> bool:
    return True


@pytest.mark.parametrize(("asked", "text"), IN_ORDER)
def test_every_service_can_be_asked_somewhere(asked: Service, text: str) -> None:
    assert target_of(asked).text == text
    (only,) = candidates(best_targets([asked]), everything)
    assert only.text == text


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_what_tells_most_is_asked_first(first: int) -> None:
    services = [asked for asked, _ in reversed(IN_ORDER[first:])]
    chosen = choose(candidates(best_targets(services), everything), anything)
    assert chosen
    assert chosen.text == IN_ORDER[first][1]


def test_a_machine_without_ipv6_asks_over_ipv4_whatever_is_there() -> None:
    services = [service("2001:db8::1", TCP, 443), service("192.0.2.0/24", UDP, None, "voice")]
    chosen = choose(candidates(best_targets(services), "web".__eq__), ipv4_only)
    assert chosen
    assert chosen.text == f"192.0.2.1:{FALLBACK_PORT}"


@pytest.mark.parametrize(
    ("vip", "own", "asked"),
    [
        ("2001:db8::/64", "2001:db8::9", False),  # the subnet of servers and controller
        ("2001:db8::1", "2001:db8::9", True),
        ("2001:db8:1::/64", "2001:db8::9", True),
        ("2001:db8::1", "2001:db8:1::1", False),  # in another VIP than the one that is asked
    ],
)
def test_an_address_that_lies_in_a_vip_asks_nobody(vip: str, own: str, asked: bool) -> None:
    vips = VipPrefixes([ip_network(vip), ip_network("2001:db8:1::1")])
    found = candidates(best_targets([service(vip, TCP, 443)]), everything)
    chosen = choose(found, outside(vips, lambda _: ip_address(own)))
    assert (chosen is not None) == asked


def test_a_servers_own_pools_come_first() -> None:
    services = [service("192.0.2.1", TCP, 80, "a"), service("192.0.2.2", UDP, 53, "b")]
    targets = best_targets(services)
    assert [t.pool for t in candidates(targets, "b".__eq__)] == ["b", "a"]
    assert [t.pool for t in candidates(targets, "a".__eq__)] == ["a", "b"]


def test_why_nobody_can_be_asked_is_said() -> None:
    only6 = candidates(best_targets([service("2001:db8::1", TCP, 443)]), everything)
    assert choose(only6, ipv4_only) is None
    assert "no IPv6 address outside all VIPs for 2001:db8::1" in why_not(only6)
    assert "no service" in why_not(candidates(best_targets([]), everything))
    both = best_targets([service("192.0.2.1", TCP, 80), service("2001:db8::1", TCP, 443)])
    reason = why_not(candidates(both, everything))
    assert "is a server itself and has 192.0.2.1" in reason
    assert "accept_local = 1" in reason


@pytest.mark.parametrize(
    ("vip", "accept_local", "dropped"),
    [
        ("127.0.0.1", "0\n", True),
        ("127.0.0.1", "1\n", False),
        ("192.0.2.10", "0\n", False),
    ],
)
def test_a_machine_that_has_the_vip_itself_drops_answers_from_it(
    vip: str, accept_local: str, dropped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "accept_local"
    setting.write_text(accept_local)
    monkeypatch.setattr(sockets, "ACCEPT_LOCAL", setting)
    assert sockets.drops_answers_from(IPv4Address(vip)) is dropped
    assert sockets.probe_source(IPv4Address(vip), HERE) == (None if dropped else HERE)
