"""Only what VIPs on lo need is changed; the kernel takes the larger of `all` and the interface."""

from __future__ import annotations

import pytest

from lb.agent.machine.sysctls import ipv6_warning, needed_for_ipv6, needed_sysctls


def settings(**values: str) -> dict[str, str]:
    names = ("arp_ignore", "arp_announce", "rp_filter")
    found = {f"net/ipv4/conf/{scope}/{name}": "0" for scope in ("all", "eth0") for name in names}
    for key, value in values.items():
        scope, _, name = key.partition("_")
        found[f"net/ipv4/conf/{scope}/{name}"] = value
    return found


def changed(**values: str) -> dict[str, tuple[str, str]]:
    found = needed_sysctls("eth0", settings(**values).__getitem__)
    return {path.removeprefix("net/ipv4/conf/"): change for path, change in found.items()}


def test_arp_settings_are_raised_everywhere() -> None:
    assert changed() == {
        "all/arp_ignore": ("0", "1"),
        "eth0/arp_ignore": ("0", "1"),
        "all/arp_announce": ("0", "2"),
        "eth0/arp_announce": ("0", "2"),
    }


def test_what_is_strict_enough_stays() -> None:
    strict = {
        "all_arp_ignore": "2",
        "eth0_arp_ignore": "1",
        "all_arp_announce": "2",
        "eth0_arp_announce": "2",
    }
    assert changed(**strict) == {}


@pytest.mark.parametrize(
    ("for_all", "here", "change"),
    [
        ("0", "0", None),
        ("1", "0", ("0", "2")),
        ("0", "1", ("1", "2")),
        ("1", "1", ("1", "2")),
        ("2", "0", None),
        ("1", "2", None),
    ],
)
def test_strict_reverse_path_filtering_is_loosened(
    for_all: str, here: str, change: tuple[str, str] | None
) -> None:
    found = changed(all_rp_filter=for_all, eth0_rp_filter=here)
    assert found.get("eth0/rp_filter") == change
    assert "all/rp_filter" not in found


def off(value: str | None) -> dict[str, str]:
    """IPv6 off or on, on lo and eth0; ``None``: a kernel without IPv6."""
    scopes = () if value is None else ("lo", "eth0")
    return {f"net/ipv6/conf/{scope}/disable_ipv6": str(value) for scope in scopes}


class Missing(dict[str, str]):
    def __missing__(self, path: str) -> str:
        raise FileNotFoundError(path)


@pytest.mark.parametrize(("value", "changes"), [("1", 1), ("0", 0), (None, 0)])
def test_ipv6_is_switched_on_for_lo_alone(value: str | None, changes: int) -> None:
    found = needed_for_ipv6(Missing(off(value)).__getitem__)
    assert found == dict([("net/ipv6/conf/lo/disable_ipv6", ("1", "0"))][:changes])


@pytest.mark.parametrize(("value", "warned"), [("1", True), ("0", False), (None, True)])
def test_an_interface_without_ipv6_is_named(value: str | None, warned: bool) -> None:
    line = ipv6_warning("eth0", Missing(off(value)).__getitem__)
    assert (line is not None) is warned
    if line:
        assert "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0" in line
