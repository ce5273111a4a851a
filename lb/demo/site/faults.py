"""What goes wrong on the machines of the demo, and how a person mends it. Each can be repeated."""

from __future__ import annotations

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import INTERFACE, ROUTER, dip

RULE_PRIORITY = "10"
STRICT = {
    f"net.ipv4.conf.{INTERFACE}.rp_filter": "1",
    f"net.ipv4.conf.{INTERFACE}.arp_ignore": "0",
}
"""Settings of the kernel as somebody's tuning script leaves them."""


def remove_vip(site: Site, number: int) -> None:
    """Remove the VIP of the daily pool from a server, as an address clean-up does."""
    site.server(number).run(["ip", "address", "del", f"{scenario.DAILY_VIP}/32", "dev", "lo"])


def put_vip_back(site: Site, number: int) -> None:
    """Add the VIP again, unless it is there."""
    site.server(number).run(["ip", "address", "replace", f"{scenario.DAILY_VIP}/32", "dev", "lo"])


def change_sysctls(site: Site, number: int) -> None:
    """Change settings of the kernel that a server needs."""
    for name, value in STRICT.items():
        site.server(number).sysctl(name, value)


def delete_filter(site: Site, number: int) -> None:
    """Delete the filters of a server's interface, with their queueing discipline."""
    site.server(number).run(["tc", "qdisc", "del", "dev", INTERFACE, "clsact"])


def block(site: Site, number: int) -> None:
    """Drop what is encapsulated for a server on its way; everything else passes."""
    site.network[ROUTER].run(["ip", "rule", "add", *_rule(number)])


def unblock(site: Site, number: int) -> None:
    """Let it pass again."""
    site.network[ROUTER].run(["ip", "rule", "del", *_rule(number)], check=False)


def _rule(number: int) -> list[str]:
    selector = ["to", str(dip(number)), "ipproto", "udp", "dport", "6080"]
    return ["priority", RULE_PRIORITY, *selector, "blackhole"]


VIP, SYSCTLS, FILTER = "the VIP", "the sysctls", "the clsact filter"


def missing(site: Site, altered: int, unfiltered: int) -> dict[str, bool]:
    """Return for each thing that was removed whether it is missing still."""
    addresses = site.server(altered).run(["ip", "-o", "address", "show", "dev", "lo"]).stdout
    filters = site.server(unfiltered).run(["tc", "filter", "show", "dev", INTERFACE, "ingress"])
    return {
        VIP: f" {scenario.DAILY_VIP}/32 " not in addresses,
        SYSCTLS: any(site.server(altered).sysctl(name) == value for name, value in STRICT.items()),
        FILTER: "bpf" not in filters.stdout,
    }


def put_back(site: Site, altered: int) -> None:
    """Put VIP and sysctls back, unless the agent did."""
    found = missing(site, altered, altered)
    if found[VIP]:
        put_vip_back(site, altered)
    if found[SYSCTLS]:
        site.server(altered).sysctl(f"net.ipv4.conf.{INTERFACE}.rp_filter", "2")
        site.server(altered).sysctl(f"net.ipv4.conf.{INTERFACE}.arp_ignore", "1")
