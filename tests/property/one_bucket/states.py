"""The states that one bucket, its servers and a connection can be in, and the rules explored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

Chain = tuple[int, ...]
SERVERS = (1, 2, 3)
OWNER = 1
OLD_CLUSTER, NEW_CLUSTER = 1, 2
"""Generations of the cluster document: only the newer one has the connection's service."""
SETTLED, LANDED, COOKIES_OVER = 1, 2, 3
"""What the controller knows of the newest table (``State.stage``); 0: it is not settled."""


class Found(NamedTuple):
    """What a dump of server 1 found, and by what it was made. ``stage``: of its mark."""

    stage: int
    occupied: bool
    cookie: bool
    cluster: int


EARLIER = Found(0, occupied=False, cookie=False, cluster=NEW_CLUSTER)
"""Of a dump before the newest mark, the one that would allow most."""
OCCUPIED = Found(COOKIES_OVER, occupied=True, cookie=False, cluster=NEW_CLUSTER)


class Seen(NamedTuple):
    """The last two dumps of server 1 that the controller has.

    ``in_a_row``: none was between them. ``lost``: a later one was lost. ``skipped``: the last dump
    skipped a socket; the next one does not.
    """

    older: Found = EARLIER
    newer: Found = EARLIER
    in_a_row: bool = True
    lost: bool = False
    skipped: bool = False


class Connection(NamedTuple):
    """The connection of server 1.

    ``kind``: "syn" (its first packet is on its way), "cookie" (a SYN cookie was sent), "late" (a
    UDP flow that has no connected socket yet), "open". ``via``: the server that forwarded its last
    packet, 0 while that does not matter. ``earlier``: its first packet was sent before the newest
    table was settled. ``fresh``: server 1 remembers the flow (docs/wire.md, section 6.4).
    """

    kind: str
    via: int
    earlier: bool
    fresh: bool


class State(NamedTuple):
    """One moment.

    ``newest``: the chain in the newest table. ``views``: the chain that each server has, () if it
    is dead. ``passed``: the silent server that the controller has gone on without, until it has
    the newest table. ``overtaken``: a death was published before the last table was settled.
    ``pushed``: server 1 left the chain because its slot was needed, as the silent server does not
    know. ``stage``: see SETTLED. ``mark``: stage of the newest mark that server 1 has.
    ``dumping``: this mark, whether the connection had a socket, and whether a cookie was sent, when
    the dump that is being made began. ``cluster``: the document that server 1 sorts sockets by.
    """

    newest: Chain
    views: tuple[Chain, ...]
    passed: int = 0
    overtaken: bool = False
    dead: int = 0
    pushed: bool = False
    connection: Connection | tuple[()] = ()
    stage: int = 0
    mark: int = 0
    dumping: tuple[int, bool, bool] | tuple[()] = ()
    seen: Seen = Seen()
    cluster: int = OLD_CLUSTER

    @property
    def living(self) -> list[int]:
        """Servers that are not dead."""
        return [server for server in SERVERS if server != self.dead]

    @property
    def behind(self) -> list[int]:
        """Servers that do not have the newest table."""
        return [s for s in self.living if self.views[s - 1] != self.newest]

    @property
    def follows_routes(self) -> bool:
        """Whether it matters by which server the connection's packets come.

        A connection that the router moves to or from a server that was silent for long can be lost,
        and so can one that it moves while a death overtakes a publication: DESIGN's known limits.
        """
        return self.passed != 0 or self.overtaken


@dataclass(frozen=True)
class Rules:
    """One exploration: what can happen, and which rule of the controller is left out, if any."""

    depth: int = 2
    udp: bool = False
    cookies: bool = False
    late_cluster: bool = False
    silence: bool = True
    deaths: bool = True
    without: str = ""

    def leave_out(self, rule: str) -> Rules:
        """Return the same without one rule of the controller."""
        return replace(self, without=rule)
