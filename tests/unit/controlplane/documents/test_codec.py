"""The codec: what goes in comes out, and whatever else comes in is refused by name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlplane.documents import check as documents
from controlplane.documents.envelope import canonical, seal
from controlplane.domain.objects import (
    TCP,
    UDP,
    Check,
    CheckType,
    Cluster,
    Pool,
    Server,
    ServerState,
    Service,
    Table,
)

DOCS = Path(__file__).parents[4] / "docs" / "documents.md"
VIP = IPv4Address("192.0.2.10")

CLUSTER = Cluster(
    generation=7,
    servers=(
        Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE),
        Server("s2", IPv4Address("10.0.0.2"), 2, ServerState.DRAINING),
        Server("s3", IPv4Address("10.0.0.3"), 4095),
    ),
    services=(
        Service(
            "web",
            IPv4Network(VIP),
            TCP,
            80,
            "main",
            check=Check(CheckType.HTTP, "/ok?a=b", 204, 0.5, 2, host="www.example.com:8080"),
        ),
        Service("dns", IPv4Network(VIP), UDP, 53, "main", stateless=True),
        Service("six", IPv6Network("2001:db8::1"), TCP, 443, "plain"),
        Service(
            "every",
            IPv6Network("2001:db8:1::/64"),
            TCP,
            None,
            "plain",
            check=Check(CheckType.TCP, port=80, address=IPv6Address("2001:db8:1::7")),
        ),
    ),
    pools=(
        Pool("main", 256, 2, key_id="main-1"),
        Pool("plain", 512, 1, hash_mode="client", key_id="plain-1"),
    ),
    probers=frozenset({IPv4Address("10.0.0.250"), IPv4Address("10.0.0.251")}),
    gue_port=6081,
)


def table(generation: int = 3, buckets: int = 256, depth: int = 2, **change: Any) -> Table:
    chains = np.zeros((buckets, depth), dtype=np.uint16)
    chains[:, 0] = np.arange(buckets) % 2 + 1
    for place in range(1, depth):
        chains[:: 3**place, place] = 4096 - place
    moved_at = np.arange(buckets, dtype=np.uint32)
    return replace(Table("main", generation, 7, chains, moved_at), **change)


def forged(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A document with its body changed and its checksum right."""
    document = json.loads(data)
    change(document["body"])
    return seal(document["kind"], document["generation"], document["body"])


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(documents.DocumentError) as refusal:
        call()
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) < 300
    return refusal.value.reason


def test_a_cluster_survives_the_journey() -> None:
    assert documents.decode_cluster(documents.encode_cluster(CLUSTER)) == CLUSTER


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_table_survives_the_journey(depth: int) -> None:
    before = table(depth=depth)
    after = documents.decode_table(documents.encode_table(before))
    assert (after.pool, after.generation, after.cluster_generation) == ("main", 3, 7)
    assert after.chains.dtype == np.uint16
    assert after.moved_at.dtype == np.uint32
    np.testing.assert_array_equal(after.chains, before.chains)
    np.testing.assert_array_equal(after.moved_at, before.moved_at)
    with pytest.raises(ValueError, match="read-only"):
        after.chains[0, 0] = 9


def test_encoding_is_deterministic_and_its_layout_is_fixed() -> None:
    data = documents.encode_table(table())
    assert data == documents.encode_table(table())
    document = json.loads(data)
    assert {k: document[k] for k in ("format", "version", "kind", "generation")} == {
        "format": "bucket-brigade",
        "version": 1,
        "kind": "table/main",
        "generation": 3,
    }
    raw = zlib.decompress(base64.b64decode(document["body"]["chains"]))
    assert raw[:8] == bytes([1, 0, 0xFF, 0x0F, 2, 0, 0, 0])  # bucket 0: [1, 4095], bucket 1: [2]
    assert len(zlib.decompress(base64.b64decode(document["body"]["moved_at"]))) == 4 * 256


def _set(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(body: dict[str, Any]) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        target: Any = body
        for step in way:
            target = target[step]
        target[last] = value

    return change


BAD_CLUSTERS = [
    ("gue_port", 0, "out_of_range"),
    ("gue_port", "6080", "wrong_type"),
    ("gue_port", True, "wrong_type"),
    ("gue_port", 6080.0, "wrong_type"),
    ("colour", "blue", "unknown_key"),
    ("servers", {}, "wrong_type"),
    ("servers", ["s1"], "wrong_type"),
    ("servers.0.index", 0, "out_of_range"),
    ("servers.0.index", 4096, "out_of_range"),
    ("servers.0.index", 2, "duplicate"),
    ("servers.0.name", "s2", "duplicate"),
    ("servers.0.dip", "10.0.0.2", "duplicate"),
    ("servers.0.name", "", "bad_name"),
    ("servers.0.name", "../etc", "bad_name"),
    ("servers.0.name", "s1\n", "bad_name"),
    ("servers.0.name", "\ud800", "bad_name"),
    ("servers.0.name", "x" * 64, "bad_name"),
    ("servers.0.state", "asleep", "out_of_range"),
    ("servers.0.dip", "10.0.0.256", "bad_address"),
    ("servers.0.dip", "0.0.0.0", "bad_address"),
    ("servers.0.dip", "224.0.0.1", "bad_address"),
    ("servers.0.dip", "255.255.255.255", "bad_address"),
    ("servers.0.dip", "127.0.0.1", "bad_address"),
    ("servers.0.dip", 167772161, "wrong_type"),
    ("servers.0.dip", "2001:db8::1", "unsupported_ipv6"),
    ("servers.0.weight", 3, "unknown_key"),
    ("services.0.vip", "10.0.0.3", "vip_covers_dip"),
    ("services.0.vip", "10.0.0.0/29", "vip_covers_dip"),
    ("services.0.vip", "10.0.0.250", "vip_covers_prober"),
    ("services.0.vip", "10.0.0.248/29", "vip_covers_prober"),
    ("services.0.vip", "239.1.1.1", "bad_address"),
    ("services.0.vip", "192.0.2.1/24", "bad_prefix"),
    ("services.0.port", 0, "out_of_range"),
    ("services.0.port", "every", "wrong_type"),
    ("services.0.port", "any", "contradiction"),
    ("services.0.port", 65536, "out_of_range"),
    ("services.0.port", None, "wrong_type"),
    ("services.2.vip", "::ffff:192.0.2.1", "bad_address"),
    ("services.2.vip", "2001:db8::1%eth0", "bad_address"),
    ("services.2.vip", 7, "wrong_type"),
    ("services.3.vip", "2001:db8:1::1/64", "bad_prefix"),
    ("services.3.vip", "2000::/15", "bad_prefix"),
    ("services.3.check.port", None, "contradiction"),
    ("services.3.check.port", 0, "out_of_range"),
    ("services.3.check.port", "any", "wrong_type"),
    ("services.3.check.address", "2001:db8:2::1", "contradiction"),
    ("services.3.check.address", "192.0.2.1", "contradiction"),
    ("services.3.check.address", "here", "bad_address"),
    ("services.3.check.address", 7, "wrong_type"),
    ("services.0.protocol", "sctp", "out_of_range"),
    ("services.0.pool", "other", "unknown_pool"),
    ("services.0.name", "dns", "duplicate"),
    ("services.0.stateless", True, "contradiction"),
    ("services.0.stateless", 1, "wrong_type"),
    ("services.0.prefix_length", 24, "unknown_key"),
    ("services.0.check", None, "wrong_type"),
    ("services.0.check.type", "ping", "out_of_range"),
    ("services.0.check.path", "ok", "contradiction"),
    ("services.0.check.path", "/a\r\nHost: b", "contradiction"),
    ("services.0.check.host", "", "contradiction"),
    ("services.0.check.host", "a b", "contradiction"),
    ("services.0.check.host", "www.example.com\r\nX: y", "contradiction"),
    ("services.0.check.host", "www.example.com\n", "contradiction"),
    ("services.0.check.host", "x" * 300, "contradiction"),
    ("services.0.check.host", 7, "wrong_type"),
    ("services.0.check.interval_seconds", 0, "out_of_range"),
    ("services.0.check.interval_seconds", "1", "wrong_type"),
    ("services.0.check.rise", 0, "out_of_range"),
    ("services.0.check.expect_status", 99, "out_of_range"),
    ("pools.0.name", "plain", "duplicate"),
    ("pools.0.buckets", 257, "bad_buckets"),
    ("pools.0.buckets", 128, "out_of_range"),
    ("pools.0.buckets", 1 << 21, "out_of_range"),
    ("pools.0.depth", 0, "out_of_range"),
    ("pools.0.depth", 5, "out_of_range"),
    ("pools.0.hash_mode", "clients", "out_of_range"),
    ("pools.0.key_id", "", "bad_name"),
    ("probers.0", 1, "wrong_type"),
    ("probers.0", "10.0.0.251", "duplicate"),
]


@pytest.mark.parametrize(("path", "value", "reason"), BAD_CLUSTERS)
def test_a_bad_cluster_is_refused_by_name(path: str, value: object, reason: str) -> None:
    data = forged(documents.encode_cluster(CLUSTER), _set(path, value))
    assert reason_of(lambda: documents.decode_cluster(data)) == reason


def test_two_services_cannot_share_an_address_and_port() -> None:
    data = forged(
        documents.encode_cluster(CLUSTER),
        lambda body: body["services"].append({**body["services"][0], "name": "again"}),
    )
    assert reason_of(lambda: documents.decode_cluster(data)) == "duplicate"


def test_ipv6_prefixes_have_few_lengths() -> None:
    def of_lengths(*lengths: int) -> Cluster:
        services = (
            Service(f"s{n}", IPv6Network(f"2001:{n:x}::/{length}"), TCP, 80, "main")
            for n, length in enumerate(lengths, 1)
        )
        return replace(CLUSTER, services=tuple(services))

    documents.encode_cluster(of_lengths(*range(40, 48), 47, 47))
    assert reason_of(lambda: documents.encode_cluster(of_lengths(*range(40, 49)))) == (
        "too_many_lengths"
    )


def test_a_document_from_before_prefixes_and_ports_is_read_and_written_alike() -> None:
    """Version 1 has grown: what is new is only there when it is used."""
    old = (
        b'{"body":{"gue_port":6080,"pools":[{"buckets":256,"depth":2,"hash_mode":"flow","key_id":'
        b'"k","name":"web"}],"probers":["10.0.0.9"],"servers":[{"dip":"10.0.0.1","index":1,"name":'
        b'"s1","state":"active"}],"services":[{"check":{"expect_status":200,"fall":3,'
        b'"interval_seconds":1.0,"path":"/","rise":2,"timeout_seconds":1.0,"type":"tcp"},"name":'
        b'"http","pool":"web","port":80,"protocol":"tcp","stateless":false,"vip":"192.0.2.1"}]},'
        b'"format":"bucket-brigade","generation":3,"kind":"cluster","sha256":"OLD","version":1}'
    )
    body = json.loads(old)["body"]
    sealed = seal("cluster", 3, body)
    assert sealed == old.replace(b"OLD", json.loads(sealed)["sha256"].encode())
    assert documents.encode_cluster(documents.decode_cluster(sealed)) == sealed


def test_a_missing_key_is_named() -> None:
    data = forged(documents.encode_cluster(CLUSTER), lambda body: body["pools"][0].pop("depth"))
    with pytest.raises(
        documents.DocumentError, match=r"pools\[0\] does not have 'depth'"
    ) as refusal:
        documents.decode_cluster(data)
    assert refusal.value.reason == "missing_key"


def test_unknown_keys_are_tolerated_where_they_are_harmless() -> None:
    data = forged(documents.encode_cluster(CLUSTER), _set("services.0.check.expect_body", "fine"))
    assert documents.decode_cluster(data) == CLUSTER
    document = json.loads(data)
    del document["sha256"]
    document["written_by"] = "controller 2"
    assert reason_of(lambda: documents.decode_cluster(canonical(document))) == "missing_key"
    document["sha256"] = hashlib.sha256(canonical(document)).hexdigest()
    assert documents.decode_cluster(canonical(document)) == CLUSTER


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other"}, "wrong_format"),
        ({"version": 2}, "future_version"),
        ({"version": 10**19}, "out_of_range"),
        ({"version": "1"}, "wrong_type"),
        ({"generation": 8}, "wrong_checksum"),
        ({"sha256": "0" * 64}, "wrong_checksum"),
        ({"sha256": None}, "wrong_type"),
        ({"note": "added later"}, "wrong_checksum"),
    ],
)
def test_a_damaged_envelope_is_refused(change: dict[str, object], reason: str) -> None:
    document = json.loads(documents.encode_cluster(CLUSTER)) | change
    assert reason_of(lambda: documents.decode_cluster(canonical(document))) == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "malformed"),
        (b"null", "malformed"),
        (b'{"format": NaN}', "malformed"),
        (b'{"a": 1, "a": 2}', "malformed"),
        (b"[" * 200_000, "malformed"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "malformed"),
        (b"[" * (1 << 21), "too_large"),
        (b" " * (9 << 20), "too_large"),
        (b'{"version": ' + b"9" * 100_000 + b"}", "out_of_range"),
        (b'{"version": 1e999}', "out_of_range"),
        (b"{}", "missing_key"),
    ],
)
def test_hostile_bytes_are_refused(data: bytes, reason: str) -> None:
    assert reason_of(lambda: documents.decode_cluster(data)) == reason


@pytest.mark.parametrize("kept", [0, 1, 10, 100, -1])
def test_a_truncated_document_is_refused(kept: int) -> None:
    cluster, chains = documents.encode_cluster(CLUSTER), documents.encode_table(table())
    assert reason_of(lambda: documents.decode_cluster(cluster[:kept])) == "malformed"
    assert reason_of(lambda: documents.decode_table(chains[:kept])) == "malformed"


def test_kinds_are_not_mixed_up() -> None:
    cluster, chains = documents.encode_cluster(CLUSTER), documents.encode_table(table())
    assert reason_of(lambda: documents.decode_table(cluster)) == "too_large"
    small = documents.encode_cluster(replace(CLUSTER, servers=(), services=(), pools=()))
    assert reason_of(lambda: documents.decode_table(small)) == "wrong_kind"
    assert reason_of(lambda: documents.decode_cluster(chains)) == "wrong_kind"
    body = json.loads(chains)["body"]
    assert reason_of(lambda: documents.decode_table(seal("table/../x", 1, body))) == "bad_name"


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("chains", "****", "bad_array"),
        ("chains", "é", "bad_array"),
        ("chains", base64.b64encode(b"not zlib").decode(), "bad_array"),
        ("chains", packed(bytes(2 * 512 - 1)), "bad_array"),
        ("chains", packed(bytes(2 * 512 + 1)), "bad_array"),
        ("chains", packed(bytes(2 * 512))[:-8], "bad_array"),
        ("chains", packed(bytes(2 * 512)), "empty_bucket"),
        ("chains", packed(b"\x01\x00\x01\x00" * 256), "bad_chain"),
        ("chains", packed(b"\x00\x10\x00\x00" * 256), "out_of_range"),
        ("chains", 5, "wrong_type"),
        ("moved_at", packed(bytes(4 * 255)), "bad_array"),
        ("buckets", 512, "bad_array"),
        ("buckets", 300, "bad_buckets"),
        ("depth", 3, "bad_array"),
        ("depth", 5, "out_of_range"),
        ("depth", 1, "bad_array"),
        ("cluster_generation", 0, "out_of_range"),
        ("colour", "blue", "unknown_key"),
    ],
)
def test_a_bad_table_is_refused_by_name(key: str, value: object, reason: str) -> None:
    data = forged(documents.encode_table(table()), _set(key, value))
    assert reason_of(lambda: documents.decode_table(data)) == reason


def test_a_trailing_second_stream_is_refused() -> None:
    raw = base64.b64decode(json.loads(documents.encode_table(table()))["body"]["chains"])
    doubled = base64.b64encode(raw + raw).decode()
    data = forged(documents.encode_table(table()), _set("chains", doubled))
    assert reason_of(lambda: documents.decode_table(data)) == "bad_array"


def test_a_zip_bomb_does_not_go_off() -> None:
    bomb = packed(bytes(64 << 20))
    data = forged(documents.encode_table(table()), _set("chains", bomb))
    tracemalloc.start()
    assert reason_of(lambda: documents.decode_table(data)) == "bad_array"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("chain", [(1, 0, 2), (1, 2, 0, 3), (1, 2, 1), (1, 2, 3, 2)])
def test_a_chain_with_a_hole_or_a_repeated_server_is_refused(chain: tuple[int, ...]) -> None:
    good = table(depth=len(chain))
    bad = np.array(good.chains)
    bad[200] = chain
    data = forged(documents.encode_table(good), _set("chains", packed(bad.astype("<u2").tobytes())))
    assert reason_of(lambda: documents.decode_table(data)) == "bad_chain"


@pytest.mark.parametrize(
    "bad",
    [
        replace(CLUSTER, generation=0),
        replace(CLUSTER, gue_port=0),
        replace(CLUSTER, pools=()),
        replace(CLUSTER, pools=(Pool("main", 256, 5, key_id="k"),)),
        replace(CLUSTER, servers=(Server("bad name", IPv4Address("10.0.0.1"), 1),)),
        replace(CLUSTER, servers=(Server("s", VIP, 1),)),
    ],
)
def test_what_agents_would_refuse_cannot_be_encoded(bad: Cluster) -> None:
    with pytest.raises(documents.DocumentError):
        documents.encode_cluster(bad)


def test_a_table_that_agents_would_refuse_cannot_be_encoded() -> None:
    chains = table().chains.copy()
    chains[5] = [2, 2]
    assert reason_of(lambda: documents.encode_table(table(chains=chains))) == "bad_chain"
    wide = table().chains.astype(np.uint32)
    assert reason_of(lambda: documents.encode_table(table(chains=wide))) == "bad_array"
    assert reason_of(lambda: documents.encode_table(table(pool=".."))) == "bad_name"


@pytest.mark.parametrize(
    ("change", "in_use", "reason"),
    [
        ({}, 3, "stale_generation"),
        ({}, 4, "stale_generation"),
        ({"cluster_generation": 8}, 0, "missing_cluster"),
        ({"pool": "other"}, 0, "unknown_pool"),
        ({"pool": "plain"}, 0, "buckets_differ"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    change: dict[str, Any], in_use: int, reason: str
) -> None:
    assert reason_of(lambda: documents.check_table(table(**change), CLUSTER, in_use)) == reason


def test_a_table_of_another_depth_is_refused() -> None:
    assert reason_of(lambda: documents.check_table(table(depth=1), CLUSTER, 0)) == "depth_differs"


@pytest.mark.parametrize("slot", [0, 1])
def test_a_table_that_names_a_stranger_is_refused(slot: int) -> None:
    chains = table().chains.copy()
    chains[7, slot] = 3
    call = lambda: documents.check_table(table(chains=chains), CLUSTER, 0)  # noqa: E731
    assert reason_of(call) == "unknown_index"


def test_a_table_that_fits_is_taken() -> None:
    documents.check_table(table(), CLUSTER, 0)
    documents.check_table(table(), CLUSTER, 2)
    documents.check_table(table(cluster_generation=1), CLUSTER, 2)


def test_every_reason_is_documented() -> None:
    sources = [
        (DOCS.parents[1] / "controlplane" / name).read_text(encoding="utf-8")
        for name in (
            "documents/envelope.py",
            "documents/fields.py",
            "documents/cluster.py",
            "documents/table.py",
            "documents/check.py",
            "domain/vips.py",
        )
    ]
    used = set(re.findall(r'(?:DocumentError|BadVip)\(\s*"([a-z0-9_]+)"', "".join(sources)))
    refusals = DOCS.read_text(encoding="utf-8").partition("## Refusals")[2]
    documented = set()
    for line in refusals.splitlines():
        if line.startswith("| `"):
            documented |= set(re.findall(r"`([a-z0-9_]+)`", line.split("|")[1]))
    assert used == documented
    assert len(used) > 25
