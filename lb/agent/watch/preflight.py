"""Checks that this machine can run an agent. Every refusal is one line with the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.domain.bounds import MAX_DEPTH
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip
from controlplane.domain.overhead import overhead_bytes
from controlplane.domain.vips import has_ipv6
from lb.agent.config import AgentConfig
from lb.agent.machine import sysctls
from lb.agent.machine.ethtool import gro_warning, lro_warning
from lb.agent.mss.goal import USUAL_PACKET_BYTES, is_lowered
from lb.agent.netlink.links import LOOPBACK_INDEX, LinkInfo, find_link, is_up
from lb.agent.netlink.route_socket import RouteSocket

INTERFACE, DIP, LO = "interface", "dip", "lo"
"""What may be unfit."""
ETHERNET_ADDRESS_BYTES = 6
LEAST_INNER_BYTES = 576
"""Every IPv4 host takes packets of this size (RFC 791)."""
LEAST_IPV6_BYTES = 1280
"""IPv6 senders never go below this (RFC 8200, section 5; RFC 8201, section 4)."""


def check_root(command: str) -> None:
    """Raise without root, with the command of lbctl that needs it."""
    if os.geteuid() != 0:
        raise BrigadeError(f"lbctl {command} needs root: sudo lbctl {command} ...")


@dataclass(frozen=True)
class Unfit:
    """Why an interface cannot be used now: the thing, what is wrong with it, and what to do."""

    what: str
    line: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.line}: {self.remedy}"


def check_interface(netlink: RouteSocket, config: AgentConfig) -> LinkInfo:
    """Return the interface, after checking that it can be used.

    Raises:
        BrigadeError: it cannot. Everything about it may still come: a restart may help.

    """
    link = find_link(netlink, config.interface)
    lo_up = is_up(netlink, LOOPBACK_INDEX)
    fault = next(interface_faults(config, link, lo_up=lo_up), None)
    if link is None or fault is not None:
        raise BrigadeError(str(fault))
    return link


def interface_faults(config: AgentConfig, link: LinkInfo | None, *, lo_up: bool) -> Iterator[Unfit]:
    """Yield why an interface cannot be used, the most important first. Pure.

    ``link`` is what has its name now; ``lo_up``: the interface for VIPs is up.
    """
    name = config.interface
    if link is None:
        yield Unfit(INTERFACE, f"there is no interface {name}", "see `ip link`")
        return
    if not link.up:
        yield Unfit(INTERFACE, f"interface {name} is down", f"ip link set dev {name} up")
    if len(link.mac) != ETHERNET_ADDRESS_BYTES:
        yield Unfit(INTERFACE, f"interface {name} is not an Ethernet interface", "use another")
    least = LEAST_INNER_BYTES + overhead_bytes(MAX_DEPTH)
    if link.mtu < least:
        line = f"interface {name} has an MTU of {link.mtu}, too little for the encapsulation"
        yield Unfit(INTERFACE, line, f"ip link set dev {name} mtu {least} or more")
    if config.dip not in link.addresses:
        have = ", ".join(str(address) for address in sorted(link.addresses)) or "no IPv4 address"
        line = f"{name} does not have the DIP {config.dip}, but {have}"
        yield Unfit(DIP, line, "add it, or correct dip in the settings")
    if not lo_up:
        yield Unfit(LO, "lo is down, and VIPs have to be on it", "ip link set dev lo up")


def link_warnings(
    config: AgentConfig, link: LinkInfo, vips: Iterable[Vip], depth: int
) -> dict[str, str | None]:
    """Return the warnings about an interface for these VIPs and chains; ``None``: all is well."""
    wants_ipv6 = has_ipv6(vips)
    return {
        "mtu": mtu_warning(link.mtu, depth, config.mss),
        "mtu6": mtu6_warning(link.mtu, depth) if wants_ipv6 else None,
        "ipv6": sysctls.ipv6_warning(link.name, sysctls.read_sysctl) if wants_ipv6 else None,
        "lro": lro_warning(link.name),
        "gro": gro_warning(link.name, config.xdp_mode),
    }


def mtu_warning(mtu: int, depth: int, mss: str) -> str | None:
    """Return a warning if full-size packets do not fit once encapsulated, nor are made smaller.

    ``mss`` is that setting.
    """
    overhead = overhead_bytes(depth)
    if mtu - overhead >= USUAL_PACKET_BYTES or is_lowered(mss, mtu, depth):
        return None
    return (
        f"MTU {mtu} leaves {mtu - overhead} bytes for a client's packet: larger ones that "
        f"have to go to another server are refused or dropped (drop_too_big); raise the MTU of all "
        f'server links to {USUAL_PACKET_BYTES + overhead}, or set mss = "auto"'
    )


def mtu6_warning(mtu: int, depth: int) -> str | None:
    """Return a warning if IPv6 senders cannot make packets small enough to be encapsulated."""
    overhead = overhead_bytes(depth)
    if mtu - overhead >= LEAST_IPV6_BYTES:
        return None
    return (
        f"MTU {mtu} leaves {mtu - overhead} bytes for an IPv6 client's packet, and senders never "
        f"go below {LEAST_IPV6_BYTES}: larger ones that have to go to another server are always "
        f"lost; raise the MTU of all server links to {LEAST_IPV6_BYTES + overhead} or more"
    )
