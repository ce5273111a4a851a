"""When a server that others do not reach leaves, and when it may come back. Pure.

It withdraws its routes first, so that routers send it nothing that it would have to forward, and
leaves the tables a moment later. Times are of the controller's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controlplane.decide.groups import Groups
from controlplane.domain.objects import IN_USE, Report, Server

CONFIRM_SECONDS = 1.0
"""How long a server has to be outside: agents notice the same fault at different moments."""
ROTATION_SECONDS = 0.2
"""For each server of the fleet: in this time, agents probe every path, and find what is lost."""
LEAVE_SECONDS = 2.0
"""How long a server that has withdrawn its routes stays in the tables."""
BACK_SECONDS = 30.0
"""How long it has to be reached before it may join again."""
RECENT_SECONDS = 60.0
"""How long a server that left counts as one of those in use: when a fleet splits in two, servers
must not be taken out one after the other until one half looks like a majority. It is longer than
BACK_SECONDS, so that servers that lose probes because of overload, which come back when they are
idle, never are half of the fleet at a time."""
DOUBTS = 2
"""Servers in use that never reached it since their agents started: it stays out."""

Since = Mapping[str, float]


@dataclass(frozen=True)
class CutOff:
    """Servers that are cut off from the others.

    ``outside``: since when, for those in use; ``unchanged``: since when it is the same ones.
    ``held``: cut off -> since when they were seen to be
    withdrawn, ``None``: not yet. ``reached``: since when the others reach them again.
    ``newcomers``: registered servers that others do not reach; they wait.
    """

    outside: Since = field(default_factory=dict)
    unchanged: float = 0.0
    held: Mapping[str, float | None] = field(default_factory=dict)
    reached: Since = field(default_factory=dict)
    newcomers: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Those that must not be in use."""
        return self.newcomers | self.held.keys()

    def recent(self, now: float) -> frozenset[str]:
        """Return those that were cut off a short time ago."""
        return frozenset(
            name
            for name, since in self.held.items()
            if since is None or now - since < RECENT_SECONDS
        )

    def back_in(self, name: str, now: float) -> float | None:
        """Return how long a server still has to be reached before it may join, in seconds.

        ``None``: it is not reached now.
        """
        since = self.reached.get(name)
        return None if since is None else max(0.0, BACK_SECONDS - (now - since))

    def leaving(self, now: float) -> frozenset[str]:
        """Return those that have been withdrawn for long enough to leave the tables."""
        return frozenset(
            name
            for name, since in self.held.items()
            if since is not None and now - since >= LEAVE_SECONDS
        )


def doubted(reports: Mapping[str, Report], fresh: Collection[str]) -> frozenset[str]:
    """Return the servers that several agents never reached. They may be well, or may not."""
    counts: dict[str, int] = {}
    for name in fresh:
        paths = reports[name].paths if name in reports else None
        for unknown in paths.unknown if paths else ():
            counts[unknown] = counts.get(unknown, 0) + 1
    return frozenset(name for name, count in counts.items() if count >= DOUBTS)


def follow(
    before: CutOff,
    groups: Groups,
    servers: Collection[Server],
    alive: Collection[str],
    doubts: Collection[str],
    now: float,
) -> CutOff:
    """Return who is cut off after one more round.

    ``alive``: servers whose agents report now. ``doubts``: see ``doubted``. A server is reached
    again when it is alive, no loss of it counts, and it is not doubted.
    """
    in_use = {server.name for server in servers if server.state in IN_USE}
    outside = {n: before.outside.get(n, now) for n in groups.outside if n in in_use}
    unchanged = before.unchanged if outside.keys() == before.outside.keys() else now
    complete = now - unchanged >= CONFIRM_SECONDS + ROTATION_SECONDS * len(servers)
    confirmed = {
        name
        for name, since in outside.items()
        if now - since >= CONFIRM_SECONDS and (complete or name not in groups.unsure)
    }
    members = {server.name for server in servers}
    held = dict.fromkeys(confirmed) | {
        name: since for name, since in before.held.items() if name in members
    }
    others = members - held.keys()
    reached = {
        name: before.reached.get(name, now)
        for name in held
        if name in alive
        and name not in doubts
        and not groups.losses.get(name, frozenset()) & others
    }
    held = {
        name: since if since is not None or name in in_use else now
        for name, since in held.items()
        if name not in reached or now - reached[name] < BACK_SECONDS
    }
    return CutOff(
        outside,
        unchanged,
        held,
        {name: since for name, since in reached.items() if name in held},
        frozenset(name for name in groups.outside if name not in in_use and name not in held),
    )
