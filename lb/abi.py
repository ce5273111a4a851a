"""bpf/abi.h in Python: layouts as numpy dtypes, counters, limits, hashes of the look-up tables.

Written by hand, field for field, and held to the header three ways: a unit test compiles the header
and compares, a data-plane test compares with bcc's view of it, and every load compiles
`static_asserts()` together with the programs.

`be16` and `be32` fields hold numbers as they lie in a frame; their dtype is big-endian, so numpy
converts. Everything else is little-endian, as the machines are.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_WORD = (1 << 64) - 1
"""Arithmetic of the hashes is modulo 2^64."""

MAX_DIPS = 4096
MAX_POOLS = 256
MAX_SERVICES = 4096
MAX_INNER = 1024
INLINE_TABLE_COUNT = 8
INNER_SLOTS = 65536
MIN_BUCKETS = 256
MAX_BUCKETS = 1 << 20
MAX_DEPTH = 4
SERVICE_ROWS = 16384
SERVICE_WIDTH = 4
TRIE_TOP = 65536
TRIE_NODES = 1024
EXACT4_BITS = 11
EXACT4_ROWS = 1 << EXACT4_BITS
EXACT4_WIDTH = 4
EXACT6_BITS = 10
EXACT6_ROWS = 1 << EXACT6_BITS
EXACT6_WIDTH = 2
VIP6_LENGTHS = 8
VIP6_BITS = 13
VIP6_SLOTS = 1 << VIP6_BITS
VIP6_SEED_BITS = 11
VIP6_SEEDS = 1 << VIP6_SEED_BITS
VIP_FILTER_BITS = 15
PEER_BITS = 12
PEER_ROWS = 1 << PEER_BITS
PEER_WIDTH = 8
POOL_NAME_LEN = 64
LAYOUT = 4

HASH_A = 0x9E3779B97F4A7C15
HASH_B = 0xC2B2AE3D27D4EB4F
HASH_C = 0x85EBCA6B

POOL_MASK = 0xFFFFF
POOL_FIRST_SHIFT = 20
POOL_FIRST_MASK = 0xFFFF
POOL_DEPTH_SHIFT = 36
POOL_DEPTH_MASK = 0x7
POOL_PAIRED = 1 << 39
POOL_AT_REST = 1 << 63

MAC_MASK = 0xFFFFFFFFFFFF

SERVICE_STATELESS = 1
SERVICE_BY_CLIENT = 0x80
OVERFLOW_MULTIPLIER = 0xFFFFFF
TRIE_LEAF = 0x8000
TRIE_OVERFLOW = 0x4000
TRIE_ROW_MASK = 0x3FFF
PEER_DIP = 1
PEER_PROBER = 2

ETH_LEN = 14
IPV4_LEN = 20
IPV6_LEN = 40
TCP_LEN = 20
UDP_LEN = 8
WRAP_LEN = 36
HOP_LEN = 4
MAX_HOPS = 3
GUE_FORWARD_SYN = 0x08

FRAGMENTS = 8192
FRAGMENT_IPV6 = 0x100
RESETS = 8192
TOO_BIG_WINDOW_SHIFT = 26
TOO_BIG_MOST = 64

TRACE_FORWARDER = 0
TRACE_REDIRECTOR = 1
TRACE_BYTES = 192


class ServiceKind(IntEnum):
    """enum lb_service_kind."""

    EMPTY = 0
    PORT = 1
    ANY = 2
    OVERFLOW = 3


class Slot(IntEnum):
    """enum lb_slot: slots of the root program array, which others use too."""

    BEFORE = 0
    BEFORE_2 = 1
    FORWARDER = 2
    AFTER = 3
    AFTER_2 = 4
    COUNT = 5


class ForwarderSlot(IntEnum):
    """enum lb_forwarder_slot: the array of the forwarder's other programs."""

    RARE = 0
    TOO_BIG = 1
    TRACED_RARE = 2
    TRACED_TOO_BIG = 3
    UNTRACED = 4


class RedirectorSlot(IntEnum):
    """enum lb_redirector_slot: the array of the redirector's other programs."""

    RARE = 0
    TRACED_RARE = 1


class ResetCount(IntEnum):
    """enum lb_reset_count: what the egress program has seen."""

    FIRST = 0
    AGAIN = 1


COUNTERS: tuple[str, ...] = (
    "pass_not_ip",
    "pass_malformed",
    "pass_vip_icmp",
    "pass_no_service",
    "pass_other_host",
    "pass_local",
    "pass_to_self",
    "tx_forward",
    "tx_forward_chain",
    "tx_too_big",
    "drop_malformed",
    "drop_ext_headers",
    "drop_fragment",
    "drop_spoofed",
    "drop_no_table",
    "drop_no_bucket",
    "drop_no_room",
    "drop_no_stage",
    "drop_no_dip",
    "drop_too_big",
    "ok_not_gue",
    "accept_last_hop",
    "accept_echo",
    "accept_syn",
    "accept_socket",
    "accept_syncookie",
    "accept_udp_socket",
    "accept_icmp_error",
    "accept_path_probe",
    "pass_on",
    "drop_gue_malformed",
    "drop_unknown_source",
    "drop_hop_loop",
    "drop_unknown_hop",
    "drop_inner_malformed",
    "drop_inner_ext_headers",
    "drop_not_vip",
    "drop_inner_fragment",
    "drop_inner_protocol",
    "drop_ecn",
    "drop_error",
)
"""enum lb_counter, in order: LB_CNT_PASS_NOT_IP is `pass_not_ip`."""

CONFIG = np.dtype(
    [
        ("view", "<u8"),
        ("mac_head", "<u8"),
        ("mac_tail", "<u4"),
        ("dip", ">u4"),
        ("mtu", "<u4"),
        ("gue_port", ">u2"),
        ("layout", "<u2"),
        ("sources", "<u8"),
        ("mac", "<u8"),
        ("pad", "<u8", 2),
    ]
)
KEY = np.dtype([("v", "<u8", 4), ("v1_turned", "<u8")])
POOL = np.dtype(
    [
        ("word", "<u8"),
        ("pad", "<u8", 2),
        ("key", KEY),
        ("name", f"S{POOL_NAME_LEN}"),
        ("pad_end", "<u8", 16),
    ]
)
CHAIN = np.dtype([("dip", "<u2", MAX_DEPTH)])
INLINE_TABLES = np.dtype([("slot", CHAIN, INLINE_TABLE_COUNT * INNER_SLOTS)])
DIP = np.dtype([("addr", ">u4"), ("csum", "<u4"), ("mac", "<u8")])
SERVICE = np.dtype([("match", "<u4"), ("service", "<u2"), ("pool", "u1"), ("flags", "u1")])
SERVICE_ROW = np.dtype([("entry", SERVICE, SERVICE_WIDTH)])
TRIE_NODE = np.dtype([("next", "<u2", 256)])
VIP6 = np.dtype([("addr", "<u8", 2), ("length", "<u4"), ("leaf", "<u4"), ("pad", "<u8")])
VIP6_LENGTH = np.dtype([("mask", "<u8", 2), ("length", "<u8")])
VIPS = np.dtype(
    [
        ("top", "<u2", TRIE_TOP),
        ("node", TRIE_NODE, TRIE_NODES),
        ("length6", VIP6_LENGTH, VIP6_LENGTHS),
        ("seed6", "<u2", VIP6_SEEDS),
        ("vip6", VIP6, VIP6_SLOTS),
    ]
)
VIP_FILTER = np.dtype(
    [
        ("block4", "<u8"),
        ("block6", "<u8"),
        ("pad", "<u8", 6),
        ("marked", "u1", 1 << VIP_FILTER_BITS),
    ]
)
EXACT4 = np.dtype([("match", "<u8"), ("entry", SERVICE)])
EXACT4_ROW = np.dtype([("entry", EXACT4, EXACT4_WIDTH)])
EXACT6 = np.dtype([("addr", "<u8", 2), ("match", "<u8"), ("entry", SERVICE)])
EXACT6_ROW = np.dtype([("entry", EXACT6, EXACT6_WIDTH)])
EXACT = np.dtype([("row4", EXACT4_ROW, EXACT4_ROWS), ("row6", EXACT6_ROW, EXACT6_ROWS)])
FIRST_LOOKUP = np.dtype([("filter", VIP_FILTER), ("exact", EXACT)])
SERVICE_NAME = np.dtype(
    [
        ("addr", "u1", 16),
        ("version", "u1"),
        ("length", "u1"),
        ("port", ">u2"),
        ("protocol", "u1"),
        ("any_port", "u1"),
        ("pool", "u1"),
        ("flags", "u1"),
        ("pad", "<u8"),
    ]
)
PEER = np.dtype([("addr", ">u4"), ("dip", "<u2"), ("flags", "<u2")])
PEER_ROW = np.dtype([("entry", PEER, PEER_WIDTH)])
STATE = np.dtype(
    [
        ("config", CONFIG),
        ("pool", POOL, MAX_POOLS),
        ("dip", DIP, MAX_DIPS),
        ("peer", PEER_ROW, (2, PEER_ROWS)),
        ("service", SERVICE_ROW, (2, SERVICE_ROWS)),
        ("first_lookup", FIRST_LOOKUP, 2),
        ("vips", VIPS, 2),
        ("name", SERVICE_NAME, MAX_SERVICES),
    ]
)
FRAGMENT_KEY = np.dtype(
    [("saddr", "<u4", 4), ("daddr", "<u4", 4), ("id", "<u4"), ("protocol", "<u4")]
)
FRAGMENT = np.dtype([("ports", "<u4"), ("protocol", "<u4")])
TOO_BIG_WINDOW = np.dtype([("number", "<u8"), ("sent", "<u8")])
SERVICE_STATS = np.dtype([("packets", "<u8"), ("bytes", "<u8")])
RESET_FLOW = np.dtype(
    [("client", "<u8", 2), ("vip", "<u8", 2), ("ports", "<u4"), ("version", "<u4")]
)
TRACE_EVENT = np.dtype(
    [
        ("time", "<u8"),
        ("counter", "<u4"),
        ("verdict", "<i4"),
        ("program", "<u4"),
        ("ifindex", "<u4"),
        ("length", "<u4"),
        ("captured", "<u4"),
        ("data", "u1", TRACE_BYTES),
    ]
)

GUE = np.dtype(
    [
        ("hlen", "u1"),
        ("proto", "u1"),
        ("flags", ">u2"),
        ("private_flags", "u1"),
        ("reserved", "u1"),
        ("next_hop", "u1"),
        ("hop_count", "u1"),
    ]
)

STRUCTS = {
    f"lb_{name.lower()}": dtype
    for name, dtype in tuple(globals().items())
    if isinstance(dtype, np.dtype)
}
"""Every struct of bpf/abi.h."""


# The hashes of the look-up tables; addresses are words as they lie in a frame.


def row_of(view: int, word: int, bits: int) -> int:
    """LB_ROW: the row of a word in a table of 2^``bits`` rows."""
    return (word * (view | 1) & _WORD) >> 64 - bits


def addr6_word(head: int, tail: int) -> int:
    """LB_ADDR6_WORD: an IPv6 address as one word."""
    return (head * HASH_A + tail) & _WORD


def vip6_hash(view: int, head: int, tail: int, length: int) -> int:
    """LB_VIP6_HASH of LB_VIP6_WORD: the hash of an IPv6 prefix."""
    word = (head * HASH_A + tail * HASH_B + length) & _WORD
    return (word ^ word >> 32) * (view | 1) & _WORD


def vip6_seed_row(hashed: int) -> int:
    """LB_VIP6_SEED_ROW: which seed an IPv6 prefix has."""
    return hashed >> 64 - VIP6_SEED_BITS


def vip6_slot(hashed: int, seed: int) -> int:
    """LB_VIP6_SLOT: the only slot that can hold an IPv6 prefix."""
    return ((hashed ^ seed) & 0xFFFFFFFF) * HASH_C >> 32 - VIP6_BITS & VIP6_SLOTS - 1


def overflow_row(match: int, multiplier: int, shift: int) -> int:
    """LB_OVERFLOW_ROW: one of a VIP's overflow rows, counted from the first."""
    return (match * multiplier & 0xFFFFFFFF) >> shift


def sample_hashes() -> dict[str, int]:
    """Calls of the hashes of bpf/abi.h, as C expressions, with their results."""
    view, head, tail, length = 0x8F3A5C7912B4D6E0, 0xB80D0120A1B2C3D4, 0x1032547698BADCFE, 64
    hashed = vip6_hash(view, head, tail, length)
    word = f"LB_VIP6_WORD({head}ULL, {tail}ULL, {length}ULL)"
    return {
        f"LB_ROW({view}ULL, {head}ULL, LB_PEER_BITS)": row_of(view, head, PEER_BITS),
        f"LB_ADDR6_WORD({head}ULL, {tail}ULL)": addr6_word(head, tail),
        f"LB_VIP6_HASH({view}ULL, {word})": hashed,
        f"LB_VIP6_SEED_ROW({hashed}ULL)": vip6_seed_row(hashed),
        f"LB_VIP6_SLOT({hashed}ULL, 7ULL)": vip6_slot(hashed, 7),
        f"LB_OVERFLOW_ROW({head & 0xFFFFFFFF}ULL, {tail & OVERFLOW_MULTIPLIER}ULL, 21)": (
            overflow_row(head & 0xFFFFFFFF, tail & OVERFLOW_MULTIPLIER, 21)
        ),
    }


def constants() -> dict[str, int]:
    """Every enum value and every `#define` of bpf/abi.h that Python uses, by its name in C."""
    names = {f"LB_CNT_{name.upper()}": index for index, name in enumerate(COUNTERS)}
    names["LB_CNT_COUNT"] = len(COUNTERS)
    names |= {f"LB_KIND_{kind.name}": int(kind) for kind in ServiceKind}
    names |= {f"LB_SLOT_{slot.name}": int(slot) for slot in Slot}
    names |= {f"LB_FORWARDER_{slot.name}": int(slot) for slot in ForwarderSlot}
    names |= {f"LB_REDIRECTOR_{slot.name}": int(slot) for slot in RedirectorSlot}
    names["LB_FORWARDER_SLOT_COUNT"] = len(ForwarderSlot)
    names["LB_REDIRECTOR_SLOT_COUNT"] = len(RedirectorSlot)
    names |= {f"LB_RESET_{kind.name}": int(kind) for kind in ResetCount}
    names["LB_RESET_COUNTS"] = len(ResetCount)
    names |= {
        f"LB_{name}": value
        for name, value in globals().items()
        if name.isupper() and not name.startswith("_") and isinstance(value, int)
    }
    return names


def layout() -> dict[str, int]:
    """Every size, offset, constant and sample hash: a C expression and the value it must have."""
    wanted: dict[str, int] = constants() | sample_hashes()
    for name, dtype in STRUCTS.items():
        wanted[f"sizeof(struct {name})"] = dtype.itemsize
        assert dtype.fields is not None  # noqa: S101
        for field, (kind, offset, *_) in dtype.fields.items():
            wanted[f"__builtin_offsetof(struct {name}, {field})"] = offset
            wanted[f"sizeof(((struct {name} *)0)->{field})"] = kind.itemsize
    return wanted


def static_asserts() -> str:
    """C text that does not compile unless bpf/abi.h agrees with this module."""
    return "".join(
        f'_Static_assert({expression} == {value}ULL, "lb/abi.py has {value}");\n'
        for expression, value in layout().items()
    )
