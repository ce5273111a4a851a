"""What a row is: packets that come in one after another, and what the page expects of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.model import Config, SocketState
from tests.model.frames import ethernet
from tests.packets.page import ends_of
from tests.packets.world import AT_HOP, AT_REST

Program = Literal["forwarder", "redirector"]
Executor = Literal["model", "host", "kernel"]
Out = bytes | Callable[[bytes], bool] | None
"""The frame that comes out, or what must be true of it."""

NO_SOCKETS_ASKED = None
LEAST_TEST_RUN: Mapping[Program, int] = {"forwarder": 14, "redirector": 34}
NO_FRAME: Mapping[Executor, str] = {
    "kernel": "a test run takes no frame without a header of Ethernet, or at TC one of IPv4"
}
NO_COOKIE: Mapping[Executor, str] = {
    "kernel": "a cookie's numbers are the kernel's choice: test_sockets_cookies.py has real ones"
}

NO_REQUEST: Mapping[Executor, str] = {
    "kernel": "it needs a client that does not answer: test_sockets_numbers.py has one"
}
NOT_FOR: Mapping[SocketState, Mapping[Executor, str]] = {
    SocketState.LISTEN_COOKIE: NO_COOKIE,
    SocketState.REQUEST: NO_REQUEST,
}


@dataclass(frozen=True)
class Packet:
    """A frame that comes in, and what must become of it.

    ``service`` is the place in the configuration of the service that counts the packet, if one
    does. ``state`` is the socket that the flow has at the server; NO_SOCKETS_ASKED where the
    program must not even look. ``config`` is there where it is another than the row's.
    """

    frame: bytes
    counter: str
    service: int | None = None
    out: Out = None
    state: SocketState | None = SocketState.NONE
    config: Config | None = None


@dataclass(frozen=True)
class Row:
    """A name that begins with the line of wire.md that decides, or with a section, and packets.

    The packets find nothing remembered of other rows. ``not_for`` names the executors that cannot
    take the row, and why.
    """

    program: Program
    name: str
    config: Config
    packets: tuple[Packet, ...]
    not_for: Mapping[Executor, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The line or section of the page."""
        return line_of(self.name)


def forwarder(
    name: str,
    frame: bytes,
    config: Config = AT_REST,
    service: int | None = None,
    *,
    counter: str = "",
    out: Out = None,
    elsewhere: bool = False,
    other_host: bool = False,
) -> Row:
    """A row of one frame. The counter is needed where the line has several ends, or no end.

    ``elsewhere``: the destination is no VIP of ours, and the line asks about that. ``other_host``:
    it is a VIP, in a frame for another host, and the line asks about a VIP.
    """
    counter = _counter_of(name, counter)
    if elsewhere or other_host:
        assert [end for end in ends_of(line_of(name)) if end.only_for_vip]
        counter = "pass_no_service" if elsewhere else "pass_other_host"
    not_for = NO_FRAME if len(frame) < LEAST_TEST_RUN["forwarder"] else {}
    return Row("forwarder", name, config, (Packet(frame, counter, service, out),), not_for)


def redirector(
    name: str,
    packet: bytes,
    state: SocketState | None = SocketState.NONE,
    config: Config = AT_HOP,
    *,
    counter: str = "",
    out: Out = None,
    kind: int = 0x0800,
) -> Row:
    """A row of one packet, which has no Ethernet header yet."""
    seen = Packet(ethernet(packet, kind=kind), _counter_of(name, counter), None, out, state=state)
    not_for = NOT_FOR.get(state, {}) if state else {}
    if len(seen.frame) < LEAST_TEST_RUN["redirector"]:
        not_for = NO_FRAME
    return Row("redirector", name, config, (seen,), not_for)


def line_of(name: str) -> str:
    """The line or section that a row's name begins with."""
    return name.split(maxsplit=1)[0]


def _counter_of(name: str, counter: str) -> str:
    """The counter that the row's line on the page has; ``counter`` if that is one of several."""
    ends = {end.counter for end in ends_of(line_of(name))}
    if not ends:
        assert counter, f"{name}: the page has no counter for this"
        return counter
    (found,) = ends if not counter else ends & {counter}
    return found


def rows_for(executor: Executor, rows: tuple[Row, ...]) -> list[Row]:
    """The rows that an executor can take."""
    return [row for row in rows if executor not in row.not_for]


def name_of(row: Row) -> str:
    """The id of a row in a test's name."""
    return row.name
