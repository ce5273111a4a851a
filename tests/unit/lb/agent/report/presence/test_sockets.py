"""Pieces of a dump as the kernel sends them: messages of any length, errors, and the end."""

from __future__ import annotations

import errno
import struct

import numpy as np
import pytest

from lb.agent.report.presence.sockets import PRESENT, RUN, columns, parse

HEADER = struct.Struct("=IHHII")
DONE, ERROR, SOCKET = 3, 2, 20


def message(number: int, extra: int = 0, family: int = 2) -> bytes:
    """A socket whose cookie is its number, with so many bytes of attributes."""
    local, remote = (
        bytes([192, 0, 2, 10]).ljust(16, b"\0"),
        bytes([198, 51, 100, 7]).ljust(16, b"\0"),
    )
    body = struct.pack("=BBBB", family, 1, 0, 0) + struct.pack(">HH", 443, 40000)
    body += local + remote + struct.pack("=IQ", 0, number) + bytes(20 + extra)
    data = HEADER.pack(HEADER.size + len(body), SOCKET, 2, 1, 0) + body
    return data + bytes(-len(data) % 4)


def end(kind: int = DONE, code: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + 4, kind, 2, 1, 0) + struct.pack("=i", -code)


def read(data: bytes) -> tuple[list[int], bool]:
    found, done = parse(memoryview(data))
    return [int(cookie) for piece in found for cookie in piece["cookie"]], done


def test_messages_of_one_length_become_one_array() -> None:
    data = b"".join(message(number) for number in range(10))
    found, done = parse(memoryview(data))
    assert (len(found), done) == (1, False)
    assert read(data) == (list(range(10)), False)


def test_messages_of_different_lengths_are_all_read() -> None:
    data = b"".join(message(number, extra=8 * (number * number % 5)) for number in range(900))
    assert read(data + end()) == (list(range(900)), True)


def test_more_than_one_run_of_one_length() -> None:
    data = b"".join(message(number) for number in range(2 * RUN + 3))
    assert read(data) == (list(range(2 * RUN + 3)), False)


@pytest.mark.parametrize("kind", [DONE, ERROR])
def test_an_error_ends_a_dump_with_its_reason(kind: int) -> None:
    with pytest.raises(OSError, match="No such file") as refused:
        read(message(1) + end(kind, errno.ENOENT))
    assert refused.value.errno == errno.ENOENT


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_piece_that_is_cut_off_is_an_error(cut: int) -> None:
    with pytest.raises(OSError, match="cut off"):
        read((message(1) + message(2))[:-cut])


def test_an_ipv4_address_in_an_ipv6_socket_is_an_ipv4_address() -> None:
    mapped = bytes(10) + b"\xff\xff"
    data = bytearray(message(1, family=10))
    at = HEADER.size + 8
    data[at : at + 16] = mapped + bytes([192, 0, 2, 10])
    data[at + 16 : at + 32] = mapped + bytes([198, 51, 100, 7])
    found, _ = parse(memoryview(bytes(data) + message(2)))
    both = columns(np.concatenate(found))
    assert both.flows.is_ipv4.all()
    for column in both.flows:
        assert column[0].tolist() == column[1].tolist()
    assert both.local_port.tolist() == [443, 443]


def test_a_connection_is_every_state_but_three() -> None:
    """include/net/tcp_states.h: TIME_WAIT, CLOSE and LISTEN are 6, 7 and 10."""
    assert {state for state in range(32) if PRESENT >> state & 1} == {1, 2, 3, 4, 5, 8, 9, 11, 12}


def test_words_behind_an_ipv4_address_do_not_count() -> None:
    data = bytearray(message(1))
    at = HEADER.size + 8
    data[at + 4 : at + 16] = bytes(range(1, 13))
    found, _ = parse(memoryview(bytes(data)))
    plain, _ = parse(memoryview(message(1)))
    assert (columns(found[0]).flows.destination == columns(plain[0]).flows.destination).all()
