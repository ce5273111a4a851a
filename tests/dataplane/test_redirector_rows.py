"""Single frames: the redirector, the model and a human's reading of docs/wire.md all agree."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.redirector_family_rows import FAMILY_ROWS
from tests.dataplane.redirector_rows import (
    DECISION_ROWS,
    INNER_ROWS,
    TUNNEL_ROWS,
    Row,
    config,
    gue,
    tcp,
)
from tests.dataplane.rig import Rig
from tests.dataplane.socket_case import V4, V6, Family
from tests.model import KERNEL_COUNTERS, REDIRECTOR_COUNTERS, SameSocket, redirect
from tests.model.frames import hop_by_hop

ROWS = (*TUNNEL_ROWS, *INNER_ROWS, *DECISION_ROWS, *FAMILY_ROWS)
PROGRAMS, RARE = "lb_redirector_programs", "lb_redirector_rare"
SK_BUFF_BYTES, GSO_SIZE_AT = 192, 176
"""struct __sk_buff (linux/bpf.h)."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_redirector(rig: Rig, row: Row) -> None:
    rig.configure(config())
    got = rig.redirect(row.frame)
    assert (got.verdict, got.counter) == (row.verdict, row.counter)
    assert got == redirect(row.frame, config(), SameSocket())
    if row.check is not None:
        assert got.frame is not None
        assert row.check(got.frame)


def test_every_counter_has_a_row() -> None:
    """But for those that need sockets, which test_sockets*.py make."""
    sockets = {"accept_socket", "accept_syncookie", "accept_udp_socket", "accept_icmp_error"}
    wanted = REDIRECTOR_COUNTERS - KERNEL_COUNTERS - sockets
    assert {row.counter for row in ROWS} == wanted


@pytest.fixture
def without_stage(rig: Rig) -> Iterator[Rig]:
    """The second program taken away for a while."""
    programs = rig.dataplane.map_fd(PROGRAMS)
    rare = rig.dataplane._loaded.programs[RARE]
    bpf_syscall.map_delete(programs, 0)
    try:
        yield rig
    finally:
        bpf_syscall.map_update(programs, 0, rare.to_bytes(4, "little"))


def test_without_the_second_program_rare_packets_are_dropped(without_stage: Rig) -> None:
    """Never passed: the local stack would answer with a reset."""
    without_stage.configure(config())
    for rare in (tcp(options=bytes(4)), tcp(family=V6, headers=(hop_by_hop(),))):
        got = without_stage.redirect(gue(rare))
        assert (got.verdict, got.counter) == ("drop", "drop_no_stage")
    assert without_stage.redirect(gue(tcp())).counter == "accept_last_hop"


@pytest.mark.parametrize("family", [V4, V6], ids=["v4", "v6"])
def test_what_the_kernel_does_not_take_out_is_dropped(rig: Rig, family: Family) -> None:
    """As of packets of no protocol that it could cut up again after it has merged them."""
    rig.configure(config())
    merged = bytearray(SK_BUFF_BYTES)
    struct.pack_into("=I", merged, GSO_SIZE_AT, 500)
    got = rig.redirect(gue(tcp(family=family, payload=bytes(1000))), bytes(merged))
    assert (got.verdict, got.counter) == ("drop", "drop_error")
