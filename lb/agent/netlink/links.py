"""What the agent asks of netlink about links and addresses, and its errors as one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from controlplane.domain.errors import BrigadeError

IFF_UP = 0x1
LOOPBACK_INDEX = 1


@contextmanager
def open_netlink() -> Iterator[Any]:
    """Hold a route netlink socket of the calling thread's network namespace."""
    with IPRoute() as route:
        yield route


@contextmanager
def netlink_errors(what: str, remedy: str = "") -> Iterator[None]:
    """Turn a refusal by the kernel into one line: "cannot <what>: <reason>"."""
    try:
        yield
    except NetlinkError as error:
        reason = os.strerror(error.code)
        raise BrigadeError(f"cannot {what}: {reason}{'; ' if remedy else ''}{remedy}") from error


@dataclass(frozen=True)
class LinkInfo:
    """An interface as it is now. ``mac`` is empty where there is none."""

    index: int
    name: str
    mac: bytes
    mtu: int
    up: bool
    addresses: frozenset[IPv4Address]


def find_link(netlink: Any, name: str) -> LinkInfo | None:
    """Return the interface of this name, ``None`` if there is none."""
    found = netlink.link_lookup(ifname=name)
    if not found:
        return None
    return read_link(netlink, found[0])


def read_link(netlink: Any, index: int) -> LinkInfo:
    """Return the interface of this index."""
    link = netlink.get_links(index)[0]
    mac = link.get_attr("IFLA_ADDRESS")
    return LinkInfo(
        index=index,
        name=link.get_attr("IFLA_IFNAME"),
        mac=bytes.fromhex(mac.replace(":", "")) if mac else b"",
        mtu=link.get_attr("IFLA_MTU"),
        up=bool(link["flags"] & IFF_UP),
        addresses=frozenset(
            IPv4Address(address.get_attr("IFA_LOCAL"))
            for address in netlink.get_addr(family=2, index=index)
        ),
    )
