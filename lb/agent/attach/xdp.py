"""The forwarder's hook: an interface's XDP program, over netlink (IFLA_XDP).

A program is replaced in one step: the kernel swaps it only if the one attached is the one we name
(XDP_FLAGS_REPLACE with IFLA_XDP_EXPECTED_FD, Linux 5.7), so that nobody else's is ever lost.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.attach.program_info import describe_program, open_program
from lb.agent.config import XdpMode
from lb.agent.netlink.links import IFINFOMSG, get_link
from lb.agent.netlink.messages import NLA_F_NESTED, NUMBER, attribute, attributes, number
from lb.agent.netlink.route_socket import (
    NetlinkError,
    Request,
    RouteSocket,
    netlink_errors,
    require,
)

RTM_SETLINK = 19
IFLA_XDP = 43
IFLA_XDP_FD, IFLA_XDP_FLAGS, IFLA_XDP_EXPECTED_FD = 1, 3, 8
IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID = 5, 6, 7
XDP_FLAGS_UPDATE_IF_NOEXIST, XDP_FLAGS_SKB_MODE = 1, 2
XDP_FLAGS_DRV_MODE, XDP_FLAGS_REPLACE = 4, 16
DESCRIPTOR = struct.Struct("=i")
NO_PROGRAM = -1

ONE_PAGE_MTU = 3498
"""A driver that gives a packet one page of 4,096 bytes takes XDP up to about this MTU (veth)."""


@dataclass(frozen=True)
class AttachedXdp:
    """Program ids on an interface, by mode; ``None`` where there is none."""

    native: int | None = None
    generic: int | None = None

    def of(self, mode: str) -> int | None:
        """Return the program of one mode."""
        return self.native if mode == "native" else self.generic

    @property
    def ids(self) -> frozenset[int]:
        """All of them."""
        return frozenset(i for i in (self.native, self.generic) if i is not None)


def query_xdp(netlink: RouteSocket, ifindex: int) -> AttachedXdp:
    """Return what is attached. Hardware offload counts as native: it is not ours either way."""
    link = dict(attributes(get_link(netlink, ifindex), IFINFOMSG.size))
    found = dict(attributes(link.get(IFLA_XDP, b"")))

    def program(kind: int) -> int | None:
        return NUMBER.unpack(found[kind])[0] or None if kind in found else None

    native = program(IFLA_XDP_DRV_PROG_ID) or program(IFLA_XDP_HW_PROG_ID)
    return AttachedXdp(native, program(IFLA_XDP_SKB_PROG_ID))


def refuse_foreign(attached: AttachedXdp, ours: frozenset[int], interface: str) -> None:
    """Raise if a program that is not ours is attached: it is named and left alone."""
    for program_id in sorted(attached.ids - ours):
        raise BrigadeError(
            f"interface {interface} has another XDP program: {describe_program(program_id)}; "
            f"if nothing needs it, detach it: ip link set dev {interface} xdp off",
            ExitCode.REFUSED,
        )


def remedy(mode: XdpMode, mtu: int) -> str:
    """Return what to do if the kernel refuses a program."""
    if mode == "generic":
        return ""
    if mtu > ONE_PAGE_MTU:
        return (
            f"the MTU of {mtu} may be above what this driver takes with XDP (often "
            f"{ONE_PAGE_MTU}): lower it, or set xdp_mode = 'generic'"
        )
    return "set xdp_mode = 'generic' if this driver has no native XDP"


def attach_xdp(
    netlink: RouteSocket,
    ifindex: int,
    descriptor: int,
    mode: XdpMode,
    old: int | None,
    remedy: str = "",
) -> None:
    """Attach a program, or replace our program of id ``old`` by it in one step."""
    what = f"attach the forwarder in {mode} mode"
    if old is None:
        with netlink_errors(what, remedy):
            _set(netlink, ifindex, descriptor, _flag(mode) | XDP_FLAGS_UPDATE_IF_NOEXIST)
        return
    with netlink_errors(what), open_program(old) as expected:
        _set(netlink, ifindex, descriptor, _flag(mode) | XDP_FLAGS_REPLACE, expected)


def detach_xdp(netlink: RouteSocket, ifindex: int, mode: XdpMode, program_id: int) -> bool:
    """Detach our program; return whether it was there. Another's is left alone."""
    if query_xdp(netlink, ifindex).of(mode) != program_id:
        return False
    try:
        with open_program(program_id) as expected:
            _set(netlink, ifindex, NO_PROGRAM, _flag(mode) | XDP_FLAGS_REPLACE, expected)
    except FileNotFoundError:
        return False
    except NetlinkError as error:
        if error.errno == errno.EEXIST:  # somebody replaced it since we looked
            return False
        raise BrigadeError(
            f"cannot detach the forwarder (program {program_id}): {error.strerror}"
        ) from error
    return True


def _flag(mode: XdpMode) -> int:
    return XDP_FLAGS_DRV_MODE if mode == "native" else XDP_FLAGS_SKB_MODE


def _set(
    netlink: RouteSocket, ifindex: int, descriptor: int, flags: int, expected: int | None = None
) -> None:
    nested = attribute(IFLA_XDP_FD, DESCRIPTOR.pack(descriptor)) + number(IFLA_XDP_FLAGS, flags)
    if expected is not None:
        nested += attribute(IFLA_XDP_EXPECTED_FD, DESCRIPTOR.pack(expected))
    body = IFINFOMSG.pack(0, 0, ifindex, 0, 0) + attribute(IFLA_XDP | NLA_F_NESTED, nested)
    require(netlink, Request(RTM_SETLINK, body))
