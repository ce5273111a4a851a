"""Who gets received packets before the redirector: tcx programs, and tc filters before ours."""

from __future__ import annotations

import errno

from lb.agent.attach import clsact
from lb.agent.attach.program_info import describe_program
from lb.agent.netlink.route_socket import RouteSocket
from lb.dataplane.load import bpf_syscall

NO_TCX = frozenset({errno.EINVAL, errno.ENODEV})
"""A kernel before 6.6; an interface that is gone."""


def tcx_programs(ifindex: int) -> tuple[int, ...]:
    """Return the ids of tcx programs for received packets: they run before every tc filter."""
    try:
        return bpf_syscall.prog_query(ifindex, bpf_syscall.ATTACH_TYPE_TCX_INGRESS)
    except OSError as error:
        if error.errno in NO_TCX:
            return ()
        raise


def programs_in_front(netlink: RouteSocket, ifindex: int) -> list[str]:
    """Return a text for each, in the order in which packets meet them."""
    found = [f"tcx program {describe_program(number)}" for number in tcx_programs(ifindex)]
    return found + [
        f"tc filter of kind {other.kind}, priority {other.priority}"
        for other in clsact.list_filters(netlink, ifindex)
        if not other.has_our_handle and other.priority <= clsact.PRIORITY
    ]


def in_front_line(interface: str, programs: str) -> str:
    """Return the line for people about some of them."""
    return f"in front of the redirector on {interface}: {programs}"


def in_front_remedy(interface: str) -> str:
    """Return what to do about them."""
    return (
        "packets that it takes are lost to this server's connections: if it takes any, detach it, "
        f"or use a tc filter with a priority number above {clsact.PRIORITY} "
        f"(bpftool net show dev {interface})"
    )
