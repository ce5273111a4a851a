"""Is this machine fit to run an agent? Every refusal is one line with the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

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

ETHERNET_ADDRESS_BYTES = 6
LEAST_INNER_BYTES = 576
"""Every IPv4 host takes packets of this size (RFC 791)."""
LEAST_IPV6_BYTES = 1280
"""No IPv6 sender goes below this, whatever it is told (RFC 8200, section 5; RFC 8201, 4)."""


def check_root() -> None:
    """Refuse to go on without root."""
    if os.geteuid() != 0:
        raise BrigadeError("lbctl up and down need root: sudo lbctl ...")


def check_interface(netlink: Any, config: AgentConfig) -> LinkInfo:
    """Return the interface, fit for use.

    Raises:
        ConfigError: there is no such interface, or it has not the DIP.
        BrigadeError: it is down, or of a kind that cannot carry the wrap.

    """
    link = find_link(netlink, config.interface)
    if link is None:
        raise ConfigError(f"interface: there is no interface {config.interface}: see `ip link`")
    if config.dip not in link.addresses:
        have = ", ".join(str(address) for address in sorted(link.addresses)) or "no IPv4 address"
        raise ConfigError(f"dip: {config.interface} has not {config.dip} but {have}")
    if not link.up:
        raise BrigadeError(f"interface {link.name} is down: ip link set dev {link.name} up")
    if not read_link(netlink, LOOPBACK_INDEX).up:
        raise BrigadeError("lo is down, and VIPs have to be on it: ip link set dev lo up")
    if len(link.mac) != ETHERNET_ADDRESS_BYTES:
        raise BrigadeError(f"interface {link.name} is no Ethernet interface")
    least = LEAST_INNER_BYTES + overhead_bytes(MAX_DEPTH)
    if link.mtu < least:
        raise BrigadeError(
            f"interface {link.name} has an MTU of {link.mtu}, too little for the wrap: "
            f"ip link set dev {link.name} mtu {least} or more"
        )
    return link


def link_warnings(
    config: AgentConfig, link: LinkInfo, vips: Iterable[Vip], depth: int
) -> dict[str, str | None]:
    """Return what is wrong with an interface for these VIPs and chains, ``None`` if nothing is."""
    wants_ipv6 = has_ipv6(vips)
    return {
        "mtu": mtu_warning(link.mtu, depth, config.mss),
        "mtu6": mtu6_warning(link.mtu, depth) if wants_ipv6 else None,
        "ipv6": sysctls.ipv6_warning(link.name, sysctls.read_sysctl) if wants_ipv6 else None,
        "lro": lro_warning(link.name),
        "gro": gro_warning(link.name, config.xdp_mode),
    }


def has_vlans(netlink: Any, index: int) -> bool:
    """Whether there are VLAN devices on an interface."""
    return any(
        link.get_attr("IFLA_LINK") == index
        and link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "vlan"
        for link in netlink.get_links()
    )


def mtu_warning(mtu: int, depth: int, mss: str) -> str | None:
    """Return what to say where full-size packets do not fit once wrapped; ``None`` if they do.

    They do as well where their MSS is lowered; ``mss`` is that setting.
    """
    room = overhead_bytes(depth)
    if mtu - room >= USUAL_PACKET_BYTES or is_lowered(mss, mtu, depth):
        return None
    return (
        f"MTU {mtu} leaves {mtu - room} bytes for a client's packet once wrapped: larger ones that "
        f"have to go to another server are refused or dropped (drop_too_big); raise the MTU of all "
        f'server links to {USUAL_PACKET_BYTES + room}, or set mss = "auto"'
    )


def mtu6_warning(mtu: int, depth: int) -> str | None:
    """Return what to say where IPv6 senders cannot make packets small enough to be wrapped."""
    room = overhead_bytes(depth)
    if mtu - room >= LEAST_IPV6_BYTES:
        return None
    return (
        f"MTU {mtu} leaves {mtu - room} bytes for an IPv6 client's packet once wrapped, and no "
        f"sender goes below {LEAST_IPV6_BYTES}: larger ones that have to go to another server are "
        f"lost for good; raise the MTU of all server links to {LEAST_IPV6_BYTES + room} or more"
    )
