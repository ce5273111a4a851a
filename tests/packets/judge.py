"""Runs a row in an executor, and compares each packet's end with the page and with the model."""

from __future__ import annotations

from typing import Protocol

from tests.model import Config, Memory, Result, SameSocket, SocketState, forward, redirect
from tests.packets.page import verdict_of
from tests.packets.row import Packet, Program, Row

WRAP = 36
ETHERNET = 14
ANSWERS_A_WINDOW = 64
KINDS = {4: b"\x08\x00", 41: b"\x86\xdd"}
"""The EtherType of what GUE's proto byte names."""


class Executor(Protocol):
    """What can run the programs."""

    def forget(self) -> None:
        """Remember nothing of earlier packets."""

    def configure(self, config: Config) -> None:
        """Know all of a configuration and nothing else; what is remembered stays."""

    def run(self, program: Program, packet: Packet) -> Result:
        """What the program does with a packet."""


class NeverAsked:
    """An oracle that fails when it is asked."""

    def lookup(self, *_: object) -> SocketState:
        """Fail."""
        raise AssertionError("the sockets were asked")


class Model:
    """The model as an executor."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._config: Config | None = None

    def forget(self) -> None:
        """Remember nothing of earlier packets."""
        self._memory = Memory(answers_left=ANSWERS_A_WINDOW)

    def configure(self, config: Config) -> None:
        """Know a configuration."""
        self._config = config

    def run(self, program: Program, packet: Packet) -> Result:
        """What the model does with a packet."""
        assert self._config is not None
        if program == "forwarder":
            return forward(packet.frame, self._config, self._memory)
        sockets = NeverAsked() if packet.state is None else SameSocket(packet.state)
        return redirect(packet.frame, self._config, sockets, self._memory)


def judge(row: Row, executor: Executor) -> None:
    """Fail unless an executor does with a row's packets what the row expects."""
    for got, packet in run(row, executor):
        assert_expected(got, packet)


def judge_beside_model(row: Row, executor: Executor) -> None:
    """The same; and the result must equal the model's, to the byte."""
    both = zip(run(row, executor), run(row, Model()), strict=True)
    for (got, packet), (wanted, _) in both:
        assert_expected(got, packet)
        assert got == wanted


def run(row: Row, executor: Executor) -> list[tuple[Result, Packet]]:
    """What an executor does with each packet of a row."""
    executor.forget()
    results = []
    for packet in row.packets:
        executor.configure(packet.config or row.config)
        results.append((executor.run(row.program, packet), packet))
    return results


def assert_expected(got: Result, packet: Packet) -> None:
    """Fail unless verdict, counters and frame are those that the row expects."""
    wanted = (verdict_of(packet.counter), packet.counter, packet.service)
    assert (got.verdict, got.counter, got.service) == wanted
    if got.verdict == "drop":
        assert got.frame is None
        return
    assert got.frame is not None
    if isinstance(packet.out, bytes):
        assert got.frame == packet.out
        return
    _assert_kind_of_change(packet, got.frame)
    assert packet.out is None or packet.out(got.frame)


def _assert_kind_of_change(packet: Packet, after: bytes) -> None:
    """What an end does to every frame (sections 2, 4.2, 4.5 and 6.3)."""
    before, counter = packet.frame, packet.counter
    if counter in {"pass_to_self", "tx_forward", "tx_forward_chain"}:
        assert len(after) > len(before)
        assert after.endswith(before[_ip_at(before) :])
    elif counter == "tx_too_big":
        assert after != before
    elif counter == "pass_on":
        assert after[48] == before[48] + 1
        assert _unchanged_on_the_way(after) == _unchanged_on_the_way(before)
    elif counter.startswith("accept_"):
        inner = before[ETHERNET + WRAP + 4 * before[49] :]
        assert after == before[:12] + KINDS[before[43]] + inner
    else:
        assert after == before


def _ip_at(frame: bytes) -> int:
    tags = 0
    while frame[12 + 4 * tags : 14 + 4 * tags] in {b"\x81\x00", b"\x88\xa8"}:
        tags += 1
    return ETHERNET + 4 * tags


def _unchanged_on_the_way(frame: bytes) -> tuple[bytes, ...]:
    """All but MACs, checksum, addresses and next_hop."""
    return frame[12:24], frame[34:48], frame[49:]
