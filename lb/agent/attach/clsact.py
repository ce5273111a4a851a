"""The hooks of the TC programs: direct-action filters on both sides of an interface's clsact.

One fixed priority, and a fixed handle on each side, so that a replacement is one step (cls_bpf
swaps programs under RCU). Filters of others are left alone; so is a clsact qdisc that we did not
make.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.attach.program_info import describe_program
from lb.agent.netlink.messages import NLA_F_NESTED, NUMBER, attribute, attributes, number
from lb.agent.netlink.route_socket import (
    ADD,
    ADD_OR_REPLACE,
    Request,
    RouteSocket,
    netlink_errors,
    require,
)

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCMSG = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, interface, handle, parent, info (priority and protocol)."""
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_CLASSID, TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID = 3, 6, 7, 8, 11
TCA_BPF_FLAG_ACT_DIRECT = 1
TC_H_CLSACT = 0xFFFFFFF1
CLSACT_HANDLE = 0xFFFF0000
INGRESS = 0xFFFFFFF2
EGRESS = 0xFFFFFFF3
INGRESS_KINDS = (b"clsact\0", b"ingress\0")
ETH_P_ALL = socket.htons(3)
PRIORITY = 49
HANDLE = 0xBB
NAME = b"bucket-brigade\0"
HANDLE_OF_OTHERS = 0xBB0000
"""Added to an interface's index: the handle of its agent's filters on other interfaces."""
MOST_INDEX = 0xFFFF


@dataclass(frozen=True)
class Hook:
    """Where a program of ours has its filter: on which side, and by which handle."""

    program: str
    side: str
    parent: int
    handle: int


REDIRECTOR = Hook("redirector", "ingress", INGRESS, HANDLE)
EGRESS_PROGRAM = Hook("egress program", "egress", EGRESS, HANDLE)


def egress_of(index: int) -> Hook:
    """Return the hook of the egress program on other interfaces than its agent's, of this index.

    Agents of several interfaces share the others: each has its own filter there.
    """
    return Hook("egress program", "egress", EGRESS, HANDLE_OF_OTHERS | index & MOST_INDEX)


@dataclass(frozen=True)
class Filter:
    """A filter as the kernel lists it; ``program_id`` is 0 if it is not a BPF program."""

    kind: str
    priority: int
    handle: int
    program_id: int

    @property
    def has_our_handle(self) -> bool:
        """Whether it has the priority and the handle of the redirector."""
        return self.is_at(REDIRECTOR)

    def is_at(self, hook: Hook) -> bool:
        """Whether it has the priority and the handle of a hook."""
        return (self.priority, self.handle) == (PRIORITY, hook.handle)


def has_clsact(netlink: RouteSocket, ifindex: int) -> bool:
    """Whether the interface has a qdisc for ingress filters."""
    return any(
        TCMSG.unpack_from(body)[1] == ifindex
        and dict(attributes(body, TCMSG.size)).get(TCA_KIND) in INGRESS_KINDS
        for body in netlink.dump(RTM_GETQDISC, TCMSG.pack(0, ifindex, 0, 0, 0))
    )


def _qdisc(kind: int, ifindex: int, flags: int = 0) -> Request:
    body = TCMSG.pack(0, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0)
    return Request(kind, body + attribute(TCA_KIND, b"clsact\0"), flags)


def add_clsact(netlink: RouteSocket, ifindex: int) -> None:
    """Add the clsact qdisc."""
    with netlink_errors("add a clsact qdisc"):
        require(netlink, _qdisc(RTM_NEWQDISC, ifindex, ADD))


def list_filters(netlink: RouteSocket, ifindex: int, parent: int = INGRESS) -> list[Filter]:
    """Return the filters on one side, in the order in which packets meet them."""
    bodies = netlink.dump(RTM_GETTFILTER, TCMSG.pack(0, ifindex, 0, parent, 0))
    found = (_filter(body) for body in bodies)
    return sorted((f for f in found if f.handle), key=lambda one: one.priority)


def _filter(body: bytes) -> Filter:
    _, _, handle, _, info = TCMSG.unpack_from(body)
    found = dict(attributes(body, TCMSG.size))
    kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode()
    options = dict(attributes(found.get(TCA_OPTIONS, b""))) if kind == "bpf" else {}
    program_id = NUMBER.unpack(options.get(TCA_BPF_ID, bytes(4)))[0]
    return Filter(kind, info >> 16, handle, program_id)


def has_our_filter(
    netlink: RouteSocket, ifindex: int, ours: Collection[int], hook: Hook = REDIRECTOR
) -> bool:
    """Whether one of our programs is attached."""
    filters = list_filters(netlink, ifindex, hook.parent)
    return any(found.is_at(hook) and found.program_id in ours for found in filters)


def refuse_foreign_filter(filters: list[Filter], ours: frozenset[int], interface: str) -> None:
    """Raise if somebody else's filter has the redirector's priority and handle."""
    for found in filters:
        if found.has_our_handle and found.program_id not in ours:
            raise BrigadeError(
                f"interface {interface} has another tc filter at priority {PRIORITY}, handle "
                f"{HANDLE:#x}: {describe_program(found.program_id)}; if nothing needs it: "
                f"tc filter del dev {interface} ingress prio {PRIORITY}",
                ExitCode.REFUSED,
            )


def _our_filter(
    kind: int, ifindex: int, hook: Hook, options: bytes = b"", flags: int = 0
) -> Request:
    body = TCMSG.pack(0, ifindex, hook.handle, hook.parent, PRIORITY << 16 | ETH_P_ALL)
    body += attribute(TCA_KIND, b"bpf\0")
    return Request(kind, body + options, flags)


def attach_filter(
    netlink: RouteSocket, ifindex: int, descriptor: int, hook: Hook = REDIRECTOR
) -> None:
    """Add a program, or replace its predecessor in one step."""
    options = attribute(
        TCA_OPTIONS | NLA_F_NESTED,
        number(TCA_BPF_FD, descriptor)
        + attribute(TCA_BPF_NAME, NAME)
        + number(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT)
        + number(TCA_BPF_CLASSID, 1),
    )
    with netlink_errors(f"attach the {hook.program}"):
        require(netlink, _our_filter(RTM_NEWTFILTER, ifindex, hook, options, ADD_OR_REPLACE))


def detach_filter(
    netlink: RouteSocket, ifindex: int, ours: frozenset[int], hook: Hook = REDIRECTOR
) -> bool:
    """Remove our filter; return whether it was there."""
    if not has_our_filter(netlink, ifindex, ours, hook):
        return False
    with netlink_errors(f"detach the {hook.program}"):
        require(netlink, _our_filter(RTM_DELTFILTER, ifindex, hook))
    return True


def remove_clsact_if_unused(netlink: RouteSocket, ifindex: int) -> bool:
    """Remove the qdisc unless somebody has filters on it; return whether it was removed."""
    if any(list_filters(netlink, ifindex, parent) for parent in (INGRESS, EGRESS)):
        return False
    if not has_clsact(netlink, ifindex):
        return False
    with netlink_errors("remove the clsact qdisc"):
        require(netlink, _qdisc(RTM_DELQDISC, ifindex))
    return True
