"""Single frames: the forwarder, the model and a human's reading of docs/wire.md all agree."""

from __future__ import annotations

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.forwarder_family_rows import FAMILY_ROWS, OTHER_ROWS
from tests.dataplane.forwarder_rows import FORWARDER_ROWS
from tests.dataplane.rig import Rig
from tests.dataplane.rows import Row, server, udp
from tests.model import KERNEL_COUNTERS, Memory, forward
from tests.model.counters import FORWARDER_COUNTERS
from tests.model.frames import framed

ROWS = (*FORWARDER_ROWS, *FAMILY_ROWS, *OTHER_ROWS)
TX = 3
ANSWERS_A_WINDOW = 64


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_forwarder(rig: Rig, row: Row) -> None:
    rig.configure(row.config)
    memory = Memory()
    for frame in row.before:
        assert rig.forward(frame) == forward(frame, row.config, memory)
    got = rig.forward(row.frame)
    assert (got.verdict, got.counter) == (row.verdict, row.counter)
    assert got == forward(row.frame, row.config, memory)
    if row.check is not None:
        assert got.frame is not None
        assert row.check(got.frame)


def test_every_counter_has_a_row() -> None:
    assert {row.counter for row in ROWS} == FORWARDER_COUNTERS - KERNEL_COUNTERS


def test_answers_to_packets_that_are_too_big_have_a_rate(rig: Rig) -> None:
    """64 in a window of 67 ms; these frames take a few milliseconds, so two windows at most."""
    rig.configure(server())
    frame = framed(udp(payload=bytes(1464)))
    verdicts = [
        bpf_syscall.prog_test_run(rig.dataplane.forwarder_fd, frame, out_size=0).retval
        for _ in range(4 * ANSWERS_A_WINDOW)
    ]
    answered = verdicts.count(TX)
    assert 0 < answered <= 2 * ANSWERS_A_WINDOW
