"""The pure headers of bpf/, compiled for this machine and fuzzed by Hypothesis, without root.

Frames end at a page that may not be read: a check that looks one byte too far kills the test.
"""

from __future__ import annotations

import ctypes
import random
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import abi
from lb.dataplane.cluster import checksum_part
from lb.dataplane.lookup import (
    KnownSlot,
    ServiceSlot,
    address_word,
    choose_view,
    fill_rows,
    known_records,
    known_rows_of,
    service_match,
    service_records,
    service_rows_of,
    swap16,
)
from lb.dataplane.tables import key_schedule
from tests.dataplane import fuzzing
from tests.host_compiler import compile_c
from tests.model import Config, Flow, Service, forward, outer_source_port
from tests.model.checksum import adjusted_checksum, internet_checksum
from tests.model.ecn import decapsulated_ecn
from tests.model.frames import ethernet, gue_packet, tcp_packet
from tests.model.inner import inner_problem
from tests.model.visits import visiting_order
from tests.property.guarded import GuardedFrame

PARSED = -1
IF_VIP = 0x100
OWN = fuzzing.OWN
VIP = fuzzing.VIPS[0]


class Packet(ctypes.Structure):
    """struct lb_packet."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("addresses", "ports", "daddr", "dport", "protocol", "total_len")
    ]


class Tunnel(ctypes.Structure):
    """struct lb_tunnel."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("total_len", "saddr", "tos", "proto"),
            *("forward_syn", "next_hop", "hop_count"),
        )
    ]


class Inner(ctypes.Structure):
    """struct lb_inner."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("saddr", "daddr", "ports", "protocol", "tos", "tcp_flags")
    ]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled headers."""
    source = Path(__file__).with_name("host_headers.c")
    output = tmp_path_factory.mktemp("host") / "headers.so"
    library = ctypes.CDLL(str(compile_c(source, output, "-shared", "-fPIC")))
    for name in (
        *("flow_hash", "source_port", "chain_path", "chain_hops", "find_service", "known_word"),
        *("hop_ahead", "checksum_after_tos", "outer_checksum"),
    ):
        getattr(library, f"host_{name}").restype = ctypes.c_uint64
    return library


@pytest.fixture(scope="module")
def guarded() -> GuardedFrame:
    return GuardedFrame()


def u64(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)


def length(frame: bytes) -> ctypes.c_uint64:
    return u64(len(frame))


def random_of(seed: int) -> random.Random:
    return random.Random(seed)


addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
ports = st.integers(0, 2**16 - 1)
keys = st.binary(min_size=16, max_size=16)


def split(key: bytes) -> tuple[ctypes.c_uint64, ctypes.c_uint64]:
    return u64(int.from_bytes(key[:8], "little")), u64(int.from_bytes(key[8:], "little"))


@given(
    key=keys, protocol=st.sampled_from((6, 17)), source=addresses, sport=ports, target=addresses,
    dport=ports,
)  # fmt: skip
def test_flow_hash_is_siphash(
    host: Any,
    key: bytes,
    protocol: int,
    source: IPv4Address,
    sport: int,
    target: IPv4Address,
    dport: int,
) -> None:
    words = u64(address_word(source) | address_word(target) << 32)
    both = u64(swap16(sport) | swap16(dport) << 16)
    got = host.host_flow_hash(*split(key), words, both, u64(protocol))
    wanted = Flow(protocol, source, sport, target, dport).hash(key)
    assert got == wanted
    assert host.host_source_port(u64(got)) == outer_source_port(wanted)


@given(key=keys)
def test_the_key_schedule_of_python_is_that_of_c(host: Any, key: bytes) -> None:
    schedule = (ctypes.c_uint64 * 4)()
    host.host_key_schedule(*split(key), schedule)
    assert tuple(schedule) == key_schedule(key)


def expected_of_parse(frame: bytes) -> tuple[str, str]:
    """Counters of lines F1 to F11 for a VIP and for none; "parsed" if none of them applies."""
    destination = IPv4Address(frame[30:34]) if len(frame) >= 34 else VIP
    # a service on no real port keeps the address a VIP without F13 finding anything
    bare = Config(self_dip=IPv4Address("10.0.0.99"), mac=bytes(6), gue_port=0)
    vip = Config(
        self_dip=IPv4Address("10.0.0.99"),
        mac=bytes(6),
        gue_port=0,
        services=tuple(
            Service(destination, protocol, port, "p")
            for protocol in (6, 17)
            for port in {0, *(int.from_bytes(frame[36:38], "big"),)}
        ),
    )
    return forward(frame, vip).counter, forward(frame, bare).counter


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 80))
def test_parsing_any_frame_of_any_length(
    host: Any, guarded: GuardedFrame, seed: int, cut: int
) -> None:
    rng = random_of(seed)
    frame = fuzzing.random_vip_frame(rng)
    frame = frame[:cut] if rng.random() < 0.5 else frame
    at = guarded.put(frame)
    slow, fast = Packet(), Packet()
    reason = host.host_parse_slow(at, length(frame), ctypes.byref(slow))
    if host.host_parse_fast(at, length(frame), ctypes.byref(fast)):
        assert reason == PARSED
        assert bytes(fast) == bytes(slow)
    for_vip, for_none = expected_of_parse(frame)
    if reason == PARSED:
        ok = host.host_total_len_ok(ctypes.byref(slow), length(frame))
        assert for_vip == ("drop_no_table" if ok else "drop_malformed")
    elif reason & IF_VIP:
        assert (abi.COUNTERS[reason & ~IF_VIP], "pass_no_service") == (for_vip, for_none)
    else:
        assert (abi.COUNTERS[reason],) * 2 == (for_vip, for_none)


@given(
    slots=st.lists(st.integers(0, 4095), min_size=4, max_size=4),
    protocol=st.sampled_from((6, 17)),
    stateless=st.booleans(),
)
def test_chain_path_is_the_order_of_visits(
    host: Any, slots: list[int], protocol: int, stateless: bool
) -> None:
    word = sum(slot << 16 * place for place, slot in enumerate(slots))
    path = host.host_chain_path(u64(word), u64(protocol), u64(int(stateless)))
    chain = tuple(slots[: slots.index(0)] if 0 in slots else slots)
    wanted = visiting_order(chain, protocol, stateless=stateless) if chain else ()
    got = [path >> 16 * place & 0xFFFF for place in range(4)]
    assert tuple(got[: len(wanted)]) == tuple(wanted)
    assert not any(got[len(wanted) :])
    assert host.host_chain_hops(u64(path)) == max(0, len(wanted) - 1)
    if host.host_chain_at_rest(u64(word), u64(protocol), u64(int(stateless))):
        assert len(wanted) <= 1


@given(
    vips=st.sets(addresses, max_size=40),
    dips=st.sets(st.integers(1, 2**32 - 1).map(IPv4Address), max_size=60),
    seed=st.integers(0, 2**32),
)
def test_look_up_tables_hold_what_was_put_in(
    host: Any, vips: set[IPv4Address], dips: set[IPv4Address], seed: int
) -> None:
    rng = random_of(seed)
    half = rng.randrange(2)
    state = np.zeros(1, dtype=abi.STATE)
    slots = [
        ServiceSlot(service_match(abi.ServiceKind.SERVICE4, vip, protocol, port), service=number)
        for number, (vip, protocol, port) in enumerate(
            (vip, protocol, port)
            for vip in sorted(vips)
            for protocol in (6, 17)
            for port in (0, 80)
        )
    ]
    slots += [ServiceSlot(service_match(abi.ServiceKind.VIP4, vip, 0, 0)) for vip in sorted(vips)]
    known = [KnownSlot(dip, number + 1, 1) for number, dip in enumerate(sorted(dips))]
    matches = np.array([slot.match for slot in slots], dtype=np.uint64)
    words = np.array([address_word(slot.address) for slot in known], dtype=np.uint64)
    view = choose_view(half, matches, words, rng)
    fill_rows(
        state["service"]["entry"][0, half], service_rows_of(view, matches), service_records(slots)
    )
    fill_rows(state["known"]["entry"][0, half], known_rows_of(view, words), known_records(known))
    state["config"]["view"] = view
    at = ctypes.c_void_p(state.ctypes.data)
    for slot in slots:
        match = slot.match
        if match >> 56 == abi.ServiceKind.SERVICE4:
            fields = u64(match & 0xFFFFFFFF), u64(match >> 32 & 0xFFFF), u64(match >> 48 & 0xFF)
            assert host.host_find_service(at, *fields) == slot.service
    for other in (*sorted(vips), *sorted(dips), IPv4Address(rng.getrandbits(32))):
        word = u64(address_word(other))
        assert bool(host.host_is_vip(at, word)) == (other in vips)
        expected = (sorted(dips).index(other) + 1) << 16 | 1 if other in dips else 0
        assert host.host_known_word(at, word) == expected
        missing = host.host_find_service(at, word, u64(swap16(81)), u64(6))
        assert missing == 2**64 - 1


@given(
    seed=st.integers(0, 2**32),
    hops=st.integers(0, 3),
    mac=st.one_of(st.none(), st.binary(min_size=6, max_size=6)),
    hash_=st.integers(0, 2**64 - 1),
)
def test_the_wrap_is_that_of_the_model(
    host: Any, seed: int, hops: int, mac: bytes | None, hash_: int
) -> None:
    rng = random_of(seed)
    inner = fuzzing.random_inner(rng)
    frame = ethernet(inner)
    own, other = IPv4Address(rng.getrandbits(32)), IPv4Address(rng.getrandbits(32))
    config = np.zeros(1, dtype=abi.CONFIG)
    config["mac_head"] = int.from_bytes(fuzzing.MAC[:2], "little") << 48
    config["mac_tail"] = int.from_bytes(fuzzing.MAC[2:], "little")
    config["dip"], config["gue_port"] = int(own), 6080
    dip = np.zeros(1, dtype=abi.DIP)
    dip["addr"], dip["csum"] = int(other), checksum_part(own, other)
    dip["mac"] = 0 if mac is None else int.from_bytes(mac, "little") | abi.MAC_KNOWN
    room = bytearray(36 + 4 * hops) + bytearray(frame)
    buffer = (ctypes.c_char * len(room)).from_buffer(room)
    host.host_wrap(
        buffer,
        ctypes.c_void_p(config.ctypes.data),
        ctypes.c_void_p(dip.ctypes.data),
        u64(hash_),
        u64(hops),
    )
    list_ = [IPv4Address(int.from_bytes(room[50 + 4 * n : 54 + 4 * n], "big")) for n in range(hops)]
    port = 0x8000 | hash_ >> 48
    expected = gue_packet(own, other, inner, list_, source_port=port, tos=inner[1])
    ends = (mac, fuzzing.MAC) if mac is not None else (frame[6:12], frame[:6])
    assert bytes(room) == ethernet(expected, destination=ends[0], source=ends[1])


@given(seed=st.integers(0, 2**32), cut=st.integers(14, 130))
def test_reading_any_gue_frame_of_any_length(
    host: Any, guarded: GuardedFrame, seed: int, cut: int
) -> None:
    rng = random_of(seed)
    frame = fuzzing.random_gue_frame(rng)
    frame = frame[:cut] if rng.random() < 0.5 else frame
    config = np.zeros(1, dtype=abi.CONFIG)
    config["dip"], config["gue_port"] = int(OWN), 6080
    at, tunnel, inner = guarded.put(frame), Tunnel(), Inner()
    where = ctypes.c_void_p(config.ctypes.data)
    if host.host_read_tunnel(at, length(frame), where, ctypes.byref(tunnel)) != 1:
        return
    ahead = [
        host.host_hop_ahead(at, length(frame), ctypes.byref(tunnel), u64(place))
        for place in range(3)
    ]
    listed = [
        int.from_bytes(frame[50 + 4 * place : 54 + 4 * place], "little")
        for place in range(tunnel.next_hop, tunnel.hop_count)
    ]
    assert ahead == [0] * tunnel.next_hop + listed + [0] * (3 - tunnel.hop_count)
    reason = host.host_read_inner(at, length(frame), ctypes.byref(tunnel), ctypes.byref(inner))
    packet = frame[14 + 36 + 4 * tunnel.hop_count : 14 + tunnel.total_len]
    every_address = Config(self_dip=OWN, mac=bytes(6), services=services_of(packet))
    problem = inner_problem(packet, every_address)
    assert (None if reason == PARSED else abi.COUNTERS[reason]) == problem


def services_of(packet: bytes) -> tuple[Service, ...]:
    """Make the inner destination a VIP."""
    if len(packet) < 20:
        return ()
    return (Service(IPv4Address(packet[16:20]), 6, 80, "p"),)


@given(outer=st.integers(0, 255), source=addresses, target=addresses, inner=st.integers(0, 255))
def test_ecn_and_its_checksum(
    host: Any, outer: int, source: IPv4Address, target: IPv4Address, inner: int
) -> None:
    got = host.host_ecn_decap(u64(outer), u64(inner))
    wanted = decapsulated_ecn(inner & 3, outer & 3)
    if wanted is None:
        assert got == -1
        return
    tos = inner & ~3 | wanted
    assert got == tos
    packet = tcp_packet(source, 1, target, 2, tos=inner)
    before = int.from_bytes(packet[10:12], "big")
    after = swap16(host.host_checksum_after_tos(u64(swap16(before)), u64(inner), u64(tos)))
    assert after == adjusted_checksum(before, 0x4500 | inner, 0x4500 | tos)


@given(seed=st.integers(0, 2**32), own=addresses, hop=addresses)
def test_a_passed_on_header_is_summed_right(
    host: Any, guarded: GuardedFrame, seed: int, own: IPv4Address, hop: IPv4Address
) -> None:
    frame = ethernet(gue_packet(OWN, OWN, fuzzing.random_inner(random_of(seed))))
    got = host.host_outer_checksum(
        guarded.put(frame), u64(address_word(own)), u64(address_word(hop))
    )
    header = frame[14:24] + bytes(2) + own.packed + hop.packed
    assert swap16(got) == internet_checksum(header)
