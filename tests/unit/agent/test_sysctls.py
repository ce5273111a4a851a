"""Only what VIPs on lo need is changed; the kernel takes the larger of `all` and the interface."""

from __future__ import annotations

import pytest

from lb.agent.sysctls import needed_sysctls


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
