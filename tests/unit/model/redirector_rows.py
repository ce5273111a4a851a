"""Rows about the redirector: an outer packet, the line of wire.md that decides, the sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.model import Config, Memory, SameSocket, SocketState, redirect
from tests.model.frames import ethernet
from tests.unit.model.wire_document import only_check
from tests.unit.model.world import config

AT = config(2)


def patched(packet: bytes, at: int, value: bytes) -> bytes:
    """The packet with some bytes overwritten."""
    return packet[:at] + value + packet[at + len(value) :]


@dataclass(frozen=True)
class Row:
    """An outer packet, the line that decides about it, and what the sockets say.

    ``counter`` is needed where the line has several.
    """

    line: str
    name: str
    packet: bytes
    state: SocketState = SocketState.NONE
    config: Config = AT
    kind: int = 0x0800
    counter: str = ""


def ids(rows: Sequence[Row]) -> list[str]:
    """Names for pytest."""
    return [f"{row.line}: {row.name}" for row in rows]


def judge(row: Row, memory: Memory | None = None) -> None:
    """Fail unless the model does with the packet what the line says."""
    check = only_check(row.line, row.counter)
    frame = ethernet(row.packet, kind=row.kind)
    result = redirect(frame, row.config, SameSocket(row.state), memory)
    assert (result.verdict, result.counter, result.service) == (check.verdict, check.counter, None)
    if result.verdict == "drop":
        assert result.frame is None
    else:
        assert (result.frame == frame) == (row.line == "R1")
