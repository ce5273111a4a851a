"""What happened to servers, beside what was foreseen: for people, not for agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MOST_EVENTS = 200
"""Older ones are forgotten."""


class EventKind(StrEnum):
    """What happened to a server. The value is what people read."""

    DRAIN = "drain"
    UNDRAIN = "undrain"
    JOIN = "join"
    DOWN = "down"


@dataclass(frozen=True)
class Foreseen:
    """What the plan of a requested change contained, of all pools together.

    ``buckets``: that move. ``forced``: later hops pushed out within their drain time. ``lost``:
    connections, ``None``: unknown. ``seconds``: the least that it takes.
    """

    kind: EventKind
    buckets: int
    forced: int
    lost: int | None
    seconds: float


@dataclass(frozen=True)
class Happened:
    """What was counted while it lasted: of all pools, other moves of that time included.

    ``lost``: connections of the hops that were pushed out or forgotten, about, ``None``: unknown.
    ``strays``: by how many the connections grew that no table leads to, as agents report them.
    """

    buckets: int = 0
    forced: int = 0
    lost: int | None = 0
    strays: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Event:
    """One change of one server.

    ``at``: Unix seconds. ``by`` and ``reason``: of the request, empty if there is none. ``began``
    and ``ended``: in fleet seconds; ``None``: it goes on. ``strays_before``: as many there were.
    ``happened``: what has been counted so far; ``over``: nothing more is.
    """

    server: str
    kind: EventKind
    at: float
    began: float
    by: str = ""
    reason: str = ""
    foreseen: Foreseen | None = None
    happened: Happened = field(default_factory=Happened)
    strays_before: int = 0
    ended: float | None = None
    over: bool = False
