"""Single frames: the C, the model and a human's reading of docs/wire.md must all three agree."""

from __future__ import annotations

import pytest

from tests.dataplane.rig import Rig
from tests.dataplane.rows import FORWARDER_ROWS, REDIRECTOR_ROWS, Row
from tests.model import KERNEL_COUNTERS, REDIRECTOR_COUNTERS, SameSocket, forward, redirect
from tests.model.counters import FORWARDER_COUNTERS


def by_name(row: Row) -> str:
    return row.name


@pytest.mark.parametrize("row", FORWARDER_ROWS, ids=by_name)
def test_forwarder(rig: Rig, row: Row) -> None:
    rig.configure(row.config)
    got = rig.forward(row.frame)
    assert (got.verdict, got.counter) == (row.verdict, row.counter)
    assert got == forward(row.frame, row.config)
    if row.check is not None:
        assert got.frame is not None
        assert row.check(got.frame)


@pytest.mark.parametrize("row", REDIRECTOR_ROWS, ids=by_name)
def test_redirector(rig: Rig, row: Row) -> None:
    rig.configure(row.config)
    got = rig.redirect(row.frame)
    assert (got.verdict, got.counter) == (row.verdict, row.counter)
    assert got == redirect(row.frame, row.config, SameSocket())
    if row.check is not None:
        assert got.frame is not None
        assert row.check(got.frame)


def test_every_counter_has_a_row() -> None:
    """But for those that need sockets, which test_sockets.py makes."""
    assert {row.counter for row in FORWARDER_ROWS} == FORWARDER_COUNTERS - KERNEL_COUNTERS
    sockets = {"accept_socket", "accept_syncookie", "accept_udp_socket"}
    wanted = REDIRECTOR_COUNTERS - KERNEL_COUNTERS - sockets
    assert {row.counter for row in REDIRECTOR_ROWS} == wanted
