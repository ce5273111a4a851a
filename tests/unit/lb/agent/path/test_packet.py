"""The bytes of a path probe, and what is read of what comes back."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.overhead import WRAP_BYTES
from lb.agent.path.packet import (
    SMALL_BYTES,
    EchoReply,
    Filter,
    Probe,
    TooBig,
    answer_filter,
    checksum,
    error_filter,
    parse,
    wrapped,
)

OWN, PEER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
TOKEN = bytes(range(16))
PROBE = Probe(OWN, PEER, identifier=0x1234, sequence=7, token=TOKEN, spread=0x7ABC)
GUE_PORT = 6080


def with_size(size: int) -> Probe:
    return Probe(OWN, PEER, 0x1234, 7, TOKEN, size)


@pytest.mark.parametrize("size", [SMALL_BYTES, 1328, 1500, 1501, 9000])
def test_a_probe_is_what_the_redirector_accepts(size: int) -> None:
    packet = wrapped(with_size(size), GUE_PORT)
    assert len(packet) == size
    outer, udp, gue, inner = packet[:20], packet[20:28], packet[28:36], packet[36:]
    for header, length, protocol in ((outer, size, 17), (inner[:20], size - WRAP_BYTES, 1)):
        assert header[:2] == b"\x45\0"
        assert struct.unpack("!H", header[2:4]) == (length,)
        assert header[6:8] == b"\x40\0", "DF, not a fragment"
        assert header[9] == protocol
        assert checksum(header) == 0
        assert header[12:20] == OWN.packed + PEER.packed
    port, to, length, check = struct.unpack("!HHHH", udp)
    assert (to, length, check) == (GUE_PORT, size - 20, 0)
    assert port & 0x8000
    assert gue == bytes.fromhex("01040000 00000000")
    icmp = inner[20:]
    assert icmp[:2] == b"\x08\0"
    assert checksum(icmp) == 0
    assert icmp[4:8] == bytes.fromhex("12340007")
    assert icmp[8:24] == TOKEN


def test_a_small_probe_has_64_bytes_inside() -> None:
    assert SMALL_BYTES - WRAP_BYTES == 64


def test_the_source_port_spreads_over_equal_paths() -> None:
    assert struct.unpack("!H", wrapped(PROBE, GUE_PORT)[20:22]) == (0xFABC,)


def echo_reply(probe: Probe) -> bytes:
    """What the stack answers: the inner packet, turned round."""
    inner = bytearray(wrapped(probe, GUE_PORT)[WRAP_BYTES:])
    inner[12:20] = inner[16:20] + inner[12:16]
    inner[20] = 0
    return bytes(inner)


def test_an_answer_has_token_and_length() -> None:
    reply = echo_reply(with_size(1500))
    expected = EchoReply(PEER, 0x1234, TOKEN, 1500 - WRAP_BYTES)
    assert parse(reply) == expected
    assert parse(reply[:128]) == expected, "the filter keeps only the start"


def too_big(quoted: bytes, mtu: int = 1400, code: int = 4) -> bytes:
    header = bytearray(20)
    header[0], header[9] = 0x45, 1
    return bytes(header) + struct.pack("!BBHHH", 3, code, 0, 0, mtu) + quoted


def test_an_icmp_error_names_target_and_mtu() -> None:
    quoted = wrapped(PROBE, GUE_PORT)[:28]
    assert parse(too_big(quoted)) == TooBig(PEER, 1400)
    assert parse(too_big(quoted, code=3)) is None
    assert parse(too_big(b"\x46" + quoted[1:])) is None
    assert parse(too_big(quoted[:9] + b"\x06" + quoted[10:])) is None


def test_other_icmp_is_not_read() -> None:
    assert parse(wrapped(PROBE, GUE_PORT)[WRAP_BYTES:]) is None, "a request"
    assert parse(b"") is None
    assert parse(echo_reply(PROBE)[:40]) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_a_value_or_nothing(data: bytes) -> None:
    parse(data)


def accepts(program: Filter, packet: bytes) -> bool:
    """Run a filter, as the kernel would."""
    a = x = position = 0
    formats = {0x50: "!B", 0x48: "!H", 0x40: "!I"}
    while True:
        code, true, false, k = program[position]
        position += 1
        if code == 0xB1:
            x = (packet[k] & 0xF) * 4
        elif code in formats:
            size = struct.calcsize(formats[code])
            if x + k + size > len(packet):
                return False
            (a,) = struct.unpack_from(formats[code], packet, x + k)
        elif code == 0x15:
            position += true if a == k else false
        else:
            assert code == 0x06
            return k > 0


def test_a_filter_keeps_answers_only() -> None:
    quoted = wrapped(PROBE, GUE_PORT)[:28]
    program = answer_filter(0x1234)
    assert accepts(program, echo_reply(PROBE))
    assert not accepts(answer_filter(0x1235), echo_reply(PROBE))
    assert not accepts(program, too_big(quoted)), "anybody can forge one"
    assert not accepts(program, wrapped(PROBE, GUE_PORT)[WRAP_BYTES:]), "requests"


def test_a_filter_keeps_errors_about_our_packets_only() -> None:
    quoted = wrapped(PROBE, GUE_PORT)[:28]
    program = error_filter(OWN, GUE_PORT)
    assert accepts(program, too_big(quoted))
    assert not accepts(program, too_big(quoted, code=1))
    assert not accepts(program, too_big(wrapped(PROBE, 6081)[:28]))
    others = Probe(PEER, OWN, 1, 1, TOKEN)
    assert not accepts(program, too_big(wrapped(others, GUE_PORT)[:28])), "not from this server"
    assert not accepts(program, echo_reply(PROBE))
    assert not accepts(program, wrapped(PROBE, GUE_PORT)[WRAP_BYTES:]), "requests"
