"""Rolling restarts lived through by the builder and the share controller, without a network.

``python -m tests.property.rolling`` prints the numbers of docs/adr/0006.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlplane.builder import BuildRequest, build
from controlplane.decide.shares import Shares, adjust
from controlplane.decide.views import PoolView
from controlplane.domain.objects import Pool, ServerState, Table
from controlplane.domain.table_facts import table_facts
from controlplane.settings.models import ControlConfig

S = ServerState
DEFAULTS = ControlConfig.model_validate(
    {"server": [{"name": "s1", "dip": "10.0.0.1"}], "pool": [{"name": "web"}]}
)
POOL = DEFAULTS.pool[0]
NOW = 1_000_000
NOISE_SECONDS = 100
"""How long loads vary before the first restart."""
DRAINED_SECONDS, BACK_SECONDS = 12, 15
"""After a drain has begun, and after the server is back, before the next drain."""
DOWN_SECONDS = 5
MEAN_LOAD, NOISE = 0.5, 0.25
LIFETIME_SECONDS = 60.0
"""Mean lifetime of flows; the ends of flows are spread as those of a random process."""


@dataclass
class Traffic:
    """How many times packets cross the network between servers; 1 is the least.

    Flows open at their bucket's current server and end at random. ``flows`` has, by bucket and
    server, how many are open.
    """

    flows: NDArray[np.float64]
    sums: dict[str, float] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    seconds: int = 0

    def pass_second(self, chains: NDArray[np.uint16], known: NDArray[np.bool_]) -> None:
        """Open and end flows for a second, and count visits of one packet each."""
        rows, depth = np.arange(chains.shape[0]), chains.shape[1]
        self.flows *= np.exp(-1.0 / LIFETIME_SECONDS)
        self.flows[:, ~known] = 0.0
        self.flows[rows, chains[:, 0]] += 1.0
        lengths = np.count_nonzero(chains, axis=1)
        tcp = udp = total = 0.0
        for position in range(depth):
            owned = np.where(chains[:, position] > 0, self.flows[rows, chains[:, position]], 0.0)
            tcp += float((owned * (position + 1)).sum())
            udp += float((owned * (lengths - position)).sum())
            total += float(owned.sum())
        self.seconds += 1
        for kind, visits in (("tcp", tcp / total), ("udp", udp / total), ("ack", lengths.mean())):
            self.sums[kind] = self.sums.get(kind, 0.0) + float(visits)
            self.worst[kind] = max(self.worst.get(kind, 0.0), float(visits))

    def mean(self, kind: str) -> float:
        """Return the mean number of visits of one packet."""
        return self.sums[kind] / self.seconds


class Rolling:
    """A pool of equal servers with default settings; one second is one tick."""

    def __init__(
        self, servers: int, depth: int, *, seed: int, buckets: int, forget: float | None = None
    ) -> None:
        self.pool = Pool(POOL.name, buckets, depth, key_id="k")
        self.states = dict.fromkeys(range(1, servers + 1), S.ACTIVE)
        self.joined_at: dict[int, int] = {}
        self.forced = 0
        self.waited = 0
        """Seconds that a server was without buckets although it should have some."""
        self.traffic = Traffic(np.zeros((buckets, servers + 1)))
        self._random = np.random.default_rng(seed)
        self._forget = forget
        self._shares = Shares()
        self._second = 0
        self.table: Table | None = None
        self._build()
        self._live(NOISE_SECONDS)

    def restart_all(self, *, down: bool = False) -> None:
        """Drain each server and bring it back, one after the other, faster than slow starts.

        ``down``: it is down in between (``lbctl down``), so it leaves all chains. Otherwise only
        its service is restarted, and its later hops stay.
        """
        for server in self.states:
            self.states[server] = S.DRAINING
            self._live(DRAINED_SECONDS)
            if down:
                self.states[server] = S.DOWN
                self._live(DOWN_SECONDS)
            self.states[server] = S.JOINING
            self.joined_at[server] = self._second
            self._live(BACK_SECONDS)

    def _live(self, seconds: int) -> None:
        known = np.zeros(len(self.states) + 1, dtype=np.bool_)
        for _ in range(seconds):
            self._second += 1
            for server, at in self.joined_at.items():
                if self._second - at >= DEFAULTS.slow_start_seconds:
                    self.states[server] = S.ACTIVE
            self.joined_at = {i: at for i, at in self.joined_at.items() if self._joins(i)}
            self._build()
            assert self.table is not None
            for server, state in self.states.items():
                known[server] = state is not S.DOWN
            self.traffic.pass_second(self.table.chains, known)
            current = table_facts(self.table).current
            self.waited += sum(s is S.ACTIVE and not current.get(i) for i, s in self.states.items())

    def _joins(self, server: int) -> bool:
        return self.states[server] is S.JOINING

    def _build(self) -> None:
        """Tick: follow the loads, then build until nothing changes; each table is settled."""
        current = table_facts(self.table).current if self.table else {}
        ramps = {
            server: (self._second - at) / DEFAULTS.slow_start_seconds
            for server, at in self.joined_at.items()
        }
        view = PoolView(self.states, self._loads(current), ramps, current)
        self._shares = adjust(self._shares, view, float(self._second))
        while True:
            result = build(self.table, self._request())
            self.forced += result.forced
            if result.table is None:
                return
            self.table = result.table

    def _loads(self, current: Mapping[int, int]) -> dict[int, float | None]:
        mean = self.pool.buckets / len(self.states)
        return {
            server: MEAN_LOAD * held / mean * float(np.exp(self._random.normal(0.0, NOISE)))
            for server, held in current.items()
        }

    def _request(self) -> BuildRequest:
        return BuildRequest(
            pool=self.pool,
            cluster_generation=1,
            generation=1 if self.table is None else self.table.generation + 1,
            shares=self._shares.shares,
            states=self.states,
            settled=True,
            now=NOW + self._second,
            drain_time_seconds=POOL.drain_time_seconds,
            cap_factor=POOL.cap,
            forget_after_seconds=self._forget,
        )


def restarted_twice(
    servers: int,
    depth: int,
    *,
    seed: int = 1,
    buckets: int = 1024,
    forget: float | None = None,
    down: bool = False,
) -> Rolling:
    """Return a pool after two rolling restarts in a row."""
    pool = Rolling(servers, depth, seed=seed, buckets=buckets, forget=forget)
    pool.restart_all(down=down)
    pool.restart_all(down=down)
    return pool


def lines() -> Iterator[str]:
    """Yield the rows of the table of docs/adr/0006."""
    for servers in (4, 8):
        for depth in (2, 3, 4):
            tcp = restarted_twice(servers, depth)
            udp = restarted_twice(servers, depth, forget=POOL.drain_time_seconds)
            cells = [
                f"{tcp.forced / tcp.pool.buckets:.0%}",
                f"{tcp.waited}",
                f"{tcp.traffic.mean('tcp'):.2f} ({tcp.traffic.worst['tcp']:.2f})",
                f"{udp.traffic.mean('udp'):.2f} ({udp.traffic.worst['udp']:.2f})",
                f"{tcp.traffic.mean('ack'):.2f} ({tcp.traffic.worst['ack']:.2f})",
            ]
            yield f"| {servers} | {depth} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for line in lines():
        sys.stdout.write(f"{line}\n")
