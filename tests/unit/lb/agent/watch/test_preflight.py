"""Checks of the machine: one line with the remedy for each problem."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.config import AgentConfig
from lb.agent.machine.ethtool import (
    ETH_FLAG_LRO,
    ETH_FLAG_RXVLAN,
    gro_warning,
    lro_warning,
    read_flags,
    read_gro,
    vlan_warning,
)
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.watch import preflight
from lb.agent.watch.preflight import (
    check_interface,
    check_root,
    interface_faults,
    link_warnings,
    mtu6_warning,
    mtu_warning,
)

DIP = IPv4Address("10.0.0.1")
GOOD = LinkInfo(3, "eth0", bytes(6), 1548, True, frozenset({DIP}))


def check(
    monkeypatch: pytest.MonkeyPatch, link: LinkInfo | None, *, lo_up: bool = True
) -> LinkInfo:
    monkeypatch.setattr(preflight, "find_link", lambda *_: link)
    monkeypatch.setattr(preflight, "is_up", lambda *_: lo_up)
    return check_interface(RouteSocket(), AgentConfig(name="s1", interface="eth0", dip=DIP))


def test_a_fit_interface_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(monkeypatch, GOOD) == GOOD


@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        ({"addresses": frozenset()}, "does not have the DIP 10.0.0.1, but no IPv4 address", "dip"),
        ({"up": False}, "ip link set dev eth0 up", "interface"),
        ({"mac": b""}, "not an Ethernet interface", "interface"),
        ({"mtu": 600}, "too little for the encapsulation", "interface"),
        # enough for two in a chain, and a pool may ask for four
        ({"mtu": 576 + 47}, "set dev eth0 mtu 624", "interface"),
    ],
)
def test_an_unfit_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], line: str, what: str
) -> None:
    link = replace(GOOD, **change)  # type: ignore[arg-type]
    with pytest.raises(BrigadeError, match=line) as caught:
        check(monkeypatch, link)
    assert caught.value.exit_code == ExitCode.FAILED, "it may still come"
    config = AgentConfig(name="s1", interface="eth0", dip=DIP)
    assert [fault.what for fault in interface_faults(config, link, lo_up=True)] == [what]


def test_a_missing_one_and_a_loopback_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrigadeError, match="there is no interface eth0") as caught:
        check(monkeypatch, None)
    assert caught.value.exit_code == ExitCode.FAILED, "it may still come"
    with pytest.raises(BrigadeError, match="ip link set dev lo up"):
        check(monkeypatch, GOOD, lo_up=False)


@pytest.mark.parametrize(
    ("mtu", "depth", "fits"),
    [
        *((1500, 1, False), (1535, 1, False), (1536, 1, True), (1536, 2, False), (1540, 2, True)),
        *((1540, 3, False), (1544, 3, True), (1544, 4, False), (1548, 4, True)),
    ],
)
def test_the_overhead_depends_on_the_depth(mtu: int, depth: int, fits: bool) -> None:
    line = mtu_warning(mtu, depth, "off")
    assert (line is None) == fits
    if line:
        assert f"{mtu - 36 - 4 * (depth - 1)} bytes" in line


def test_with_a_lowered_mss_packets_fit() -> None:
    assert mtu_warning(1500, 4, "auto") is None
    assert mtu_warning(1500, 4, "lower") is None
    assert "1548" in (mtu_warning(1500, 4, "off") or "")


@pytest.mark.parametrize(
    ("mtu", "depth", "fits"),
    [(1315, 1, False), (1316, 1, True), (1319, 2, False), (1320, 2, True), (1327, 4, False)],
)
def test_no_ipv6_sender_goes_below_1280(mtu: int, depth: int, fits: bool) -> None:
    line = mtu6_warning(mtu, depth)
    assert (line is None) == fits
    if line:
        overhead = 36 + 4 * (depth - 1)
        assert f"leaves {mtu - overhead} bytes" in line
        assert f"to {1280 + overhead} or more" in line


def test_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BrigadeError, match="lbctl trace needs root: sudo lbctl trace"):
        check_root("trace")


@pytest.mark.parametrize(
    ("flags", "lro", "vlan"),
    [(0, False, False), (ETH_FLAG_LRO, True, False), (ETH_FLAG_RXVLAN, False, True)],
)
def test_offloads_that_change_packets_are_named(flags: int, lro: bool, vlan: bool) -> None:
    lines = lro_warning("eth0", lambda _: flags), vlan_warning("eth0", lambda _: flags)
    assert [line is not None for line in lines] == [lro, vlan]
    assert not lro or "ethtool -K eth0 lro off" in (lines[0] or "")
    assert not vlan or "ethtool -K eth0 rxvlan off" in (lines[1] or "")


@pytest.mark.parametrize(
    ("mode", "gro", "warned"),
    [("generic", True, True), ("generic", False, False), ("native", True, False)],
)
def test_generic_xdp_does_not_go_with_merged_packets(mode: str, gro: bool, warned: bool) -> None:
    """Its hook lies behind receive offload; that of native XDP before it."""
    line = gro_warning("eth0", mode, lambda _: gro)
    assert (line is not None) == warned
    assert not warned or "ethtool -K eth0 gro off" in (line or "")


def test_a_driver_that_reports_nothing_is_no_fault() -> None:
    assert read_flags("nosuch0") == 0
    assert not read_gro("nosuch0")


def test_all_that_is_wrong_with_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb.agent.watch.preflight.lro_warning", lambda _: "merged")
    monkeypatch.setattr("lb.agent.watch.preflight.gro_warning", lambda _, mode: f"merged: {mode}")
    monkeypatch.setattr("lb.agent.machine.sysctls.read_sysctl", lambda _: "1")
    config = AgentConfig(name="s1", interface="eth0", dip=DIP, mss="off", xdp_mode="generic")
    four, six = IPv4Network("192.0.2.10/32"), IPv6Network("2001:db8::/64")
    narrow = replace(GOOD, mtu=1300)
    found = link_warnings(config, narrow, [four, six], 2)
    assert all(found.values())
    assert sorted(found) == ["gro", "ipv6", "lro", "mtu", "mtu6"]
    assert found["gro"] == "merged: generic"
    found = link_warnings(config, GOOD, [four, six], 2)
    assert [topic for topic, line in found.items() if line] == ["ipv6", "lro", "gro"]
    found = link_warnings(config, narrow, [four], 2)
    assert [topic for topic, line in found.items() if line] == ["mtu", "lro", "gro"]
