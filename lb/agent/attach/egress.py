"""The egress program on the interfaces by which answers of VIPs leave.

Packets do not need it: where it cannot be attached, broken connections are not counted, and that is
reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError
from lb.agent.attach import bpffs, clsact
from lb.agent.attach.program_info import describe_program, pinned_ids
from lb.agent.config import AgentConfig
from lb.agent.machine.undo_record import Journal, Record
from lb.agent.netlink.links import LinkInfo, link_indices
from lb.agent.netlink.route_socket import RouteSocket


@dataclass(frozen=True)
class Place:
    """An interface, and the hook of the egress program there."""

    index: int
    name: str
    hook: clsact.Hook


class EgressAttachment:
    """Owner of the egress program on its agent's interface, and on others that have answers."""

    def __init__(
        self, netlink: RouteSocket, link: LinkInfo, config: AgentConfig, journal: Journal
    ) -> None:
        self._netlink = netlink
        self._link = link
        self._config = config
        self._journal = journal

    def ours(self) -> frozenset[int]:
        """Return the ids of egress programs that are ours: recorded, or pinned by an agent."""
        directories = bpffs.pin_directories(self._config.bpffs, self._config.interface)
        recorded = frozenset(self._journal.record.egresses)
        return recorded | pinned_ids(directories, [bpffs.EGRESS])

    def places(self, others: Iterable[str]) -> Iterator[Place]:
        """Yield where it has to be: on our interface, and on those of these names that exist."""
        yield Place(self._link.index, self._link.name, clsact.EGRESS_PROGRAM)
        names = [name for name in others if name != self._link.name]
        indices = link_indices(self._netlink) if names else {}
        for name in names:
            if name in indices:
                yield Place(indices[name], name, clsact.egress_of(self._link.index))

    def without(self, others: Iterable[str]) -> list[Place]:
        """Return where it is not, and has to be."""
        ours = self.ours()
        return [
            place
            for place in self.places(others)
            if not clsact.has_our_filter(self._netlink, place.index, ours, place.hook)
        ]

    def is_new(self, place: Place) -> bool:
        """Whether it never was on this other interface."""
        other = place.index != self._link.index
        return other and place.name not in self._journal.record.egress_links

    def attach(self, descriptor: int, places: Iterable[Place]) -> None:
        """Attach it there, or replace its predecessor: one step on each interface.

        Raises:
            BrigadeError: another's is there, or the kernel refuses.

        """
        ours = self.ours()
        for place in places:
            self._prepare(place)
            self._refuse_foreign(place, ours)
            clsact.attach_filter(self._netlink, place.index, descriptor, place.hook)

    def attach_where_it_was(self, descriptor: int) -> None:
        """Attach it to our interface, and to those others that have it."""
        self.attach(descriptor, self.places(self._journal.record.egress_links))

    def _refuse_foreign(self, place: Place, ours: frozenset[int]) -> None:
        """Raise if somebody else's filter is there."""
        for found in clsact.list_filters(self._netlink, place.index, place.hook.parent):
            if found.is_at(place.hook) and found.program_id not in ours:
                raise BrigadeError(
                    f"another tc filter is where the egress program has to be on {place.name}, "
                    f"{describe_program(found.program_id)}; if nothing needs it: tc filter del dev "
                    f"{place.name} egress prio {clsact.PRIORITY}"
                )

    def _prepare(self, place: Place) -> None:
        """Record that something is attached there, and add a clsact qdisc if there is none."""
        journal, record = self._journal, self._journal.record
        other = place.index != self._link.index
        if self.is_new(place):
            journal.note(egress_links=(*record.egress_links, place.name))
        if clsact.has_clsact(self._netlink, place.index):
            return
        if other:
            made = {*record.clsact_links, place.name}
            journal.note(clsact_links=tuple(sorted(made)))
        else:
            journal.note(clsact_made=True)
        clsact.add_clsact(self._netlink, place.index)


def detach(netlink: RouteSocket, record: Record, ours: frozenset[int]) -> Iterator[str]:
    """Take the egress program off all interfaces of a record; yield the name of each."""
    indices = link_indices(netlink)
    own = indices.get(record.interface)
    if own is None:
        return
    if clsact.detach_filter(netlink, own, ours, clsact.EGRESS_PROGRAM):
        yield record.interface
    for name in record.egress_links:
        if name not in indices:
            continue
        if clsact.detach_filter(netlink, indices[name], ours, clsact.egress_of(own)):
            yield name
        if name in record.clsact_links:
            clsact.remove_clsact_if_unused(netlink, indices[name])
