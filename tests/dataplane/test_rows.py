"""The rows of the forwarder in the kernel, and what no row can be about."""

from __future__ import annotations

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.in_kernel import InKernel
from tests.dataplane.rig import Rig
from tests.model import FORWARDER_COUNTERS, KERNEL_COUNTERS
from tests.model.frames import framed
from tests.packets.catalogue import FORWARDER_ROWS
from tests.packets.judge import ANSWERS_A_WINDOW, judge_beside_model
from tests.packets.row import Row, name_of, rows_for
from tests.packets.too_big import AWAY, BIG

ROWS = rows_for("kernel", FORWARDER_ROWS)
TX = 3


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_forwarder(kernel: InKernel, row: Row) -> None:
    judge_beside_model(row, kernel)


def test_every_counter_has_a_row() -> None:
    seen = {packet.counter for row in ROWS for packet in row.packets}
    assert seen == FORWARDER_COUNTERS - KERNEL_COUNTERS


def test_answers_to_packets_that_are_too_big_have_a_rate(rig: Rig) -> None:
    """64 in a window of 67 ms; these frames take a few milliseconds, so two windows at most."""
    rig.configure(AWAY)
    verdicts = [
        bpf_syscall.prog_test_run(rig.dataplane.forwarder_fd, framed(BIG), out_size=0).retval
        for _ in range(4 * ANSWERS_A_WINDOW)
    ]
    answered = verdicts.count(TX)
    assert 0 < answered <= 2 * ANSWERS_A_WINDOW
