"""Whatever the bytes are, decoding gives a valid object or a DocumentError, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controlplane.documents.check import (
    check_table,
    decode_cluster,
    decode_table,
    encode_cluster,
    encode_table,
)
from controlplane.documents.envelope import seal
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import TCP, Cluster, Pool, Server, ServerState, Service, Table

CLUSTER = Cluster(
    generation=2,
    servers=tuple(
        Server(f"s{i}", IPv4Address("10.0.0.0") + i, i, ServerState.ACTIVE) for i in range(1, 5)
    ),
    services=(Service("web", IPv4Network("192.0.2.1"), TCP, 80, "main"),),
    pools=(Pool("main", 256, 2, key_id="k"),),
    probers=frozenset({IPv4Address("10.0.1.1")}),
)
TABLE = Table(
    "main",
    5,
    2,
    np.array([[i % 4 + 1, (i + 1) % 4 + 1] for i in range(256)], dtype=np.uint16),
    np.zeros(256, dtype=np.uint32),
)
CODECS: tuple[tuple[Any, Any], ...] = (
    (decode_cluster, encode_cluster),
    (decode_table, encode_table),
)
GOOD = (encode_cluster(CLUSTER), encode_table(TABLE))

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 70000)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["main", "s1", "10.0.0.1", "::1", "tcp", "active", "none", "/", "flow"])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4)
)


def survives(data: bytes) -> None:
    """Decode as both kinds; what is accepted must be fit to be encoded and checked again."""
    for decode, encode in CODECS:
        try:
            value = decode(data)
        except DocumentError as refusal:
            assert refusal.reason.replace("_", "").isalnum()  # noqa: PT017
            assert "\n" not in str(refusal)  # noqa: PT017
            continue
        again = encode(value)
        assert encode(decode(again)) == again
        if isinstance(value, Table):
            try:
                check_table(value, CLUSTER, 0)
            except DocumentError:
                continue


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
def test_arbitrary_bytes(data: bytes) -> None:
    survives(data)


@given(values)
def test_arbitrary_json(value: object) -> None:
    survives(json.dumps(value).encode())


@given(values)
def test_an_arbitrary_body_in_a_right_envelope(value: Any) -> None:
    for kind in ("cluster", "table/main"):
        survives(seal(kind, 1, json.loads(json.dumps(_finite(value)))))


@given(st.sampled_from(GOOD), st.data())
@settings(max_examples=200)
def test_damaged_bytes_are_always_refused(good: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != good[position]))
    survives(good[:position] + bytes([byte]) + good[position + 1 :])
    survives(good[:position])
    survives(good[:position] + data.draw(st.binary(max_size=8)) + good[position:])


@given(st.sampled_from(GOOD), st.data())
@settings(max_examples=300)
def test_any_value_anywhere_under_a_right_checksum(good: bytes, data: st.DataObject) -> None:
    document = json.loads(good)
    places = list(_places(document["body"]))
    for _ in range(data.draw(st.integers(1, 3))):
        put = data.draw(st.sampled_from(places))
        put(_finite(data.draw(values)))
    survives(seal(document["kind"], document["generation"], document["body"]))


def _places(value: Any) -> list[Callable[[object], None]]:
    """Every place in a document's body that can be written to."""
    keys: list[Any] = (
        list(value)
        if isinstance(value, dict)
        else list(range(len(value)))
        if isinstance(value, list)
        else []
    )
    places: list[Callable[[object], None]] = []
    for key in keys:
        places.append(lambda new, v=value, k=key: v.__setitem__(k, new))  # type: ignore[misc]
        places.extend(_places(value[key]))
    return places


def _finite(value: Any) -> Any:
    """Keep JSON to what ``seal`` can write: no infinities."""
    if isinstance(value, float):
        return value if np.isfinite(value) else 0.5
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return value
