"""The programs that tell of packets: the same verdicts, bytes and counters as the usual ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lb import abi
from lb.dataplane import dataplane as loading
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall, root_array
from lb.dataplane.load.compile import compile_and_load, xdp_attach_types
from lb.dataplane.load.root_array import create_root, program_in, put_program
from lb.dataplane.pinned import PinnedDataplane
from lb.dataplane.ring import RingReader
from lb.dataplane.traced import TracedPrograms, check_sources, empty_slots
from lb.paths import bpf_dir
from lb.trace.event import Event, read_event
from lb.trace.filters import Filter
from tests.dataplane.in_kernel import InKernel
from tests.dataplane.own_netns import OwnNetns
from tests.dataplane.rig import TC_VERDICTS, XDP_VERDICTS, Rig
from tests.dataplane.tiny_programs import goes_on
from tests.model import Result, Service, host
from tests.model.frames import ethernet, udp_packet
from tests.packets.catalogue import ROWS
from tests.packets.judge import judge_beside_model
from tests.packets.row import rows_for
from tests.packets.world import ACK, AT_REST, CLIENT, SERVICES, UDP, VIP, here, tcp

ALL = frozenset(abi.COUNTERS)
HOOK = re.compile(r"^\t+lb_trace_\w+\([^\n]*\);\n", re.MULTILINE)
RING_EVENTS = (4 << 20) // 232


@pytest.fixture
def pins(rig: Rig, bpffs: Path) -> Iterator[Path]:
    """What an agent has pinned; its arrays are as before in the end."""
    folder = bpffs / "eth0"
    rig.dataplane.pin(folder)
    yield folder
    empty_slots(folder)


@pytest.fixture
def traced(rig: Rig, pins: Path) -> Iterator[TracedPrograms]:
    with TracedPrograms(pins, Filter(ALL).defines()) as programs:
        programs.fill_slots()
        yield programs


def told(ring: RingReader) -> list[Event]:
    return [read_event(record, 0.0) for record in ring.read()]


class Traced(InKernel):
    """Rows in the programs that report packets: each packet has its event."""

    def __init__(self, rig: Rig, netns: OwnNetns, programs: TracedPrograms) -> None:
        super().__init__(rig, netns)
        self._programs = programs

    def forward(self, frame: bytes) -> Result:
        got = self.rig._run(self._programs.root_fd, XDP_VERDICTS, frame)
        (event,) = told(self._programs.ring)
        assert (event.program, event.counter) == ("forwarder", got.counter)
        assert XDP_VERDICTS[event.verdict] == got.verdict
        return got

    def redirect(self, frame: bytes) -> Result:
        got = self.rig._run(self._programs.redirector_fd, TC_VERDICTS, frame)
        (event,) = told(self._programs.ring)
        assert (event.program, event.counter) == ("redirector", got.counter)
        assert event.length == len(frame)
        return got


def test_every_row_goes_the_same_way_and_is_told(
    rig: Rig, socket_server: OwnNetns, traced: TracedPrograms
) -> None:
    executor = Traced(rig, socket_server, traced)
    for row in rows_for("kernel", ROWS):
        judge_beside_model(row, executor)
    assert traced.lost() == 0


def test_a_full_ring_loses_events_and_no_packets(rig: Rig, traced: TracedPrograms) -> None:
    rig.configure(AT_REST)
    before = rig.counts().verdicts["pass_not_ip"]
    frame = bytes(12) + b"\x88\xcc" + bytes(46)
    run = bpf_syscall.prog_test_run(traced.root_fd, frame, repeat=2 * RING_EVENTS)
    assert XDP_VERDICTS[run.retval] == "pass"
    assert rig.counts().verdicts["pass_not_ip"] == before + 2 * RING_EVENTS
    events = told(traced.ring)
    assert len(events) + traced.lost() == 2 * RING_EVENTS
    assert len(events) > RING_EVENTS // 2
    bpf_syscall.prog_test_run(traced.root_fd, frame)
    assert len(told(traced.ring)) == 1, "there is room again"


def test_a_program_before_the_forwarder_goes_on_to_the_traced_one(
    rig: Rig, traced: TracedPrograms, pins: Path
) -> None:
    root, others = (
        rig.dataplane.map_fd(name) for name in (root_array.NAME, loading.FORWARDER_PROGRAMS)
    )
    plain = bpf_syscall.prog_info(rig.dataplane._loaded.programs["lb_forwarder"]).prog_id
    assert program_in(root, abi.Slot.FORWARDER) not in {plain, None}
    assert program_in(others, abi.ForwarderSlot.UNTRACED) == plain
    empty_slots(pins)
    assert program_in(root, abi.Slot.FORWARDER) == plain
    left = {slot for slot in abi.ForwarderSlot if program_in(others, slot) is not None}
    assert left == {abi.ForwarderSlot.RARE, abi.ForwarderSlot.TOO_BIG}


def test_the_end_of_a_trace_leaves_a_new_agent_s_forwarder_in_the_root_array(
    rig: Rig, traced: TracedPrograms, pins: Path
) -> None:
    """It was killed before its pins took their place: these are those of the agent before."""
    root, others = (
        rig.dataplane.map_fd(name) for name in (root_array.NAME, loading.FORWARDER_PROGRAMS)
    )
    attach_type = root_array.fitting_type(root, (bpf_syscall.ATTACH_TYPE_XDP, 0))
    assert attach_type is not None
    newer = goes_on(root, abi.Slot.AFTER, 2, attach_type)
    try:
        put_program(root, abi.Slot.FORWARDER, newer)
        empty_slots(pins)
        assert program_in(root, abi.Slot.FORWARDER) == bpf_syscall.prog_info(newer).prog_id
        assert program_in(others, abi.ForwarderSlot.UNTRACED) is None
    finally:
        put_program(root, abi.Slot.FORWARDER, rig.dataplane._loaded.programs["lb_forwarder"])
        os.close(newer)


def test_a_new_agent_that_has_come_meanwhile_keeps_its_forwarder(
    rig: Rig, traced: TracedPrograms, pins: Path
) -> None:
    """These programs use the maps of the agent before: guests must not go on to them."""
    empty_slots(pins)
    stages = pins / "stages"
    stages.unlink()
    other = create_root()
    bpf_syscall.obj_pin(other, stages)
    os.close(other)
    root = rig.dataplane.map_fd(root_array.NAME)
    before = program_in(root, abi.Slot.FORWARDER)
    with pytest.raises(DataplaneError, match="trace again"):
        traced.fill_slots()
    assert program_in(root, abi.Slot.FORWARDER) == before


def test_the_kernel_asks_what_it_can(rig: Rig, pins: Path) -> None:
    """What the reader would not show does not get into the ring."""
    same_port = udp_packet(CLIENT, 40000, VIP, 80)
    frames = (ethernet(tcp(ACK)), ethernet(same_port), ethernet(UDP))
    services = (*SERVICES, Service(host(VIP), 17, 80, "web"))
    wanted = Filter(ALL, vip=IPv4Network(VIP), client=IPv4Network(CLIENT), port=80)
    elsewhere = Filter(ALL, client=IPv4Network("203.0.113.0/24"))
    for wish, times in ((wanted, 2), (elsewhere, 0)):
        with TracedPrograms(pins, wish.defines()) as programs:
            programs.fill_slots()
            for chain, expected in (((2,), "tx_forward"), ((1,), "pass_local")):
                rig.configure(replace(here(*chain), services=services))
                for frame in frames:
                    bpf_syscall.prog_test_run(programs.root_fd, frame)
                events = told(programs.ring)
                assert [event.counter for event in events] == [expected] * times
                assert all(event.packet.client == CLIENT for event in events)
        empty_slots(pins)


def test_programs_of_other_sources_are_refused(rig: Rig, pins: Path) -> None:
    with PinnedDataplane(pins) as plane:
        check_sources(plane, pins)
        mine = plane.sources()
        rig.dataplane._state.config["sources"] = mine ^ 1
        try:
            with pytest.raises(DataplaneError, match="other sources"):
                check_sources(plane, pins)
        finally:
            rig.dataplane._state.config["sources"] = mine


def test_without_a_trace_there_is_no_trace_of_it(rig: Rig) -> None:
    """Programs compiled from sources without any hook are the same, instruction by instruction."""
    text = loading.source_text()
    without = HOOK.sub("", text)
    assert len(HOOK.findall(text)) == 8
    values = {define: rig.dataplane.map_fd(name) for name, (_, define) in loading.VALUES.items()}
    values[root_array.DEFINE] = rig.dataplane.map_fd(root_array.NAME)
    loaded = compile_and_load(
        without,
        include=bpf_dir(),
        programs=loading.PROGRAMS,
        maps=(),
        defines=values,
        xdp_attach_type=xdp_attach_types(bpf_syscall.ATTACH_TYPE_XDP)[0],
    )
    try:
        for name, fd in loaded.programs.items():
            usual = bpf_syscall.prog_info(rig.dataplane._loaded.programs[name])
            bare = bpf_syscall.prog_info(fd)
            assert (bare.instructions, bare.tag) == (usual.instructions, usual.tag), name
    finally:
        loaded.close()
