"""Follow one packet through a fleet of modelled servers, to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from tests.model.config import Config
from tests.model.forwarder import forward
from tests.model.headers import ETHERNET_LENGTH, Ipv4Header
from tests.model.redirector import redirect
from tests.model.result import Result
from tests.model.sockets import SameSocket, SocketOracle
from tests.model.stack import Outcome, received

# A first hop and three later ones are four servers; the one the router chose makes five.
MAX_SERVERS = 5


@dataclass(frozen=True)
class Server:
    """One server: its configuration, which may lag behind that of others, and its sockets."""

    config: Config
    sockets: SocketOracle = field(default_factory=SameSocket)


@dataclass(frozen=True)
class Step:
    """What one program of one server did."""

    server: IPv4Address
    program: Literal["forwarder", "redirector"]
    result: Result


@dataclass(frozen=True)
class Path:
    """All steps of a packet, in order, and how it ended."""

    steps: tuple[Step, ...]
    outcome: Outcome

    @property
    def last_server(self) -> IPv4Address:
        """The DIP of the server where the path ended."""
        return self.steps[-1].server

    @property
    def frame(self) -> bytes | None:
        """The frame as it was at the end; None after a drop."""
        return self.steps[-1].result.frame

    @property
    def counters(self) -> tuple[str, ...]:
        """The counters along the way, for short assertions."""
        return tuple(step.result.counter for step in self.steps)


def trace(frame: bytes, at: IPv4Address, servers: Mapping[IPv4Address, Server]) -> Path:
    """The path of a frame that the router gave to the server ``at`` (wire.md, sections 4 and 6).

    ``servers`` is keyed by DIP. Each server runs its forwarder and then, on what that passed, its
    redirector; what is sent out goes to the server with the outer destination. Raises
    ``RuntimeError`` if a packet visits more servers than any chain allows, that is, loops.
    """
    steps: list[Step] = []
    current = at
    for _ in range(MAX_SERVERS):
        server = servers.get(current)
        if server is None:
            return Path(tuple(steps), Outcome.LOST)
        visit = _visit(frame, current, server)
        steps += visit
        last = visit[-1].result
        if last.frame is None:
            return Path(tuple(steps), Outcome.DROPPED)
        frame = last.frame
        if last.verdict == "ok":
            return Path(tuple(steps), received(frame, server.sockets))
        current = Ipv4Header.parse(frame[ETHERNET_LENGTH:]).destination
    raise RuntimeError(f"a packet from {at} is still under way after {MAX_SERVERS} servers")


def _visit(frame: bytes, dip: IPv4Address, server: Server) -> list[Step]:
    """The one or two steps of a frame at one server."""
    first = forward(frame, server.config)
    steps = [Step(dip, "forwarder", first)]
    if first.verdict == "pass" and first.frame is not None:
        second = redirect(first.frame, server.config, server.sockets)
        steps.append(Step(dip, "redirector", second))
    return steps
