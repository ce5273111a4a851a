"""The probe's bytes, its answers, its schedule."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.observe.probe.packet import (
    Probe,
    ProbeAnswer,
    answers,
    checksum,
    parse_answer,
    parse_segment,
    syn,
    wrapped,
)
from controlplane.observe.probe.schedule import ProbeSchedule

PROBE = Probe(
    dip=IPv4Address("10.1.0.2"),
    vip=IPv4Address("192.0.2.1"),
    vip_port=80,
    prober=IPv4Address("10.0.0.9"),
    source=IPv4Address("10.0.0.9"),
    port=40000,
    isn=0x01020304,
    spread=0x1234,
)
PROBE6 = replace(PROBE, vip=IPv6Address("2001:db8::1"), source=IPv6Address("2001:db8:b::2"))
ANSWER = ProbeAnswer(PROBE.vip, 80, 40000, 0x01020305)


def test_the_bytes_of_a_probe() -> None:
    """From docs/wire.md, sections 2 and 7; the checksums are those that scapy computes."""
    assert wrapped(PROBE, 6080).hex(" ", 4) == (
        "4500004c 00004000 40112696 0a000009 0a010002 "  # outer IPv4: 76 bytes, DF, TTL 64, UDP
        "923417c0 00380000 "  # UDP: 0x8000 | spread, 6080, 56 bytes, no checksum
        "01040000 00000000 "  # GUE: hlen 1, proto 4; no hops
        "45000028 00004000 40066ec6 0a000009 c0000201 "  # inner IPv4: 40 bytes, TCP
        "9c400050 01020304 00000000 50020400 3f420000"  # SYN
    )


def test_checksums_verify() -> None:
    packet = wrapped(PROBE, 6080)
    assert checksum(packet[:20]) == 0
    assert checksum(packet[36:56]) == 0
    inner = syn(PROBE)
    pseudo = PROBE.prober.packed + PROBE.vip.packed + struct.pack("!BBH", 0, 6, 20)
    assert checksum(pseudo + inner[20:]) == 0


def test_the_bytes_of_a_probe_of_an_ipv6_vip() -> None:
    """From docs/wire.md, sections 2 and 7; the checksums are those that scapy computes."""
    assert wrapped(PROBE6, 6080).hex(" ", 4) == (
        "45000060 00004000 40112682 0a000009 0a010002 "  # outer IPv4: 96 bytes, DF, TTL 64, UDP
        "923417c0 004c0000 "  # UDP: 0x8000 | spread, 6080, 76 bytes, no checksum
        "01290000 00000000 "  # GUE: hlen 1, proto 41; no hops
        "60000000 00140640 20010db8 000b0000 00000000 00000002 "  # inner IPv6: 20 bytes, TCP
        "20010db8 00000000 00000000 00000001 "
        "9c400050 01020304 00000000 50020400 afcc0000"  # SYN
    )


def test_a_probe_does_not_mix_ip_versions() -> None:
    with pytest.raises(ValueError, match=r"from 10\.0\.0\.9 cannot be sent to 2001:db8::1"):
        wrapped(replace(PROBE6, source=PROBE.source), 6080)


def test_an_ipv6_segment_is_an_answer_as_well() -> None:
    segment = struct.pack("!HHIIBBHHH", 80, 40000, 99, 0x01020305, 5 << 4, 0x14, 0, 0, 0)
    answer = parse_segment(segment, IPv6Address("2001:db8::1"))
    assert answer
    assert answers(answer, PROBE6)
    assert not answers(answer, PROBE)
    assert parse_segment(segment[:-1], IPv6Address("2001:db8::1")) is None


def reply(flags: int, ack: int = 0x01020305, options: bytes = b"") -> bytes:
    ip = bytes((0x45 + len(options) // 4,)) + bytes(8) + b"\x06" + bytes(2)
    ip += PROBE.vip.packed + PROBE.prober.packed + options
    return ip + struct.pack("!HHIIBBHHH", 80, 40000, 99, ack, 5 << 4, flags, 0, 0, 0)


@pytest.mark.parametrize("flags", [0x12, 0x14])
@pytest.mark.parametrize("options", [b"", bytes(4)])
def test_syn_ack_and_reset_are_answers(flags: int, options: bytes) -> None:
    answer = parse_answer(reply(flags, options=options))
    assert answer == replace(ANSWER, reset=flags == 0x14)
    assert answers(answer, PROBE)


@pytest.mark.parametrize("flags", [0x02, 0x04, 0x10, 0x18, 0x00])
def test_other_segments_are_none(flags: int) -> None:
    assert parse_answer(reply(flags)) is None


@given(st.binary(max_size=80))
def test_whatever_arrives_does_no_harm(data: bytes) -> None:
    answer = parse_answer(data)
    assert answer is None or not answers(answer, PROBE) or data[12:16] == PROBE.vip.packed


def test_truncation_at_every_offset() -> None:
    whole = reply(0x12, options=bytes(4))
    assert [n for n in range(len(whole) + 1) if parse_answer(whole[:n])] == [len(whole)]


@pytest.mark.parametrize(
    "forged",
    [
        replace(ANSWER, acknowledged=0x01020304),
        replace(ANSWER, port=40001),
        replace(ANSWER, vip_port=81),
        replace(ANSWER, vip=IPv4Address("192.0.2.2")),
    ],
)
def test_who_did_not_see_the_syn_cannot_answer_it(forged: ProbeAnswer) -> None:
    assert not answers(forged, PROBE)


def test_sequence_numbers_wrap_around() -> None:
    last = replace(PROBE, isn=0xFFFFFFFF)
    assert answers(replace(ANSWER, acknowledged=0), last)


class Sender:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.works = True

    def __call__(self, name: str) -> Probe | None:
        self.sent.append(name)
        return replace(PROBE, isn=len(self.sent)) if self.works else None


def test_three_probes_fail_in_half_a_second() -> None:
    probing, send = ProbeSchedule(0.17), Sender()
    now = 10.0
    while probing.failed().get("a", 0) < 3:
        probing.round(["a"], now, send)
        due = probing.next_due()
        assert due
        now = due
    assert now - 10.0 <= 0.17 * 4
    assert probing.failed() == {"a": 3}
    assert probing.sent == 4
    assert probing.unanswered == 3


def test_nothing_is_judged_before_its_time() -> None:
    probing, send = ProbeSchedule(0.2), Sender()
    for now in (0.0, 0.05, 0.1, 0.15):
        probing.round(["a"], now, send)
    assert (send.sent, probing.failed()) == (["a"], {"a": 0})


def test_an_answer_makes_it_live_a_late_one_too() -> None:
    probing, send = ProbeSchedule(0.2), Sender()
    for now in (0.0, 0.2, 0.4):
        probing.round(["a"], now, send)
    assert probing.failed() == {"a": 2}
    assert probing.hear([replace(ANSWER, acknowledged=2)]) == {"a"}
    assert probing.failed() == {"a": 0}
    probing.round(["a"], 0.6, send)
    assert probing.failed() == {"a": 0}


def test_an_answer_to_nothing_is_nothing() -> None:
    probing, send = ProbeSchedule(0.2), Sender()
    probing.round(["a"], 0.0, send)
    assert probing.hear([replace(ANSWER, acknowledged=77)]) == set()


def test_one_who_speaks_again_is_forgotten() -> None:
    probing, send = ProbeSchedule(0.2), Sender()
    for now in (0.0, 0.2, 0.4):
        probing.round(["a", "b"], now, send)
    probing.round(["b"], 0.5, send)
    assert probing.failed() == {"b": 2}
    probing.round(["a", "b"], 0.6, send)
    assert probing.failed()["a"] == 0


def test_what_could_not_be_sent_proves_nothing() -> None:
    probing, send = ProbeSchedule(0.2), Sender()
    send.works = False
    for now in (0.0, 0.2, 0.4, 0.6):
        probing.round(["a"], now, send)
    assert probing.failed() == {"a": 0}
    assert probing.sent == 0
