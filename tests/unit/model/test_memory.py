"""What is remembered between packets, and how much of it."""

from __future__ import annotations

import pytest

from tests.model import FragmentKey, Memory, Remembered
from tests.model.frames import tcp_packet
from tests.model.packet import read_packet
from tests.packets.world import CLIENT, VIP


def _key(number: int) -> FragmentKey:
    return FragmentKey(CLIENT, VIP, number, 17)


def test_the_one_unused_for_longest_goes() -> None:
    remembered = Remembered[FragmentKey, int](most=3)
    for number in range(3):
        remembered.remember(_key(number), number)
    assert remembered.recall(_key(0)) == 0  # a use
    remembered.remember(_key(1), 10)  # one too
    remembered.remember(_key(3), 3)
    found = [remembered.recall(_key(number)) for number in range(4)]
    assert found == [0, 10, None, 3]
    assert len(remembered) == 3


def test_asking_in_vain_remembers_nothing() -> None:
    remembered = Remembered[FragmentKey, int]()
    assert remembered.recall(_key(0)) is None
    assert len(remembered) == 0


def test_answers_left() -> None:
    assert Memory().may_answer()
    memory = Memory(answers_left=1)
    assert [memory.may_answer(), memory.may_answer()] == [True, False]


def test_a_whole_packet_has_no_key() -> None:
    packet = read_packet(tcp_packet(CLIENT, 1, VIP, 80), 4)
    assert packet is not None
    with pytest.raises(ValueError, match="no fragment key"):
        FragmentKey.of(packet)
