"""Who is probed next, which answers belong to which probe, and which never came.

The clock and chance are arguments: seconds of a monotonic clock, and a function for tokens.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from controlplane.domain.overhead import WRAP_BYTES
from lb.agent.path.packet import EchoReply, Probe, TooBig
from lb.agent.path.peer import DOUBT_SECONDS, LOST_AFTER, PeerPath
from lb.agent.path.plan import peer_at, slots_a_second

TIMEOUT_SECONDS = 1.0
"""A probe without an answer after this time has failed."""
LATE_SECONDS = 4.0
"""An answer until then still shows that the peer is reached."""
URGENT_A_SLOT = LOST_AFTER - 1
LONGEST_GAP_SECONDS = 0.25
"""Of the time between two rounds, more than this was this machine's own delay, not the path's."""
Make = Callable[[IPv4Address, int], Probe]
"""Makes a probe of this size to this address, with a token of its own."""


@dataclass(frozen=True)
class Fleet:
    """Whom to probe: addresses by name, this server's own address, the interface's MTU."""

    own: IPv4Address
    peers: Mapping[str, IPv4Address]
    link_mtu: int


@dataclass(frozen=True)
class Waiting:
    """A probe that was sent and not answered. ``missed``: its time is over."""

    peer: str
    size: int
    sent_at: float
    missed: bool = False


class Schedule:
    """The probes of one server. For one thread."""

    def __init__(self, fleet: Fleet) -> None:
        self.paths: dict[str, PeerPath] = {}
        self._fleet = fleet
        self._order: list[IPv4Address] = []
        self._names: dict[IPv4Address, str] = {}
        self._waiting: dict[bytes, Waiting] = {}
        self._slot = 0
        self._next_slot_at: float | None = None
        self._last: float | None = None
        self.follow(fleet)

    def follow(self, fleet: Fleet) -> None:
        """Probe these peers from now on. What is known of those that stay is kept."""
        before, self._fleet = self._fleet, fleet
        self.paths = {
            name: self.paths[name]
            if name in self.paths and before.peers.get(name) == address
            else PeerPath(fleet.link_mtu)
            for name, address in fleet.peers.items()
        }
        for path in self.paths.values():
            path.follow_link(fleet.link_mtu)
        self._names = {address: name for name, address in fleet.peers.items()}
        self._order = sorted([fleet.own, *self._names])
        self._waiting = {t: w for t, w in self._waiting.items() if w.peer in self.paths}

    def doubt(self, names: Iterable[str]) -> None:
        """Take what was lost before as no proof: these peers were down, and are back."""
        back = self.paths.keys() & set(names)
        for name in back:
            self.paths[name].doubt()
        self._waiting = {t: w for t, w in self._waiting.items() if w.peer not in back}

    def round(self, now: float, make: Make) -> Iterator[Probe]:
        """Yield the probes to send now; call ``hear`` before with what was received."""
        self._forgive_own_gap(now)
        self._expire(now)
        if not self.paths:
            return
        if self._next_slot_at is None or now >= self._next_slot_at:
            self._next_slot_at = self._following_slot(now)
            self._slot += 1
            for name in dict.fromkeys([self._planned(), *self._urgent(now)]):
                yield self._send(name, now, make)

    def next_at(self) -> float | None:
        """When the next round is due, ``None`` without peers."""
        return self._next_slot_at if self.paths else None

    def hear(self, found: EchoReply | TooBig, now: float) -> None:
        """Take what was received; an answer counts only with the token of a probe of that peer."""
        if isinstance(found, TooBig):
            name = self._names.get(found.target)
            if name is not None:
                self.paths[name].mtu.hint(found.mtu)
            return
        waiting = self._waiting.get(found.token)
        if waiting is None or self._names.get(found.source) != waiting.peer:
            return
        if found.length != inner_bytes(waiting.size):
            return
        del self._waiting[found.token]
        self.paths[waiting.peer].answered(waiting.size, now)

    def unsent(self, probe: Probe) -> None:
        """Forget a probe that this machine could not send: it shows nothing about the path."""
        self._waiting.pop(probe.token, None)

    def name_of(self, probe: Probe) -> str:
        """Return the peer that a probe goes to."""
        return self._names[probe.target]

    def _following_slot(self, now: float) -> float:
        """Return when the next slot begins; slots that were missed are left out."""
        seconds = 1 / slots_a_second(len(self._order))
        following = now if self._next_slot_at is None else self._next_slot_at
        return following + seconds if now < following + seconds else now + seconds

    def _planned(self) -> str:
        own = self._order.index(self._fleet.own)
        return self._names[self._order[peer_at(self._slot, own, len(self._order))]]

    def _urgent(self, now: float) -> Iterator[str]:
        """Return the peers that wait longest to be probed again: each lost one needs two more."""
        overdue = Counter(
            waiting.peer
            for waiting in self._waiting.values()
            if not waiting.missed and now - waiting.sent_at >= DOUBT_SECONDS
        )
        due = []
        for name, path in self.paths.items():
            at = path.due_again_at()
            if at is None and 0 < overdue[name] < LOST_AFTER:
                at = path.sent_at + DOUBT_SECONDS
            if at is not None and at <= now:
                due.append((at, name))
        return (name for _, name in heapq.nsmallest(URGENT_A_SLOT, due))

    def _send(self, name: str, now: float, make: Make) -> Probe:
        path = self.paths[name]
        probe = make(self._fleet.peers[name], path.next_size())
        path.probes += 1
        path.sent_at = now
        self._waiting[probe.token] = Waiting(name, probe.size, now)
        return probe

    def _expire(self, now: float) -> None:
        for token, waiting in list(self._waiting.items()):
            age = now - waiting.sent_at
            if age >= LATE_SECONDS:
                del self._waiting[token]
            elif age >= TIMEOUT_SECONDS and not waiting.missed:
                self._waiting[token] = replace(waiting, missed=True)
                self.paths[waiting.peer].missed(waiting.size)

    def _forgive_own_gap(self, now: float) -> None:
        """Give probes more time if this process did not run: nobody read their answers."""
        gap = 0.0 if self._last is None else now - self._last
        self._last = now
        if gap > LONGEST_GAP_SECONDS:
            self._waiting = {
                token: replace(waiting, sent_at=waiting.sent_at + gap)
                for token, waiting in self._waiting.items()
            }


def inner_bytes(size: int) -> int:
    """Return the length of the answer to a probe of this outer length: that of its inner packet."""
    return size - WRAP_BYTES
