"""The redirector's place: a direct-action filter on an interface's clsact ingress.

One fixed priority and handle, so that a replacement is one step (cls_bpf swaps programs under
RCU). Filters of others are left alone; so is a clsact qdisc that we did not make.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.attach.program_info import describe_program
from lb.agent.netlink.links import netlink_errors

PRIORITY = 49
HANDLE = 0xBB
INGRESS = 0xFFFFFFF2
EGRESS = 0xFFFFFFF3
ETH_P_ALL = 3
NAME = "bucket-brigade"
TCA_BPF_ID = 11
ATTRIBUTE_HEADER = struct.Struct("=HH")
INGRESS_KINDS = ("clsact", "ingress")


@dataclass(frozen=True)
class Filter:
    """A filter as the kernel lists it; ``program_id`` is 0 for what is not BPF."""

    kind: str
    priority: int
    handle: int
    program_id: int

    @property
    def at_our_place(self) -> bool:
        """Whether it has the priority and the handle that we use."""
        return (self.priority, self.handle) == (PRIORITY, HANDLE)


def has_clsact(netlink: Any, ifindex: int) -> bool:
    """Whether the interface has a qdisc that ingress filters can be put on."""
    return any(q.get_attr("TCA_KIND") in INGRESS_KINDS for q in netlink.get_qdiscs(index=ifindex))


def add_clsact(netlink: Any, ifindex: int) -> None:
    """Add the clsact qdisc."""
    with netlink_errors("add a clsact qdisc"):
        netlink.tc("add", "clsact", index=ifindex)


def list_filters(netlink: Any, ifindex: int, parent: int = INGRESS) -> list[Filter]:
    """Return the filters on one side, in the order in which they are asked."""
    return sorted(
        (
            Filter(
                kind=item.get_attr("TCA_KIND") or "",
                priority=item["info"] >> 16,
                handle=item["handle"],
                program_id=_program_id(item.get_attr("TCA_OPTIONS")),
            )
            for item in netlink.get_filters(index=ifindex, parent=parent)
            if item["handle"]
        ),
        key=lambda found: found.priority,
    )


def _program_id(options: Any) -> int:
    """Return TCA_BPF_ID, which pyroute2 does not know by name."""
    for slot in options["attrs"] if options else ():
        if slot[0] == "UNKNOWN":
            raw = slot.cell[1]  # not decoded: length, type, value
            _, kind = ATTRIBUTE_HEADER.unpack_from(raw.data, raw.offset)
            if kind == TCA_BPF_ID:
                offset = raw.offset + ATTRIBUTE_HEADER.size
                return int(struct.unpack_from("=I", raw.data, offset)[0])
    return 0


def refuse_foreign_filter(filters: list[Filter], ours: frozenset[int], interface: str) -> None:
    """Raise if somebody else's filter has our place."""
    for found in filters:
        if found.at_our_place and found.program_id not in ours:
            raise BrigadeError(
                f"interface {interface} has another tc filter at priority {PRIORITY}, handle "
                f"{HANDLE:#x}: {describe_program(found.program_id)}; if nothing needs it: "
                f"tc filter del dev {interface} ingress prio {PRIORITY}",
                ExitCode.REFUSED,
            )


def attach_filter(netlink: Any, ifindex: int, descriptor: int) -> None:
    """Add the redirector, or let it take its predecessor's place in one step."""
    with netlink_errors("attach the redirector"):
        netlink.tc(
            "replace-filter",
            "bpf",
            index=ifindex,
            parent=INGRESS,
            prio=PRIORITY,
            handle=HANDLE,
            protocol=ETH_P_ALL,
            fd=descriptor,
            name=NAME,
            direct_action=True,
            classid=1,
        )


def detach_filter(netlink: Any, ifindex: int, ours: frozenset[int]) -> bool:
    """Remove our filter; return whether it was there."""
    found = [f for f in list_filters(netlink, ifindex) if f.at_our_place and f.program_id in ours]
    for ours_here in found:
        with netlink_errors("detach the redirector"):
            netlink.tc(
                "del-filter",
                "bpf",
                index=ifindex,
                parent=INGRESS,
                prio=ours_here.priority,
                handle=ours_here.handle,
                protocol=ETH_P_ALL,
            )
    return bool(found)


def remove_clsact_if_unused(netlink: Any, ifindex: int) -> bool:
    """Remove the qdisc unless somebody has filters on it; return whether it was removed."""
    if any(list_filters(netlink, ifindex, parent) for parent in (INGRESS, EGRESS)):
        return False
    if not has_clsact(netlink, ifindex):
        return False
    with netlink_errors("remove the clsact qdisc"):
        netlink.tc("del", "clsact", index=ifindex)
    return True
