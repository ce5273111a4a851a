"""Presence: what an agent encodes arrives; what is damaged or too large is refused by name."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.documents.fields import DocumentError
from controlplane.documents.presence import (
    Dump,
    Mark,
    PoolPresence,
    decode_presence,
    encode_presence,
    key_id_of,
)
from controlplane.domain.bounds import MAX_BUCKETS, MAX_POOLS

KEY_ID = key_id_of(bytes(range(16)))
PLENTY = 1 << 20


def pool(buckets: int = 256, connections: int = 3, every: int = 7) -> PoolPresence:
    occupied = np.zeros(buckets, np.bool_)
    occupied[::every] = True
    return PoolPresence(KEY_ID, buckets, connections, occupied)


def dump(**pools: PoolPresence) -> Dump:
    return Dump(7, Mark(3, 12), 5, 2.5, pools)


def sent(found: Dump, most_bytes: int = PLENTY) -> Any:
    """What arrives of a dump, as JSON."""
    return json.loads(json.dumps(encode_presence(found, most_bytes)))


def changed(**changes: Any) -> Any:
    return {**sent(dump(web=pool())), **changes}


def changed_pool(**changes: Any) -> Any:
    body = sent(dump(web=pool()))
    body["pools"]["web"].update(changes)
    return body


def bitmap(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def test_a_dump_arrives_as_it_was() -> None:
    given_pools = {"web": pool(65536, 9363), "dns": pool(256, 0, every=300)}
    found = decode_presence(sent(dump(**given_pools)))
    assert (found.number, found.mark, found.cluster_generation) == (7, Mark(3, 12), 5)
    assert found.cookies_age == 2.5
    assert found.pools.keys() == given_pools.keys()
    for name, arrived in found.pools.items():
        expected = given_pools[name]
        assert (arrived.key_id, arrived.buckets) == (expected.key_id, expected.buckets)
        assert arrived.connections == expected.connections
        assert arrived.occupied.dtype == np.bool_
        assert (arrived.occupied == expected.occupied).all()


def test_no_mark_and_no_cookie_arrive_as_none() -> None:
    found = decode_presence(sent(Dump(1, None, 1, None, {})))
    assert (found.mark, found.cookies_age, found.pools) == (None, None, {})


def test_the_key_is_not_in_it() -> None:
    key = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert key_id_of(key) != key_id_of(key[::-1])
    assert len(key_id_of(key)) == 16
    assert not any(key.hex()[at : at + 4] in key_id_of(key) for at in range(0, 32, 4))


def test_pools_that_do_not_fit_are_left_out_the_largest_first() -> None:
    random = np.random.default_rng(1).random(65536) < 0.5
    large = PoolPresence(KEY_ID, 65536, 32768, random)
    found = decode_presence(sent(dump(web=large, dns=pool(), ntp=pool()), 4096))
    assert found.pools.keys() == {"dns", "ntp"}
    body = encode_presence(dump(web=large, dns=pool()), PLENTY)
    assert len(json.dumps(body)) < 12 << 10


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "wrong_type"),
        (7, "wrong_type"),
        (changed(pools=None), "wrong_type"),
        (changed(pools=[]), "wrong_type"),
        (changed(pools={"web": 7}), "wrong_type"),
        (changed(pools={"../up": changed()["pools"]["web"]}), "bad_name"),
        (changed(number=0), "out_of_range"),
        (changed(number=1.0), "wrong_type"),
        (changed(number=10**400), "out_of_range"),
        (changed(mark=[1]), "bad_array"),
        (changed(mark=[1, 2, 3]), "too_large"),
        (changed(mark=[1, "2"]), "wrong_type"),
        (changed(mark=[-1, 2]), "out_of_range"),
        (changed(mark={"epoch": 1}), "wrong_type"),
        (changed(cluster_generation=0), "out_of_range"),
        (changed(cookies_age=-1), "out_of_range"),
        (changed(cookies_age=float("nan")), "out_of_range"),
        (changed(cookies_age="long ago"), "wrong_type"),
        (changed_pool(buckets=255), "out_of_range"),
        (changed_pool(buckets=257), "out_of_range"),
        (changed_pool(buckets=2 * MAX_BUCKETS), "out_of_range"),
        (changed_pool(buckets=512), "bad_array"),
        (changed_pool(key_id="web-key"), "out_of_range"),
        (changed_pool(key_id=KEY_ID.upper()), "out_of_range"),
        (changed_pool(connections=-1), "out_of_range"),
        (changed_pool(connections=1 << 33), "out_of_range"),
        (changed_pool(occupied=7), "wrong_type"),
        (changed_pool(occupied="!!"), "bad_array"),
        (changed_pool(occupied="täglich"), "bad_array"),
        (changed_pool(occupied=base64.b64encode(b"no zlib").decode()), "bad_array"),
        (changed_pool(occupied=bitmap(bytes(31))), "bad_array"),
        (changed_pool(occupied=bitmap(bytes(33))), "bad_array"),
        (changed_pool(occupied=bitmap(bytes(32))[:8]), "bad_array"),
        (
            changed_pool(occupied=base64.b64encode(zlib.compress(bytes(32)) + b"more").decode()),
            "bad_array",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(body: object, reason: str) -> None:
    with pytest.raises(DocumentError) as refused:
        decode_presence(body)
    assert refused.value.reason == reason
    assert str(refused.value).isprintable()


def test_a_missing_age_of_cookies_is_not_taken_for_none_sent() -> None:
    body = changed()
    del body["cookies_age"]
    with pytest.raises(DocumentError, match="cookies_age"):
        decode_presence(body)


def test_too_many_pools_and_too_many_buckets_are_refused() -> None:
    one = changed()["pools"]["web"]
    with pytest.raises(DocumentError, match=f"over {MAX_POOLS} entries"):
        decode_presence(changed(pools={f"p{n}": one for n in range(MAX_POOLS + 1)}))
    large = {**one, "buckets": MAX_BUCKETS, "occupied": bitmap(bytes(MAX_BUCKETS // 8))}
    with pytest.raises(DocumentError, match="buckets") as refused:
        decode_presence(changed(pools={f"p{n}": large for n in range(17)}))
    assert refused.value.reason == "too_large"


def test_a_decompression_bomb_takes_no_memory() -> None:
    bomb = changed_pool(occupied=bitmap(bytes(200 << 20)))
    assert len(bomb["pools"]["web"]["occupied"]) < 512 << 10
    tracemalloc.start()
    try:
        with pytest.raises(DocumentError) as refused:
            decode_presence(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.reason == "bad_array"
    assert peak < 4 << 20


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["number", "mark", "cluster_generation", "cookies_age", "pools"]
POOL_KEYS = ["key_id", "buckets", "connections", "occupied"]


@given(st.sampled_from(KEYS), st.sampled_from(POOL_KEYS), ANY_JSON, st.booleans())
def test_any_value_anywhere_is_read_or_refused(
    key: str, pool_key: str, value: object, in_pool: bool
) -> None:
    body = changed_pool(**{pool_key: value}) if in_pool else changed(**{key: value})
    try:
        found = decode_presence(body)
    except DocumentError:
        return
    assert all(p.occupied.shape == (p.buckets,) for p in found.pools.values())
