"""bpf/abi.h in Python: layouts as numpy dtypes, counters, limits.

Written by hand, field for field, and held to the header three ways: a unit test compiles the header
and compares, a data-plane test compares with what bcc makes of it, and every load compiles
`static_asserts()` together with the programs.

`be16` and `be32` fields hold numbers as they lie in a frame; their dtype is big-endian, so numpy
converts. Everything else is little-endian, as the machines are.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

MAX_DIPS = 4096
MAX_POOLS = 256
MAX_SERVICES = 4096
MAX_INNER = 1024
NEAR_TABLES = 8
INNER_SLOTS = 65536
MIN_BUCKETS = 256
MAX_BUCKETS = 1 << 20
MAX_DEPTH = 4
SERVICE_ROWS = 16384
SERVICE_WIDTH = 4
TRIE_TOP = 65536
TRIE_NODES = 1024
FRONT4_BITS = 11
FRONT4_ROWS = 1 << FRONT4_BITS
FRONT4_WIDTH = 4
FRONT6_BITS = 10
FRONT6_ROWS = 1 << FRONT6_BITS
FRONT6_WIDTH = 2
VIP6_LENGTHS = 8
VIP6_BITS = 13
VIP6_SLOTS = 1 << VIP6_BITS
VIP6_SEED_BITS = 11
VIP6_SEEDS = 1 << VIP6_SEED_BITS
MAY_BITS = 15
KNOWN_BITS = 12
KNOWN_ROWS = 1 << KNOWN_BITS
KNOWN_WIDTH = 8
POOL_NAME_LEN = 64
LAYOUT = 2

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
MORE_MULTIPLIER = 0xFFFFFF
TRIE_LEAF = 0x8000
TRIE_MORE = 0x4000
TRIE_ROW_MASK = 0x3FFF
KNOWN_DIP = 1
KNOWN_PROBER = 2

WRAP_LEN = 36
HOP_LEN = 4
MAX_HOPS = 3
GUE_FORWARD_SYN = 0x08

FRAGMENTS = 8192
FRAGMENT_IPV6 = 0x100
TOO_BIG_WINDOW_SHIFT = 26
TOO_BIG_MOST = 64

TC_STAGE = 0
TC_TRACED_STAGE = 1
STAGE_SLOT_COUNT = 5

TRACE_FORWARDER = 0
TRACE_REDIRECTOR = 1
TRACE_BYTES = 192


class ServiceKind(IntEnum):
    """enum lb_service_kind."""

    EMPTY = 0
    PORT = 1
    ANY = 2
    MORE = 3


class Slot(IntEnum):
    """enum lb_slot: places in the root program array, which others use too."""

    BEFORE = 0
    BEFORE_2 = 1
    FORWARDER = 2
    AFTER = 3
    AFTER_2 = 4
    COUNT = 5


class StageSlot(IntEnum):
    """enum lb_stage_slot: places in the array of the forwarder's other programs."""

    STAGE = 0
    TOO_BIG = 1
    TRACED_STAGE = 2
    TRACED_TOO_BIG = 3
    UNTRACED_FORWARDER = 4


COUNTERS: tuple[str, ...] = (
    "pass_not_ip",
    "pass_malformed",
    "pass_vip_icmp",
    "pass_no_service",
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
        ("pad", "<u8", 3),
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
NEAR = np.dtype([("slot", CHAIN, NEAR_TABLES * INNER_SLOTS)])
DIP = np.dtype([("addr", ">u4"), ("csum", "<u4"), ("mac", "<u8")])
SERVICE = np.dtype(
    [
        ("match", "<u4"),
        ("service", "<u2"),
        ("pool", "u1"),
        ("flags", "u1"),
    ]
)
SERVICE_ROW = np.dtype([("entry", SERVICE, SERVICE_WIDTH)])
TRIE_NODE = np.dtype([("next", "<u2", 256)])
VIP6 = np.dtype([("addr", "<u8", 2), ("length", "<u4"), ("leaf", "<u4"), ("pad", "<u8")])
VIP6_LENGTH = np.dtype([("mask", "<u8", 2), ("length", "<u8")])
FRONT4 = np.dtype([("match", "<u8"), ("entry", SERVICE)])
FRONT4_ROW = np.dtype([("entry", FRONT4, FRONT4_WIDTH)])
FRONT6 = np.dtype([("addr", "<u8", 2), ("match", "<u8"), ("entry", SERVICE)])
FRONT6_ROW = np.dtype([("entry", FRONT6, FRONT6_WIDTH)])
FRONT = np.dtype(
    [
        ("block4", "<u8"),
        ("block6", "<u8"),
        ("pad", "<u8", 6),
        ("may", "u1", 1 << MAY_BITS),
        ("row4", FRONT4_ROW, FRONT4_ROWS),
        ("row6", FRONT6_ROW, FRONT6_ROWS),
    ]
)
VIPS = np.dtype(
    [
        ("top", "<u2", TRIE_TOP),
        ("node", TRIE_NODE, TRIE_NODES),
        ("length6", VIP6_LENGTH, VIP6_LENGTHS),
        ("seed6", "<u2", VIP6_SEEDS),
        ("vip6", VIP6, VIP6_SLOTS),
    ]
)
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
KNOWN = np.dtype([("addr", ">u4"), ("dip", "<u2"), ("flags", "<u2")])
KNOWN_ROW = np.dtype([("entry", KNOWN, KNOWN_WIDTH)])
STATE = np.dtype(
    [
        ("config", CONFIG),
        ("pool", POOL, MAX_POOLS),
        ("dip", DIP, MAX_DIPS),
        ("known", KNOWN_ROW, (2, KNOWN_ROWS)),
        ("service", SERVICE_ROW, (2, SERVICE_ROWS)),
        ("front", FRONT, 2),
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

STRUCTS: dict[str, np.dtype] = {
    "lb_config": CONFIG,
    "lb_key": KEY,
    "lb_pool": POOL,
    "lb_chain": CHAIN,
    "lb_near": NEAR,
    "lb_dip": DIP,
    "lb_service": SERVICE,
    "lb_service_row": SERVICE_ROW,
    "lb_trie_node": TRIE_NODE,
    "lb_vip6": VIP6,
    "lb_vip6_length": VIP6_LENGTH,
    "lb_front4": FRONT4,
    "lb_front4_row": FRONT4_ROW,
    "lb_front6": FRONT6,
    "lb_front6_row": FRONT6_ROW,
    "lb_front": FRONT,
    "lb_vips": VIPS,
    "lb_service_name": SERVICE_NAME,
    "lb_fragment_key": FRAGMENT_KEY,
    "lb_fragment": FRAGMENT,
    "lb_too_big_window": TOO_BIG_WINDOW,
    "lb_known": KNOWN,
    "lb_known_row": KNOWN_ROW,
    "lb_state": STATE,
    "lb_service_stats": SERVICE_STATS,
    "lb_trace_event": TRACE_EVENT,
    "lb_gue": GUE,
}
"""Every struct of bpf/abi.h."""


def constants() -> dict[str, int]:
    """Every enum value and every `#define` of bpf/abi.h that Python uses, by its name in C."""
    names = {f"LB_CNT_{name.upper()}": index for index, name in enumerate(COUNTERS)}
    names["LB_CNT_COUNT"] = len(COUNTERS)
    names |= {f"LB_KIND_{kind.name}": int(kind) for kind in ServiceKind}
    names |= {f"LB_SLOT_{slot.name}": int(slot) for slot in (*Slot, *StageSlot)}
    names |= {
        f"LB_{name}": value
        for name, value in globals().items()
        if name.isupper() and isinstance(value, int)
    }
    return names


def layout() -> dict[str, int]:
    """Every size, offset and constant as a C expression and the value it must have."""
    wanted: dict[str, int] = dict(constants())
    for name, dtype in STRUCTS.items():
        wanted[f"sizeof(struct {name})"] = dtype.itemsize
        assert dtype.fields is not None  # noqa: S101
        for field, (kind, offset, *_) in dtype.fields.items():
            wanted[f"__builtin_offsetof(struct {name}, {field})"] = offset
            wanted[f"sizeof(((struct {name} *)0)->{field})"] = kind.itemsize
    return wanted


def static_asserts() -> str:
    """C text that does not compile unless bpf/abi.h is laid out as this module says."""
    return "".join(
        f'_Static_assert({expression} == {value}ULL, "lb/abi.py says {value}");\n'
        for expression, value in layout().items()
    )
