"""Other XDP programs before and after the forwarder, and what happens if the array is emptied."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lb.abi import ForwarderSlot, Slot
from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.root_array import put_program
from tests import machine
from tests.dataplane.rig import Rig
from tests.dataplane.tiny_programs import goes_on, returns
from tests.model.frames import C_TAG, ethernet
from tests.needed import missing
from tests.packets.world import ACK, AT_REST, tcp

ABORTED, DROP, PASS, TX = range(4)
FORWARDED = ethernet(tcp(ACK))
PASSED = ethernet(bytes(46), kind=0x0806)
Put = Callable[[Slot, int], None]
DOCUMENT = Path(__file__).parents[2] / "docs" / "running.md"


@pytest.fixture
def array(rig: Rig) -> int:
    rig.configure(AT_REST)
    return rig.dataplane.map_fd("lb_root_slots")


@pytest.fixture
def attach_type() -> int:
    """What programs beside the forwarder have to be: 0 beside one that this bcc gave no type."""
    return machine.xdp_attach_type_of_bcc()


@pytest.fixture
def put(array: int) -> Iterator[Put]:
    """Puts programs into slots, which are empty again afterwards."""
    with ExitStack() as stack:

        def put(slot: Slot, program: int) -> None:
            stack.callback(os.close, program)
            put_program(array, slot, program)
            stack.callback(bpf_syscall.map_delete, array, slot)

        yield put


def verdict(rig: Rig, frame: bytes) -> int:
    return bpf_syscall.prog_test_run(rig.dataplane.forwarder_fd, frame).retval


def test_without_other_programs_nothing_changes(rig: Rig, array: int) -> None:
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (TX, PASS)


def test_a_program_before_sees_every_packet_first(rig: Rig, put: Put, attach_type: int) -> None:
    put(Slot.BEFORE, returns(DROP, attach_type))
    before = rig.counts().verdicts
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (DROP, DROP)
    assert rig.counts().verdicts == before


def test_programs_before_go_on_to_each_other_and_to_the_forwarder(
    rig: Rig, array: int, put: Put, attach_type: int
) -> None:
    put(Slot.BEFORE, goes_on(array, Slot.BEFORE_2, ABORTED, attach_type))
    put(Slot.BEFORE_2, goes_on(array, Slot.FORWARDER, ABORTED, attach_type))
    assert rig.forward(FORWARDED).counter == "tx_forward"
    assert rig.forward(PASSED).counter == "pass_not_ip"


def test_a_program_after_sees_what_the_forwarder_passes_and_nothing_else(
    rig: Rig, put: Put, attach_type: int
) -> None:
    put(Slot.AFTER, returns(DROP, attach_type))
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (TX, DROP)
    tagged = ethernet(tcp(ACK), tags=(C_TAG,))
    assert verdict(rig, tagged) == TX
    assert verdict(rig, ethernet(bytes(46), kind=0x0806, tags=(C_TAG,))) == DROP


def test_programs_after_go_on_to_each_other(
    rig: Rig, array: int, put: Put, attach_type: int
) -> None:
    put(Slot.AFTER, goes_on(array, Slot.AFTER_2, ABORTED, attach_type))
    put(Slot.AFTER_2, returns(DROP, attach_type))
    assert (verdict(rig, FORWARDED), verdict(rig, PASSED)) == (TX, DROP)


def test_a_program_of_libbpf_s_is_loaded_with_the_array_and_put_into_it(
    rig: Rig, array: int, bpffs: Path, tmp_path: Path
) -> None:
    """The one of docs/running.md, by its commands."""
    if reason := machine.why_no_libbpf_tools():
        missing(reason)
    if reason := machine.why_no_libbpf_beside_bcc():
        pytest.skip(reason)
    source, made, root, pin = (
        *(tmp_path / "filter.bpf.c", tmp_path / "filter.bpf.o"),
        *(bpffs / "root", bpffs / "filter"),
    )
    (text,) = re.findall(r"^```c\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    source.write_text(text)
    bpf_syscall.obj_pin(array, root)

    def run(*words: str | Path) -> None:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr

    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    run("clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", made)
    run("bpftool", "prog", "load", made, pin, "type", "xdp", "map", "name", "root", "pinned", root)
    key = ("key", "0", "0", "0", "0")
    run("bpftool", "map", "update", "pinned", root, *key, "value", "pinned", pin)
    try:
        assert rig.forward(FORWARDED).counter == "tx_forward"
        assert rig.forward(PASSED).counter == "pass_not_ip"
        bpf_syscall.map_delete(array, Slot.FORWARDER)
        try:
            assert verdict(rig, FORWARDED) == DROP
        finally:
            put_program(array, Slot.FORWARDER, rig.dataplane._loaded.programs["lb_forwarder"])
    finally:
        run("bpftool", "map", "delete", "pinned", root, *key)


@pytest.fixture
def emptied(rig: Rig, array: int) -> Iterator[None]:
    """What the kernel does to arrays that nobody holds or pins any more."""
    programs = rig.dataplane._loaded.programs
    others = rig.dataplane.map_fd("lb_forwarder_programs")
    filled = (
        (array, Slot.FORWARDER, programs["lb_forwarder"]),
        (others, ForwarderSlot.RARE, programs["lb_forwarder_rare"]),
        (others, ForwarderSlot.TOO_BIG, programs["lb_too_big"]),
    )
    for which, slot, _ in filled:
        bpf_syscall.map_delete(which, slot)
    yield
    for which, slot, program in filled:
        put_program(which, slot, program)


@pytest.mark.usefixtures("emptied")
def test_emptied_arrays_leak_no_packet_for_a_vip(rig: Rig) -> None:
    assert rig.forward(FORWARDED).counter == "tx_forward"
    assert rig.forward(PASSED).counter == "pass_not_ip"
    tagged = rig.forward(ethernet(tcp(ACK), tags=(C_TAG,)))
    assert (tagged.verdict, tagged.counter) == ("drop", "drop_no_stage")
    big = rig.forward(ethernet(tcp(ACK, payload=bytes(1460))))
    assert (big.verdict, big.counter) == ("drop", "drop_no_stage")
