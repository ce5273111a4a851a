"""Other XDP programs before and after the forwarder, and what happens if the array is emptied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from lb.abi import Slot, StageSlot
from lb.dataplane import bpf_syscall
from tests.dataplane.rig import Rig
from tests.dataplane.rows import ACK, server, tcp
from tests.dataplane.tiny_programs import goes_on, returns
from tests.model.frames import C_TAG, ethernet

ABORTED, DROP, PASS, TX = range(4)
FORWARDED = ethernet(tcp(ACK))
PASSED = ethernet(bytes(46), kind=0x0806)
Put = Callable[[Slot, int], None]


@pytest.fixture
def array(rig: Rig) -> int:
    rig.configure(server())
    return rig.dataplane.map_fd("lb_root_slots")


@pytest.fixture
def put(array: int) -> Iterator[Put]:
    """Puts programs into slots, which are empty again afterwards."""
    with ExitStack() as stack:

        def put(slot: Slot, program: int) -> None:
            stack.callback(os.close, program)
            bpf_syscall.map_update(array, slot, program.to_bytes(4, "little"))
            stack.callback(bpf_syscall.map_delete, array, slot)

        yield put


def verdict(rig: Rig, frame: bytes) -> int:
    return bpf_syscall.prog_test_run(rig.dataplane.forwarder_fd, frame).retval


def test_without_other_programs_nothing_changes(rig: Rig, array: int) -> None:
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (TX, PASS)


def test_a_program_before_sees_every_packet_first(rig: Rig, put: Put) -> None:
    put(Slot.BEFORE, returns(DROP))
    before = rig.counts().verdicts
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (DROP, DROP)
    assert rig.counts().verdicts == before


def test_programs_before_go_on_to_each_other_and_to_the_forwarder(
    rig: Rig, array: int, put: Put
) -> None:
    put(Slot.BEFORE, goes_on(array, Slot.BEFORE_2, ABORTED))
    put(Slot.BEFORE_2, goes_on(array, Slot.FORWARDER, ABORTED))
    assert rig.forward(FORWARDED).counter == "tx_forward"
    assert rig.forward(PASSED).counter == "pass_not_ip"


def test_a_program_after_sees_what_the_forwarder_passes_and_nothing_else(
    rig: Rig, put: Put
) -> None:
    put(Slot.AFTER, returns(DROP))
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (TX, DROP)
    tagged = ethernet(tcp(ACK), tags=(C_TAG,))
    assert verdict(rig, tagged) == TX
    assert verdict(rig, ethernet(bytes(46), kind=0x0806, tags=(C_TAG,))) == DROP


def test_programs_after_go_on_to_each_other(rig: Rig, array: int, put: Put) -> None:
    put(Slot.AFTER, goes_on(array, Slot.AFTER_2, ABORTED))
    put(Slot.AFTER_2, returns(DROP))
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (TX, DROP)


@pytest.fixture
def emptied(rig: Rig, array: int) -> Iterator[None]:
    """What the kernel does to arrays that nobody holds or pins any more."""
    programs = rig.dataplane._loaded.programs
    stages = rig.dataplane.map_fd("lb_stages")
    filled = (
        (array, Slot.FORWARDER, programs["lb_forwarder"]),
        (stages, StageSlot.STAGE, programs["lb_stage"]),
        (stages, StageSlot.TOO_BIG, programs["lb_too_big"]),
    )
    for which, slot, _ in filled:
        bpf_syscall.map_delete(which, slot)
    yield
    for which, slot, program in filled:
        bpf_syscall.map_update(which, slot, program.to_bytes(4, "little"))


@pytest.mark.usefixtures("emptied")
def test_emptied_arrays_leak_no_packet_for_a_vip(rig: Rig) -> None:
    assert rig.forward(FORWARDED).counter == "tx_forward"
    assert rig.forward(PASSED).counter == "pass_not_ip"
    tagged = rig.forward(ethernet(tcp(ACK), tags=(C_TAG,)))
    assert (tagged.verdict, tagged.counter) == ("drop", "drop_no_stage")
    big = rig.forward(ethernet(tcp(ACK, payload=bytes(1460))))
    assert (big.verdict, big.counter) == ("drop", "drop_no_stage")
