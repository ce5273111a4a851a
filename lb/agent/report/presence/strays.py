"""Counts strays: connections that two dumps in a row found where no table leads, by cause. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import Service
from lb.agent.report.presence.dump import Found
from lb.agent.report.presence.sorting import Sorter
from lb.led_here import Left, PoolHere, Steering

PATIENCE_SECONDS = 0.5
"""For how long after a new table the one before still counts: others take it about as soon."""
LAG_SECONDS = 60.0
"""For how long other servers may go on by a table without this one."""


class Cause(StrEnum):
    """Why no table leads to a connection, as far as its server can know."""

    FORCED = "forced"
    FORGOTTEN = "forgotten"
    REMOVED = "removed"
    RESHAPE = "reshape"
    LAGGING = "lagging"
    UNKNOWN = "unknown"


CAUSES = tuple(Cause)
OF_LEFT = {
    Left.FORCED: Cause.FORCED,
    Left.FORGOTTEN: Cause.FORGOTTEN,
    Left.REMOVED: Cause.REMOVED,
}
Key = tuple[str, str]
"""Pool and cause."""


class StrayCount:
    """Follows the strays from dump to dump.

    ``now``: those that the last two dumps agree on, by pool and cause. ``total``: all since the
    agent's start, each connection once. A connection keeps the cause that it had at first.
    """

    def __init__(self) -> None:
        self.now: Mapping[Key, int] = {}
        self.total: Counter[Key] = Counter()
        self._cookies: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._keys: list[Key] = []
        self._counted: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._last: tuple[Steering, float] | None = None
        self._steering: Steering | None = None
        self._reshaped: dict[tuple[object, ...], float] = {}

    def follow(self, steering: Steering, now: float) -> None:
        """Note which services have another pool, or their pool another shape, than before."""
        if self._steering is not None and steering is not self._steering:
            before = {_endpoint(s): _shape(s, self._steering) for s in self._steering.services}
            for service in steering.services:
                old = before.get(_endpoint(service))
                if old is not None and old != _shape(service, steering):
                    self._reshaped[_endpoint(service)] = now
        self._steering = steering

    def add(self, found: Found, sorter: Sorter) -> None:
        """Take the strays of one more dump. They count from the second dump on that has them."""
        strays, steering = found.strays, sorter.steering
        _, here, before = np.intersect1d(
            strays.cookie, self._cookies, assume_unique=True, return_indices=True
        )
        last = dict(zip(here.tolist(), before.tolist(), strict=True))
        keys: list[Key] = []
        counted = np.zeros(len(strays.cookie), np.bool_)
        for at, (number, bucket) in enumerate(
            zip(strays.service.tolist(), strays.bucket.tolist(), strict=True)
        ):
            service = steering.services[number]
            pool = steering.pools[service.pool]
            if at not in last:
                keys.append((service.pool, self._cause(pool, service, bucket, found.begun)))
                continue
            keys.append(self._keys[last[at]])
            counted[at] = self._counted[last[at]] or _is_certain(pool, bucket, found.begun)
            if counted[at] and not self._counted[last[at]]:
                self.total[keys[at]] += 1
        self.now = Counter(keys[at] for at in np.flatnonzero(counted))
        self._cookies, self._keys, self._counted = strays.cookie, keys, counted
        self._last = steering, found.begun

    def _cause(self, here: PoolHere, service: Service, bucket: int, now: float) -> Cause:
        """Return the cause of a stray that the dump before did not have."""
        left, left_at = Left(int(here.left[bucket])), float(here.left_at[bucket])
        reshaped = self._reshaped.get(_endpoint(service))
        if reshaped is not None and (left is Left.NEVER or left_at < reshaped):
            younger = self._last is not None and self._last[1] >= reshaped
            return Cause.UNKNOWN if younger else Cause.RESHAPE
        if left is Left.NEVER:
            return Cause.UNKNOWN
        if not self._knew(service.pool, bucket, left_at):
            return OF_LEFT[left]
        return Cause.LAGGING if now - left_at <= LAG_SECONDS else Cause.UNKNOWN

    def _knew(self, pool: str, bucket: int, left_at: float) -> bool:
        """Whether the dump before knew that this server had left the bucket.

        It would have shown the connection: this one is younger.
        """
        before = None if self._last is None else self._last[0].pools.get(pool)
        return before is not None and float(before.left_at[bucket]) == left_at


def _is_certain(here: PoolHere, bucket: int, now: float) -> bool:
    """Whether the table before does not count any more, or did not lead here either."""
    return now >= here.taken_at + PATIENCE_SECONDS or not here.led_before[bucket]


def _endpoint(service: Service) -> tuple[object, ...]:
    return service.vip, service.protocol, service.port


def _shape(service: Service, steering: Steering) -> tuple[object, ...] | None:
    """Return what decides about a service's buckets; ``None``: its pool has no table yet."""
    here = steering.pools.get(service.pool)
    if here is None:
        return None
    return service.pool, here.key, len(here.leads), here.pool.hash_mode
