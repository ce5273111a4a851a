"""Rows about the forwarder: a frame, the line of wire.md that decides, what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.model import Config, Memory, forward
from tests.model.frames import framed
from tests.unit.model.wire_document import only_check
from tests.unit.model.world import config

AT_REST = config(1, (2,))


def patched(packet: bytes, at: int, value: bytes) -> bytes:
    """A frame around a packet with some bytes overwritten behind the first."""
    return framed(packet[:at] + value + packet[at + len(value) :])


@dataclass(frozen=True)
class Row:
    """A frame, the line that decides about it, and the service that counts it.

    ``counter`` is needed where the line has several.
    """

    line: str
    name: str
    frame: bytes
    config: Config = AT_REST
    service: int | None = None
    not_for_vip: bool = False
    counter: str = ""


def ids(rows: Sequence[Row]) -> list[str]:
    """Names for pytest."""
    return [f"{row.line}: {row.name}" for row in rows]


def judge(row: Row, memory: Memory | None = None) -> None:
    """Fail unless the model does with the frame what the line says."""
    check = only_check(row.line, row.counter)
    expected = (check.verdict, check.counter)
    if row.not_for_vip:
        assert check.only_for_vip
        expected = ("pass", "pass_no_service")
    result = forward(row.frame, row.config, memory)
    assert (result.verdict, result.counter, result.service) == (*expected, row.service)
    if result.verdict == "drop":
        assert result.frame is None
    elif result.counter in {"pass_to_self", "tx_forward", "tx_forward_chain", "tx_too_big"}:
        assert result.frame != row.frame
    else:
        assert result.frame == row.frame
