"""bpf/headers.h on this machine: extension headers, fragments, packets inside ICMP errors.

The expectations are written from docs/wire.md, sections 4.1, 4.3 and 6.1. Packets end at a page
that may not be read.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.host_compiler import compile_c
from tests.property.guarded import GuardedFrame

OK, TRUNCATED, TOO_MANY = range(3)
WHOLE, FIRST, LATER = range(3)
EMBEDDED_OK, MALFORMED, SOURCE, EXT_HEADERS, OTHER = range(5)
EXTENSIONS = (0, 43, 44, 51, 60)
AUTH, FRAGMENT = 51, 44
VIP4, CLIENT4 = b"\xc0\x00\x02\x0a", b"\xc6\x33\x64\x07"
VIP6, CLIENT6 = b"\x20\x01" + bytes(13) + b"\x10", b"\x20\x02" + bytes(13) + b"\x07"
IPV6_LEN = 40
PORTS = bytes.fromhex("01bb9c40")
TURNED = int.from_bytes(PORTS[2:] + PORTS[:2], "little")


class Headers(ctypes.Structure):
    """struct lb_headers."""

    _fields_ = [
        (name, ctypes.c_uint64) for name in ("length", "protocol", "fragment", "id", "key_protocol")
    ]


class Embedded(ctypes.Structure):
    """struct lb_embedded."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("at", "length", "ports", "protocol")]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled header."""
    source = Path(__file__).with_name("host_ext_headers.c")
    output = tmp_path_factory.mktemp("host") / "ext_headers.so"
    return ctypes.CDLL(str(compile_c(source, output, "-shared", "-fPIC")))


@pytest.fixture(scope="module")
def guarded() -> GuardedFrame:
    return GuardedFrame()


def u64(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)


@dataclass(frozen=True)
class Ext:
    """One extension header: its number, its second byte, and a fragment header's fields."""

    number: int
    size: int = 0
    field: int = 0
    id: int = 0x01020304

    def bytes_with(self, following: int) -> bytes:
        """The header, naming the one that follows."""
        head = bytes((following, self.size)) + struct.pack(">HI", self.field, self.id)
        return head.ljust(self.length, b"\0")

    @property
    def length(self) -> int:
        """Its length by its own field; at least the 8 bytes that are read."""
        if self.number == FRAGMENT:
            return 8
        return (self.size + 2) * 4 if self.number == AUTH else (self.size + 1) * 8


def ipv6(exts: list[Ext], protocol: int, payload: bytes = b"") -> bytes:
    """An IPv6 packet from the client to the VIP."""
    numbers = [ext.number for ext in exts] + [protocol]
    body = b"".join(
        ext.bytes_with(following) for ext, following in zip(exts, numbers[1:], strict=True)
    )
    body += payload
    return struct.pack(">IHBB", 6 << 28, len(body), numbers[0], 64) + CLIENT6 + VIP6 + body


def wanted6(packet: bytes) -> tuple[int, tuple[int, int, int] | None]:
    """Section 4.1: what reading ends with; if it is well: length, protocol, fragment."""
    number, at, seen, fragment = packet[6], IPV6_LEN, 0, WHOLE
    known_fragment = False
    while number in EXTENSIONS:
        if seen == 6:
            return TOO_MANY, None
        if len(packet) - at < 8:
            return TRUNCATED, None
        following, size, field = struct.unpack_from(">BBH", packet, at)
        at += Ext(number, size).length
        seen += 1
        if at - IPV6_LEN > 256:
            return TOO_MANY, None
        if number == FRAGMENT:
            if known_fragment:
                return TRUNCATED, None
            known_fragment = True
            if field >> 3:
                return OK, (at, following, LATER)
            fragment = FIRST if field & 1 else WHOLE
        number = following
    return OK, (at, number, fragment)


exts = st.builds(
    Ext,
    st.sampled_from((*EXTENSIONS, FRAGMENT)),
    st.one_of(st.integers(0, 3), st.integers(0, 255)),
    st.sampled_from((0, 0, 1, 6, 8, 9, 0xFFF8)),
)


@given(
    chain=st.lists(exts, max_size=8),
    protocol=st.sampled_from((6, 17, 58, 59, 50, 63, 64, 108, 255)),
    payload=st.integers(0, 24),
    cut=st.one_of(st.none(), st.integers(40, 340)),
)
@example([Ext(0), Ext(60), Ext(43), Ext(51, 1), Ext(44), Ext(60)], 6, 20, None)
@example([Ext(0)] * 7, 6, 20, None)
@example([Ext(0, 31)], 6, 20, None)
@example([Ext(0, 30), Ext(51)], 6, 20, None)
@example([Ext(0, 32)], 6, 20, None)
@example([Ext(44), Ext(44)], 6, 20, None)
@example([Ext(44, field=8), Ext(44)], 6, 20, None)
@example([Ext(44, 7, field=1)], 17, 20, None)
def test_extension_headers_are_read_as_the_page_says(
    host: Any,
    guarded: GuardedFrame,
    chain: list[Ext],
    protocol: int,
    payload: int,
    cut: int | None,
) -> None:
    packet = ipv6(chain, protocol, bytes(payload))[:cut]
    got = Headers()
    result = host.host_read_headers6(
        guarded.put(packet), u64(len(packet)), u64(len(packet)), ctypes.byref(got)
    )
    wanted, fields = wanted6(packet)
    assert result == wanted
    if fields is not None:
        assert (got.length, got.protocol, got.fragment) == fields
    if fields is not None and got.fragment != WHOLE:
        header = next(n for n, ext in enumerate(chain) if ext.number == FRAGMENT)
        following = [*(ext.number for ext in chain), protocol][header + 1]
        assert (got.id, got.key_protocol) == (0x04030201, following)


@given(payload=st.integers(0, 30), padding=st.integers(0, 30))
def test_padding_behind_a_packet_is_not_read_as_a_header(
    host: Any, guarded: GuardedFrame, payload: int, padding: int
) -> None:
    packet = ipv6([Ext(0)] * 3, 6)[: 40 + payload]
    frame = packet + bytes(padding)
    got = Headers()
    at = guarded.put(frame)
    result = host.host_read_headers6(at, u64(len(frame)), u64(len(packet)), ctypes.byref(got))
    assert result == (OK if payload >= 24 else TRUNCATED)


@pytest.mark.parametrize(
    ("ihl", "field", "length", "result", "fragment"),
    [
        (5, 0x4000, 20, OK, WHOLE),
        (5, 0x8000, 20, OK, WHOLE),
        (6, 0x2000, 24, OK, FIRST),
        (6, 0x2000, 23, TRUNCATED, FIRST),
        (15, 0x2001, 60, OK, LATER),
        (15, 0x1FFF, 60, OK, LATER),
        (15, 0, 59, TRUNCATED, WHOLE),
    ],
)
def test_ipv4_headers(
    host: Any,
    guarded: GuardedFrame,
    ihl: int,
    field: int,
    length: int,
    result: int,
    fragment: int,
) -> None:
    packet = struct.pack(">BBHHHBBH", 0x40 | ihl, 0, length, 0x0102, field, 64, 17, 0)
    packet = (packet + CLIENT4 + VIP4).ljust(length, b"\1")
    got = Headers()
    assert host.host_read_headers4(guarded.put(packet), u64(length), ctypes.byref(got)) == result
    assert (got.length, got.protocol, got.fragment) == (ihl * 4, 17, fragment)
    assert (got.id, got.key_protocol) == (0x0201, 17)


def embedded4(protocol: int = 6, *, ihl: int = 5, field: int = 0, source: bytes = VIP4) -> bytes:
    """What a server sent: an IPv4 header and 8 bytes."""
    head = struct.pack(">BBHHHBBH", 0x40 | ihl, 0, 1500, 0, field, 64, protocol, 0)
    return (head + source + CLIENT4).ljust(ihl * 4, b"\1") + PORTS + bytes(4)


def embedded6(chain: list[Ext], protocol: int = 6, *, source: bytes = VIP6) -> bytes:
    packet = bytearray(ipv6(chain, protocol, PORTS + bytes(4)))
    packet[8:40] = source + CLIENT6
    return bytes(packet)


def error4(embedded: bytes, *, options: int = 0) -> bytes:
    length = 20 + options
    head = struct.pack(">BBHHHBBH", 0x40 | length // 4, 0, length, 0, 0, 64, 1, 0)
    return (head + CLIENT4 + VIP4).ljust(length, b"\1") + b"\3\4" + bytes(6) + embedded


def error6(embedded: bytes, chain: list[Ext]) -> bytes:
    return ipv6(chain, 58, b"\2" + bytes(7) + embedded)


CASES4 = (
    (error4(embedded4()), 28, EMBEDDED_OK),
    (error4(embedded4(17)), 28, EMBEDDED_OK),
    (error4(embedded4(ihl=15), options=40), 68, EMBEDDED_OK),
    (error4(embedded4(field=0x2000)), 28, EMBEDDED_OK),
    (error4(embedded4(field=0x2001)), 28, OTHER),
    (error4(embedded4(1)), 28, OTHER),
    (error4(embedded4(1))[:-1], 28, OTHER),
    (error4(embedded4(source=CLIENT4)), 28, SOURCE),
    (error4(embedded4(ihl=4)), 28, MALFORMED),
    (error4(embedded4())[:-1], 28, MALFORMED),
    (error4(embedded4())[:47], 28, MALFORMED),
    (error4(embedded4(ihl=15))[:-9], 28, MALFORMED),
    (error4(embedded6([])), 28, MALFORMED),
)
MANY = [Ext(0)] * 7
LONGEST = [Ext(60, 31)]
CASES6 = (
    (error6(embedded6([]), []), 48, EMBEDDED_OK),
    (error6(embedded6([], 17), []), 48, EMBEDDED_OK),
    (error6(embedded6(LONGEST, 17), LONGEST), 304, EMBEDDED_OK),
    (error6(embedded6([Ext(44, field=1)]), []), 48, EMBEDDED_OK),
    (error6(embedded6([Ext(44, field=8)]), []), 48, OTHER),
    (error6(embedded6([], 58), []), 48, OTHER),
    (error6(embedded6(MANY), []), 48, EXT_HEADERS),
    (error6(embedded6(MANY, source=CLIENT6), []), 48, SOURCE),
    (error6(embedded6([], source=VIP6[:15] + b"\0"), []), 48, SOURCE),
    (error6(embedded6([], source=b"\0" + VIP6[1:]), []), 48, SOURCE),
    (error6(embedded6([]), [])[:-1], 48, MALFORMED),
    (error6(embedded6([]), [])[:87], 48, MALFORMED),
    (error6(embedded6([Ext(60)]), [])[:-9], 48, MALFORMED),
    (error6(embedded4(), []), 48, MALFORMED),
)


@pytest.mark.parametrize(
    ("version", "packet", "at", "result"),
    [(4, *case) for case in CASES4] + [(6, *case) for case in CASES6],
)
def test_the_packet_inside_an_icmp_error(
    host: Any, guarded: GuardedFrame, version: int, packet: bytes, at: int, result: int
) -> None:
    read = host.host_read_embedded4 if version == 4 else host.host_read_embedded6
    got = Embedded()
    assert read(guarded.put(packet), u64(len(packet)), u64(at), ctypes.byref(got)) == result
    if result == EMBEDDED_OK:
        assert (got.at, got.length, got.ports) == (at, len(packet), TURNED)
        assert got.protocol in {6, 17}


@given(cut=st.integers(20, 90), flips=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255))))
def test_no_byte_behind_a_damaged_error_is_read(
    host: Any, guarded: GuardedFrame, cut: int, flips: list[tuple[int, int]]
) -> None:
    for whole, at, read, least in (
        (error4(embedded4(ihl=7)), 28, host.host_read_embedded4, 20),
        (error6(embedded6([Ext(0), Ext(44)]), []), 48, host.host_read_embedded6, 40),
    ):
        packet = bytearray(whole)
        for place, value in flips:
            packet[least + place % (len(packet) - least)] = value
        cut_off = bytes(packet[: max(cut, least)])
        got = Embedded()
        read(guarded.put(cut_off), u64(len(cut_off)), u64(at), ctypes.byref(got))


@pytest.mark.parametrize("number", range(256))
def test_what_a_later_fragment_and_an_error_may_be(host: Any, number: int) -> None:
    assert bool(host.host_key_protocol_ok(u64(4), u64(number))) == (number in {6, 17})
    wanted = number in {6, 17, *EXTENSIONS}
    assert bool(host.host_key_protocol_ok(u64(6), u64(number))) == wanted
    assert bool(host.host_icmp_is_error(u64(4), u64(number))) == (number in {3, 11, 12})
    assert bool(host.host_icmp_is_error(u64(6), u64(number))) == (number in {1, 2, 3, 4})
