"""Follow one packet through a fleet of modelled servers, to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from tests.model.config import MAC_LENGTH, Config
from tests.model.forwarder import forward
from tests.model.headers import Ipv4Header
from tests.model.link import TAG_LENGTH, TAG_TYPES, l3_offset
from tests.model.memory import Memory
from tests.model.redirector import redirect
from tests.model.result import Result
from tests.model.sockets import SameSocket, SocketOracle
from tests.model.stack import Outcome, received

# A first hop and three later ones are four servers; the one the router chose makes five.
MAX_SERVERS = 5
_MACS_LENGTH = 12


@dataclass(frozen=True)
class Server:
    """One server: its configuration, which may lag behind that of others, sockets and memory.

    Each trace through it changes its memory, so fragments are traced one after another over the
    same servers.
    """

    config: Config
    sockets: SocketOracle = field(default_factory=SameSocket)
    memory: Memory = field(default_factory=Memory)


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
    redirector; what is sent out goes to the server with the outer destination. Whoever gives a
    frame to a server, the router or a switch, gives it with that server's MAC as destination: a
    flooded frame is one for ``forward``. Raises
    ``RuntimeError`` if a packet visits more servers than any chain allows, that is, loops.
    """
    steps: list[Step] = []
    current = at
    for _ in range(MAX_SERVERS):
        server = servers.get(current)
        if server is None:
            return Path(tuple(steps), Outcome.LOST)
        visit = _visit(_addressed_to(server, frame), current, server)
        steps += visit
        last = visit[-1].result
        if last.frame is None:
            return Path(tuple(steps), Outcome.DROPPED)
        if last.verdict == "ok":
            return Path(tuple(steps), received(last.frame, server.sockets))
        if last.counter == "tx_too_big":
            return Path(tuple(steps), Outcome.ANSWERED)
        sent = last.frame if last.verdict == "tx" else _tagged_as(frame, last.frame)
        frame, current = sent, _outer_destination(sent)
    raise RuntimeError(f"a packet from {at} is still under way after {MAX_SERVERS} servers")


def _addressed_to(server: Server, frame: bytes) -> bytes:
    """A frame as it arrives at a server; one without all of a MAC keeps its length."""
    return server.config.mac[: len(frame)] + frame[MAC_LENGTH:]


def _outermost_tag_end(frame: bytes) -> int:
    """Where the outermost tag ends, which is where it would begin if there is none."""
    has_tag = len(frame) >= _MACS_LENGTH + TAG_LENGTH and frame[12:14] in TAG_TYPES
    return _MACS_LENGTH + TAG_LENGTH if has_tag else _MACS_LENGTH


def _tagged_as(arrived: bytes, sent: bytes) -> bytes:
    """A frame that a redirector sent, with the tag that the kernel had taken out before it."""
    tag = arrived[_MACS_LENGTH : _outermost_tag_end(arrived)]
    return sent[:_MACS_LENGTH] + tag + sent[_MACS_LENGTH:]


def _outer_destination(frame: bytes) -> IPv4Address:
    """Where a frame goes that a program sent to another server."""
    l3 = l3_offset(frame)
    return Ipv4Header.parse(frame[l3:]).destination


def _visit(frame: bytes, dip: IPv4Address, server: Server) -> list[Step]:
    """The one or two steps of a frame at one server.

    Between the two programs the kernel takes the outermost tag out of the frame.
    """
    first = forward(frame, server.config, server.memory)
    steps = [Step(dip, "forwarder", first)]
    if first.verdict == "pass" and first.frame is not None:
        untagged = first.frame[:_MACS_LENGTH] + first.frame[_outermost_tag_end(first.frame) :]
        second = redirect(untagged, server.config, server.sockets, server.memory)
        steps.append(Step(dip, "redirector", second))
    return steps
