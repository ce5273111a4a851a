"""Addresses, routes, sysctls and links that somebody changes under an agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from lb.agent.watch.history import BURST, PACE_SECONDS
from netns import brigade
from netns.polling import wait_until
from tests.netns.agent_helpers import VIP
from tests.netns.field.watched import PREFIX, SOON_SECONDS, VIP6, Watched, watched_servers

FIGHT_SECONDS = 8.0
DIP = f"{brigade.dip(2)}/30"


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with watched_servers(server_mtu=brigade.CLIENT_MTU) as made:
        yield made


@pytest.fixture(autouse=True)
def at_rest(watched: Watched) -> None:
    watched.rest()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("v4", f"ip address del {VIP}/32 dev lo"),
        ("v6", f"ip address del {VIP6} dev lo"),
        ("prefix", f"ip route del local {PREFIX} dev lo table local"),
        # the address stays, and nothing is delivered
        ("v4", f"ip route del local {VIP} dev lo table local"),
        ("v4", "ip address flush dev lo"),
        ("v6", "ip -6 address flush dev lo"),
    ],
)
def test_vips_are_put_back(watched: Watched, place: str, words: str) -> None:
    with watched.put_back("vips"):
        watched.run(*words.split())
    watched.answers(place)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("net.ipv4.conf.all.arp_ignore", "0", "1"),
        ("net.ipv4.conf.eth0.arp_ignore", "0", "1"),
        ("net.ipv4.conf.all.arp_announce", "0", "2"),
        ("net.ipv4.conf.eth0.rp_filter", "1", "2"),
        ("net.ipv6.conf.lo.disable_ipv6", "1", "0"),
    ],
)
def test_sysctls_are_set_again(watched: Watched, name: str, wrong: str, right: str) -> None:
    """Also one that was right before: the server relies on it, whoever set it."""
    with watched.put_back("sysctls"):
        watched.server.sysctl(name, wrong)
    assert watched.server.sysctl(name) == right
    watched.answers("v6")


def test_a_strict_filter_for_all_is_answered_on_the_interface(watched: Watched) -> None:
    watched.server.sysctl("net.ipv4.conf.eth0.rp_filter", "0")
    with watched.put_back("sysctls"):
        watched.server.sysctl("net.ipv4.conf.all.rp_filter", "1")
    assert watched.server.sysctl("net.ipv4.conf.eth0.rp_filter") == "2"
    watched.server.sysctl("net.ipv4.conf.all.rp_filter", "0")


@pytest.mark.parametrize(
    "words", [f"address del {DIP} dev eth0", "-4 address flush dev eth0"], ids=["del", "flush"]
)
def test_without_its_dip_a_server_is_withdrawn_and_nothing_else_is_taken(
    watched: Watched, words: str
) -> None:
    watched.run("ip", *words.split())
    with watched.withdrawn("dip", f"does not have the DIP {brigade.dip(2)}"):
        assert str(VIP) in watched.run("ip", "address", "show", "dev", "lo")
        assert "prog/xdp" in watched.run("ip", "-d", "link", "show", "dev", "eth0")
        watched.run("ip", "address", "add", DIP, "dev", "eth0")
        restore_default(watched)
    watched.answers()


def restore_default(watched: Watched) -> None:
    """Add the routes that went with the address or the link, as a network service does."""
    gateway = str(brigade.router_address(2))
    watched.run("ip", "route", "replace", "default", "via", gateway, "dev", "eth0")


def test_a_link_that_is_down_withdraws_the_server_until_it_is_up(watched: Watched) -> None:
    watched.run("ip", "link", "set", "dev", "eth0", "down")
    with watched.withdrawn("interface", "ip link set dev eth0 up"):
        watched.run("ip", "link", "set", "dev", "eth0", "up")
        restore_default(watched)
    watched.answers()


def test_a_link_without_a_carrier_withdraws_the_server(watched: Watched) -> None:
    watched.router.run(["ip", "link", "set", "dev", "server2", "down"])
    with watched.withdrawn("carrier", "eth0 does not have a carrier"):
        watched.router.run(["ip", "link", "set", "dev", "server2", "up"])


def test_lo_that_is_down_withdraws_the_server(watched: Watched) -> None:
    watched.run("ip", "link", "set", "dev", "lo", "down")
    with watched.withdrawn("lo", "ip link set dev lo up"):
        watched.run("ip", "link", "set", "dev", "lo", "up")


def test_a_flush_of_the_rules_is_reported_and_ours_are_back(watched: Watched) -> None:
    assert "lookup 6080" in watched.run("ip", "rule")
    before = watched.repairs("routing")
    watched.run("ip", "rule", "flush")
    with watched.withdrawn("main_rule", "ip rule add priority 32766 lookup main"):
        assert "lookup 6080" in watched.run("ip", "rule")
        assert watched.repairs("routing") > before
        watched.run("ip", "rule", "add", "priority", "32766", "lookup", "main")


def test_a_flush_of_the_table_for_replies_is_undone_and_counted(watched: Watched) -> None:
    with watched.put_back("routing"):
        watched.run("ip", "route", "flush", "table", "6080")
    assert "advmss" in watched.run("ip", "route", "show", "table", "6080")


def test_somebody_who_removes_a_vip_again_and_again_is_reported_and_bounded(
    watched: Watched,
) -> None:
    """The last test here: the server stays withdrawn for half a minute after it."""
    before, ending = watched.repairs("vips"), threading.Event()

    def fight() -> None:
        while not ending.is_set():
            watched.server.run(["ip", "address", "del", f"{VIP}/32", "dev", "lo"], check=False)
            time.sleep(0.05)

    fighter = threading.Thread(target=fight)
    fighter.start()
    try:
        wait_until(lambda: "changed 5 times within 60 s" in watched.trouble(), "named", 10.0)
        wait_until(lambda: not watched.fleet.ready(2), "withdrawn", SOON_SECONDS)
        time.sleep(FIGHT_SECONDS)
    finally:
        ending.set()
        fighter.join()
    most = BURST + 2 * FIGHT_SECONDS / PACE_SECONDS
    assert BURST <= watched.repairs("vips") - before <= most
    assert "vips" in watched.status()["missing"]  # type: ignore[operator] # a list
    watched.answers()
