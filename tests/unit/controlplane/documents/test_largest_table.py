"""The largest table that can be asked for goes through the codec, however little it compresses."""

from __future__ import annotations

import numpy as np

from controlplane.documents import check as documents
from controlplane.domain.bounds import MAX_BUCKETS, MAX_DEPTH, MAX_SERVERS
from controlplane.domain.objects import Table


def test_the_largest_table_of_the_deepest_pool_survives_the_journey() -> None:
    rng = np.random.default_rng(7)
    first = rng.integers(1, MAX_SERVERS + 1, MAX_BUCKETS)
    # Steps of under a quarter of all servers: four of them never come back to the first.
    steps = rng.integers(1, MAX_SERVERS // MAX_DEPTH, (MAX_BUCKETS, MAX_DEPTH))
    steps[:, 0] = 0
    chains = ((first[:, None] + steps.cumsum(axis=1)) % MAX_SERVERS + 1).astype(np.uint16)
    times = rng.integers(0, 1 << 32, MAX_BUCKETS, dtype=np.uint32)
    before = Table("main", 1, 1, chains, times)
    after = documents.decode_table(documents.encode_table(before))
    np.testing.assert_array_equal(after.chains, before.chains)
    np.testing.assert_array_equal(after.moved_at, before.moved_at)
