"""Which packets are of a socket's connection: real sockets and their numbers (wire.md, 6.5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import count

import pytest

from lb.dataplane.load import bpf_syscall
from tests.dataplane.rig import Rig
from tests.dataplane.socket_case import ACK, FIN, PORT, RST, SYN, Case, Family
from tests.dataplane.socket_states import FREE_PORT, PLAIN, RARE, families
from tests.fuzz.kernel import first_key, map_read, map_write
from tests.model import SocketState
from tests.model.frames import tcp_packet

WINDOW, SYN_WINDOW = 1 << 28, 65535
SYN_SEQUENCE = 1000
REQUEST_SECONDS = 64
MOST_OPENINGS = 8192
MAP_TYPE_LRU_HASH = 9
OPENINGS = "lb_openings"
FAR = SYN_SEQUENCE + (1 << 30)
shapes = pytest.mark.parametrize("rare", [False, True], ids=["plain", "rare"])
# far apart, and so that the differences go through 0
NUMBERS = ((1 << 31, 1 << 30), (5, 7), (WINDOW, (1 << 32) - 3))


@families
@shapes
@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_connection_keeps_packets_near_its_numbers(
    case: Case, family: Family, rare: bool, numbers: tuple[int, int]
) -> None:
    rcv_nxt, snd_nxt = numbers
    case.alone(family, FREE_PORT, rcv_nxt=rcv_nxt, snd_nxt=snd_nxt)
    shape = RARE[family.version] if rare else PLAIN
    ends = (family.client, FREE_PORT, family.vip, PORT)

    def asked(sequence: int, acknowledges: int, flags: int, state: SocketState) -> str:
        at = (rcv_nxt + sequence, snd_nxt + acknowledges)
        return case.ask(tcp_packet(*ends, flags=flags, numbers=at, **shape), state)

    for flags in (ACK, ACK | FIN, ACK | RST, RST, 0):
        for sequence, acknowledges in ((0, 0), (WINDOW, WINDOW), (-WINDOW, -WINDOW)):
            known = asked(sequence, acknowledges, flags, SocketState.KNOWN)
            assert known == "accept_socket"
        for sequence in (WINDOW + 1, -WINDOW - 1, 1 << 31):
            other = asked(sequence, 0, flags, SocketState.OTHER_NUMBERS)
            assert other == "pass_on"
    for acknowledges in (WINDOW + 1, -WINDOW - 1, 1 << 31):
        assert asked(0, acknowledges, ACK, SocketState.OTHER_NUMBERS) == "pass_on"
        assert asked(0, acknowledges, RST, SocketState.KNOWN) == "accept_socket"


ports = count(41_000)
"""A port a test: a request outlives its listener."""


@dataclass(frozen=True)
class Opening:
    """The silent client of a family, who sends a SYN through the redirector, and more."""

    case: Case
    family: Family
    port: int = field(default_factory=lambda: next(ports))

    def packet(self, sequence: int, flags: int, *, rare: bool = False) -> bytes:
        """A packet from there."""
        shape = RARE[self.family.version] if rare else PLAIN
        ends = (self.family.silent, self.port, self.family.vip, PORT)
        return tcp_packet(*ends, flags=flags, numbers=(sequence, 1), **shape)

    def send_syn(self, state: SocketState, sequence: int = SYN_SEQUENCE) -> None:
        """The redirector sees a SYN."""
        assert self.case.ask(self.packet(sequence, SYN), state) == "accept_syn"

    def answer(self) -> None:
        """The server sees it, too, and answers: there is a request."""
        self.case.answered_syn(self.family, self.port, cookie=False)

    def asked(self, sequence: int, *, rare: bool = False, flags: int = ACK) -> str:
        """What becomes of another packet."""
        return self.case.ask(self.packet(sequence, flags, rare=rare), SocketState.REQUEST)


@families
@shapes
def test_a_request_keeps_what_comes_behind_its_syn(case: Case, family: Family, rare: bool) -> None:
    """A SYN in somebody else's name must not keep the packets of that connection."""
    case.listen(family.vip)
    client = Opening(case, family)
    client.send_syn(SocketState.LISTEN)
    client.answer()
    for flags in (ACK, ACK | RST, RST, ACK | FIN):
        for sequence in (SYN_SEQUENCE, SYN_SEQUENCE + 1, SYN_SEQUENCE + SYN_WINDOW):
            assert client.asked(sequence, rare=rare, flags=flags) == "accept_socket"
        for sequence in (SYN_SEQUENCE - 1, SYN_SEQUENCE + SYN_WINDOW + 1, FAR):
            assert client.asked(sequence, rare=rare, flags=flags) == "pass_on"


@families
def test_a_second_syn_does_not_change_whose_request_it_is(case: Case, family: Family) -> None:
    case.listen(family.vip)
    client = Opening(case, family)
    client.send_syn(SocketState.LISTEN)
    client.answer()
    client.send_syn(SocketState.REQUEST, FAR)
    assert client.asked(SYN_SEQUENCE + 1) == "accept_socket"
    assert client.asked(FAR + 1) == "pass_on"


def make_earlier(fd: int, seconds: float) -> None:
    """Move the only SYN that is remembered into the past."""
    key = first_key(fd)
    at, sequence, pad = struct.unpack("=QII", map_read(fd, key, 16))
    map_write(fd, key, struct.pack("=QII", at - int(seconds * 1e9), sequence, pad))


@families
def test_a_syn_is_remembered_as_long_as_a_request_can_live(case: Case, family: Family) -> None:
    fd = case.rig.dataplane.map_fd(OPENINGS)
    case.listen(family.vip)
    client = Opening(case, family)
    client.send_syn(SocketState.LISTEN)
    client.answer()
    make_earlier(fd, REQUEST_SECONDS - 2)
    assert client.asked(FAR) == "pass_on"
    make_earlier(fd, 2)
    case.memory.openings.forget()
    assert client.asked(FAR) == "accept_socket"


def test_remembered_syns_are_bounded(rig: Rig) -> None:
    info = bpf_syscall.map_info(rig.dataplane.map_fd(OPENINGS))
    assert (info.map_type, info.max_entries) == (MAP_TYPE_LRU_HASH, MOST_OPENINGS)
