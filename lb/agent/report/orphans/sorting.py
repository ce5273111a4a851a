"""Sorts flows that had a reset: to pool, bucket, and what the tables did to that bucket. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import TCP
from lb.agent.report.presence.sockets import ESTABLISHED, Sockets
from lb.agent.report.presence.sorting import NONE, Sorter
from lb.flow_hashes import FlowColumns
from lb.led_here import PoolHere

RECENT_SECONDS = 900.0
"""For how long a change of a bucket's chain may explain an orphan: the default drain time."""
IPV4 = 4


class Kind(StrEnum):
    """What the tables did to an orphan's bucket. A hint: an application's close looks alike."""

    DIED = "died"
    """A server of its chain has died."""
    MOVED = "moved"
    """Its chain has changed in another way."""
    REST = "rest"
    """Neither."""


KINDS = tuple(Kind)


class Orphan(NamedTuple):
    """A flow by its pool and its hash (docs/wire.md, section 8), and the kind of its bucket."""

    pool: str
    hash: int
    kind: Kind


def flows_of(found: NDArray[np.void]) -> FlowColumns:
    """Return flows of the data plane's map (``abi.RESET_FLOW``) as columns."""
    return FlowColumns(
        found["client"].astype(np.uint64),
        found["vip"].astype(np.uint64),
        found["ports"].astype(np.uint64),
        found["version"] == IPV4,
    )


def orphans_of(flows: FlowColumns, sorter: Sorter, now: float) -> list[Orphan]:
    """Return the flows of services whose pools have a table."""
    sockets = _as_sockets(flows)
    pools = sorter.pool_of[sorter.services_of(sockets, TCP)]
    known = pools != NONE
    flows, pools = flows.chosen(known), pools[known]
    if not len(pools):
        return []
    buckets = sorter.buckets_of(flows, pools, TCP).astype(np.int64)
    names = sorter.pool_names
    hashes = sorter.names_of(flows, pools)
    return [
        Orphan(names[pool], int(name), kind_of(sorter.pools[pool], int(bucket), now))
        for pool, name, bucket in zip(
            pools.tolist(), hashes.tolist(), buckets.tolist(), strict=True
        )
    ]


def kind_of(here: PoolHere, bucket: int, now: float) -> Kind:
    """Return what the tables did to a bucket in the time before ``now`` (monotonic)."""
    if now - float(here.died_at[bucket]) <= RECENT_SECONDS:
        return Kind.DIED
    return Kind.MOVED if now - float(here.moved_at[bucket]) <= RECENT_SECONDS else Kind.REST


def _as_sockets(flows: FlowColumns) -> Sockets:
    """Return flows as the sockets that they would have here."""
    count = len(flows.ports)
    port = (flows.ports >> np.uint64(16)).astype("<u2").view(">u2").astype(np.uint16)
    return Sockets(
        flows=flows,
        local_port=port,
        state=np.full(count, ESTABLISHED, np.uint8),
        owned=np.ones(count, np.bool_),
        cookie=np.zeros(count, np.uint64),
    )
