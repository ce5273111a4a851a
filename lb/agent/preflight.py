"""Checks that this machine can run an agent. Every refusal is one line with the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterable

from controlplane.domain.bounds import MAX_DEPTH
from controlplane.domain.errors import BrigadeError, ConfigError
from controlplane.domain.objects import Vip
from controlplane.domain.overhead import overhead_bytes
from controlplane.domain.vips import has_ipv6
from lb.agent.config import AgentConfig
from lb.agent.machine import sysctls
from lb.agent.machine.ethtool import gro_warning, lro_warning
from lb.agent.mss.goal import USUAL_PACKET_BYTES, is_lowered
from lb.agent.netlink.links import LOOPBACK_INDEX, LinkInfo, find_link, read_link
from lb.agent.netlink.route_socket import RouteSocket

ETHERNET_ADDRESS_BYTES = 6
LEAST_INNER_BYTES = 576
"""Every IPv4 host takes packets of this size (RFC 791)."""
LEAST_IPV6_BYTES = 1280
"""IPv6 senders never go below this (RFC 8200, section 5; RFC 8201, section 4)."""


def check_root(command: str) -> None:
    """Raise without root, with the command of lbctl that needs it."""
    if os.geteuid() != 0:
        raise BrigadeError(f"lbctl {command} needs root: sudo lbctl {command} ...")


def check_interface(netlink: RouteSocket, config: AgentConfig) -> LinkInfo:
    """Return the interface, after checking that it can be used.

    Raises:
        ConfigError: there is no such interface, or it does not have the DIP.
        BrigadeError: it is down, or not Ethernet, or its MTU is too small.

    """
    link = find_link(netlink, config.interface)
    if link is None:
        raise ConfigError(f"interface: there is no interface {config.interface}: see `ip link`")
    if config.dip not in link.addresses:
        have = ", ".join(str(address) for address in sorted(link.addresses)) or "no IPv4 address"
        raise ConfigError(f"dip: {config.interface} does not have {config.dip}, but {have}")
    if not link.up:
        raise BrigadeError(f"interface {link.name} is down: ip link set dev {link.name} up")
    if not read_link(netlink, LOOPBACK_INDEX).up:
        raise BrigadeError("lo is down, and VIPs have to be on it: ip link set dev lo up")
    if len(link.mac) != ETHERNET_ADDRESS_BYTES:
        raise BrigadeError(f"interface {link.name} is not an Ethernet interface")
    least = LEAST_INNER_BYTES + overhead_bytes(MAX_DEPTH)
    if link.mtu < least:
        raise BrigadeError(
            f"interface {link.name} has an MTU of {link.mtu}, too little for the encapsulation: "
            f"ip link set dev {link.name} mtu {least} or more"
        )
    return link


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
