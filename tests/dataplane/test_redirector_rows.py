"""The rows of the redirector in the kernel, and what no row can be about."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.in_kernel import InKernel
from tests.dataplane.rig import Rig
from tests.model import KERNEL_COUNTERS, REDIRECTOR_COUNTERS, Address
from tests.model.frames import ethernet, hop_by_hop
from tests.packets.catalogue import REDIRECTOR_ROWS
from tests.packets.judge import judge_beside_model
from tests.packets.redirector import gue
from tests.packets.row import Row, name_of, rows_for
from tests.packets.world import AT_HOP, NOPS, VIP, VIP6, tcp

ROWS = rows_for("kernel", REDIRECTOR_ROWS)
PROGRAMS, RARE = "lb_redirector_programs", "lb_redirector_rare"
SK_BUFF_BYTES, GSO_SIZE_AT = 192, 176
"""struct __sk_buff (linux/bpf.h)."""


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_redirector(kernel: InKernel, row: Row) -> None:
    judge_beside_model(row, kernel)


def test_every_counter_has_a_row() -> None:
    """But for the one that needs a real cookie, which test_sockets_cookies.py makes."""
    seen = {packet.counter for row in ROWS for packet in row.packets}
    assert seen == REDIRECTOR_COUNTERS - KERNEL_COUNTERS - {"accept_syncookie"}


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
    without_stage.configure(AT_HOP)
    for rare in (tcp(options=NOPS), tcp(vip=VIP6, headers=[hop_by_hop()])):
        got = without_stage.redirect(ethernet(gue(rare)))
        assert (got.verdict, got.counter) == ("drop", "drop_no_stage")
    assert without_stage.redirect(ethernet(gue(tcp()))).counter == "accept_last_hop"


@pytest.mark.parametrize("vip", [VIP, VIP6], ids=["v4", "v6"])
def test_what_the_kernel_does_not_take_out_is_dropped(rig: Rig, vip: Address) -> None:
    """As of packets of no protocol that it could cut up again after it has merged them."""
    rig.configure(AT_HOP)
    merged = bytearray(SK_BUFF_BYTES)
    struct.pack_into("=I", merged, GSO_SIZE_AT, 500)
    got = rig.redirect(ethernet(gue(tcp(vip=vip, payload=bytes(1000)))), bytes(merged))
    assert (got.verdict, got.counter) == ("drop", "drop_error")
