"""The forwarder's place: an interface's XDP hook, over netlink (IFLA_XDP).

A program is replaced in one step: the kernel swaps it only if the one attached is the one we name
(XDP_FLAGS_REPLACE with IFLA_XDP_EXPECTED_FD, Linux 5.7), so that nobody else's is ever lost.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Literal

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import (
    XDP_FLAGS_DRV_MODE,
    XDP_FLAGS_REPLACE,
    XDP_FLAGS_SKB_MODE,
    XDP_FLAGS_UPDATE_IF_NOEXIST,
)

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.attach.program_info import describe_program, open_program
from lb.agent.netlink.links import netlink_errors

Mode = Literal["native", "generic"]
NO_PROGRAM = -1
NOT_NATIVE = "set xdp_mode = 'generic' if this driver has no native XDP"
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


def query_xdp(netlink: Any, ifindex: int) -> AttachedXdp:
    """Return what is attached. Hardware offload counts as native: it is not ours either way."""
    nest = netlink.get_links(ifindex)[0].get_attr("IFLA_XDP")
    found = dict(nest["attrs"]) if nest else {}
    native = found.get("IFLA_XDP_DRV_PROG_ID") or found.get("IFLA_XDP_HW_PROG_ID")
    return AttachedXdp(native or None, found.get("IFLA_XDP_SKB_PROG_ID") or None)


def refuse_foreign(attached: AttachedXdp, ours: frozenset[int], interface: str) -> None:
    """Raise if a program that is not ours is attached: it is named and left alone."""
    for program_id in sorted(attached.ids - ours):
        raise BrigadeError(
            f"interface {interface} has another XDP program: {describe_program(program_id)}; "
            f"if nothing needs it, detach it: ip link set dev {interface} xdp off",
            ExitCode.REFUSED,
        )


def remedy(mode: Mode, mtu: int) -> str:
    """Say what to do if the kernel refuses a program."""
    if mode == "generic":
        return ""
    if mtu > ONE_PAGE_MTU:
        return (
            f"the MTU of {mtu} may be above what this driver takes with XDP (often "
            f"{ONE_PAGE_MTU}): lower it, or set xdp_mode = 'generic'"
        )
    return NOT_NATIVE


def attach_xdp(
    netlink: Any, ifindex: int, descriptor: int, mode: Mode, old: int | None, remedy: str = ""
) -> None:
    """Attach a program, or let it take the place of our program of id ``old``, in one step."""
    what = f"attach the forwarder in {mode} mode"
    if old is None:
        with netlink_errors(what, remedy):
            _set(netlink, ifindex, descriptor, _flag(mode) | XDP_FLAGS_UPDATE_IF_NOEXIST)
        return
    with netlink_errors(what), open_program(old) as expected:
        _set(netlink, ifindex, descriptor, _flag(mode) | XDP_FLAGS_REPLACE, expected)


def detach_xdp(netlink: Any, ifindex: int, mode: Mode, program_id: int) -> bool:
    """Detach our program; return whether it was there. Another's is left alone."""
    if query_xdp(netlink, ifindex).of(mode) != program_id:
        return False
    try:
        with open_program(program_id) as expected:
            _set(netlink, ifindex, NO_PROGRAM, _flag(mode) | XDP_FLAGS_REPLACE, expected)
    except FileNotFoundError:
        return False
    except NetlinkError as error:
        if error.code == errno.EEXIST:  # somebody replaced it since we looked
            return False
        raise BrigadeError(
            f"cannot detach the forwarder (program {program_id}): {error}"
        ) from error
    return True


def _flag(mode: Mode) -> int:
    return int(XDP_FLAGS_DRV_MODE if mode == "native" else XDP_FLAGS_SKB_MODE)


def _set(
    netlink: Any, ifindex: int, descriptor: int, flags: int, expected: int | None = None
) -> None:
    attributes = [("IFLA_XDP_FD", descriptor), ("IFLA_XDP_FLAGS", flags)]
    if expected is not None:
        attributes.append(("IFLA_XDP_EXPECTED_FD", expected))
    netlink.link("set", index=ifindex, xdp={"attrs": attributes})
