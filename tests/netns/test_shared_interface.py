"""Others' XDP programs before and after the forwarder, in slots of the pinned root array."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from lb.dataplane.load import bpf_syscall
from tests.netns.foreign import CountingProgram
from tests.netns.stage import TCP_PLACES, Stage
from tests.netns.talk import TcpClient

BEFORE, FORWARDER, AFTER = 0, 2, 3
ROOT = "root"
DOWNLOAD = 500_000


@contextmanager
def root_of(stage: Stage, number: int) -> Iterator[int]:
    """A server's root array."""
    descriptor = bpf_syscall.obj_get(stage.pins(number) / ROOT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Guests:
    """A program before the forwarder of a server and one after it."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage = stage
        self._number = number
        with root_of(stage, number) as root:
            self.before = CountingProgram("bb_before", (root, FORWARDER))
            self.after = CountingProgram("bb_after")
            for slot, program in ((BEFORE, self.before), (AFTER, self.after)):
                bpf_syscall.map_update(root, slot, program.descriptor.to_bytes(4, "little"))

    def counted(self) -> tuple[int, int]:
        """Packets that each has seen."""
        return self.before.packets, self.after.packets

    def close(self) -> None:
        """Leave the slots."""
        with root_of(self._stage, self._number) as root:
            for slot in (BEFORE, AFTER):
                # Not carried over is what a test says, not what cleaning up after it does.
                with suppress(FileNotFoundError):
                    bpf_syscall.map_delete(root, slot)
        for program in (self.before, self.after):
            program.__exit__(None, None, None)


@pytest.fixture
def guests(stage: Stage) -> Iterator[Guests]:
    made = Guests(stage, 1)
    try:
        yield made
    finally:
        made.close()


def test_programs_before_and_after_see_packets_and_forwarding_goes_on(
    stage: Stage, guests: Guests
) -> None:
    stage.chain(2)
    before, counters = guests.counted(), stage.counters()
    with TcpClient(stage.client, TCP_PLACES["v4"]) as tcp:
        assert tcp.upload(DOWNLOAD) == "server2"
    # Read first: packets that end the connection may still be on their way.
    forwarded = stage.grown(counters, 1)["tx_forward"]
    seen, passed = (now - then for now, then in zip(guests.counted(), before, strict=True))
    assert forwarded > DOWNLOAD // 1500
    # The first sees everything, the last only what the forwarder lets the stack have.
    assert seen >= forwarded
    assert passed <= seen - forwarded
    stage.chain(1)
    before = guests.counted()
    with TcpClient(stage.client, TCP_PLACES["v6"]) as tcp:
        assert tcp.upload(DOWNLOAD) == "server1"
    seen, passed = (now - then for now, then in zip(guests.counted(), before, strict=True))
    assert min(seen, passed) > DOWNLOAD // 1500


def test_guests_stay_when_the_agent_starts_anew(stage: Stage, guests: Guests) -> None:
    """The one before goes on to the new agent's forwarder: by the array that it was loaded with."""
    stage.chain(2)
    with TcpClient(stage.client, TCP_PLACES["v4"]) as tcp:
        assert tcp.name() == "server2"
        old = stage.programs(1)
        stage.restart_agent(1)
        assert not set(stage.programs(1)) & set(old)
        before, counters = guests.counted(), stage.counters()
        assert tcp.upload(DOWNLOAD) == "server2"
        assert stage.grown(counters, 1)["tx_forward"] > DOWNLOAD // 1500
        assert guests.counted()[0] - before[0] > DOWNLOAD // 1500
    # The agent's watch would put it right, too, but a second later.
    assert stage.fleet.status(1)["repairs"]["slots"] == 0
    stage.chain(1)
    before = guests.counted()
    with TcpClient(stage.client, TCP_PLACES["v6"]) as tcp:
        assert tcp.upload(DOWNLOAD) == "server1"
    assert guests.counted()[1] - before[1] > DOWNLOAD // 1500


def test_without_guests_the_slots_are_empty(stage: Stage) -> None:
    with root_of(stage, 1) as root:
        filled = []
        for slot in (0, 1, 2, 3, 4):
            try:
                bpf_syscall.map_lookup(root, slot, 4)
            except FileNotFoundError:
                continue
            filled.append(slot)
    assert filled == [FORWARDER]
