"""The control loop: observe, decide, publish. Effects live here, decisions elsewhere.

One thread, one round at a time; a round is woken by a report, an acknowledgement, a wish, the next
probe, the next possible silence or the tick, whichever is first. Whatever a round cannot do (no
store, another controller was first) it leaves as it is, says so, and the next round looks again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from controlplane.decide.deaths import Deaths
from controlplane.decide.health import fold
from controlplane.decide.settlement import Settlement, settlement, silent_ones
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, PAST_REGISTERED, Cluster, table_kind
from controlplane.observe.loads import LoadSources
from controlplane.observe.observer import Observer, Sight
from controlplane.observe.probe.sockets import Prober
from controlplane.publish.cluster import Membership
from controlplane.publish.condition_log import Say
from controlplane.publish.pool import PoolDesk, PoolReport, Situation
from controlplane.publish.published import Newest
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore, StoreConflict, StoreCorrupt

PACE_SECONDS = 0.02
"""Least time between rounds: reports of a fleet arrive in bursts. A longer round rests as long."""
MOST_SKIPPED = 10_000
"""An acknowledged generation further ahead of the store than this is not believed."""
UNPROBED = "cannot probe: no server of this pool will be declared down"


@dataclass(frozen=True)
class Clocks:
    """``now`` is monotonic, ``wall`` Unix seconds."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True)
class Round:
    """What a round found and did, for metrics."""

    config: ControlConfig
    cluster: Cluster
    sight: Sight
    settlements: Mapping[str, Settlement]
    deaths: Deaths
    pools: Mapping[str, PoolReport] = field(default_factory=dict)
    shares: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Pool -> DIP index -> share, and buckets as published."""
    probes_sent: int = 0
    probes_unanswered: int = 0


class Loop:
    """Runs one leading controller. The caller owns leadership, store, prober and sources."""

    def __init__(
        self,
        store: ControllerStore,
        config: ControlConfig,
        prober: Prober | None,
        *,
        sources: LoadSources,
        clocks: Clocks | None = None,
        show: Callable[[Round], None] = lambda _: None,
    ) -> None:
        self.config = config
        self._store = store
        self._clocks = clocks or Clocks()
        self._show = show
        self._sources = sources
        self._sources.configure(config)
        self._say = Say()
        self._log = structlog.get_logger()
        self.observer = Observer(store, config, prober, self._clocks.now())
        self.newest = Newest(store)
        self._membership = Membership(store, self.newest, self._say)
        self._desks: dict[str, PoolDesk] = {}
        self._situation: Situation | None = None
        self._next_tick = 0.0

    def configure(self, config: ControlConfig, prober: Prober | None) -> None:
        """Go on with other settings, from the next round on."""
        self.config = config
        self.observer.configure(config, prober)
        self._sources.configure(config)
        self._next_tick = 0.0

    def run(self, stop: threading.Event, between: Callable[[], None] = lambda: None) -> None:
        """Do rounds until ``stop``; ``between`` is called before each (settings may change)."""
        while not stop.is_set():
            between()
            started, busy = self._clocks.now(), 0.0
            try:
                self.round()
                busy = self._clocks.now() - started
                self._store.wait_reports(max(0.0, self._next_round() - self._clocks.now()))
                self._say.while_true("nothing can be published", "loop", None)
            except StoreConflict as error:
                self._log.warning("another controller was first", reason=str(error))
                stop.wait(PACE_SECONDS)
            except BrigadeError as error:
                self._say.while_true("nothing can be published", "loop", str(error), level="error")
                stop.wait(self.config.tick_seconds)
            stop.wait(max(0.0, started + max(PACE_SECONDS, 2 * busy) - self._clocks.now()))

    def _next_round(self) -> float:
        look = self.observer.next_look()
        return self._next_tick if look is None else min(look, self._next_tick)

    def round(self) -> Round:
        """Observe, decide, publish, once.

        Raises:
            StoreError, DocumentError: something was not published; the next round tries again.

        """
        now = self._clocks.now()
        self.newest.refresh()
        sight = self.observer.look(self.config, self.newest.cluster, now)
        self._pass_acknowledged(sight)
        deaths = self._membership.work(self.config, sight, self._settlement(CLUSTER, sight), now)
        cluster = self.newest.cluster
        if cluster is None:
            raise StoreConflict("there is no cluster document yet")
        situation = self._situate(cluster, sight, now)
        pools = self._tables(situation, sight)
        done = Round(
            self.config,
            cluster,
            sight,
            self._settlements(sight),
            deaths,
            pools,
            {name: desk.balance.shares for name, desk in self._desks.items()},
            {name: facts.current for name, facts in self.newest.facts.items()},
            self.observer.probing.sent,
            self.observer.probing.unanswered,
        )
        self._show(done)
        return done

    def _situate(self, cluster: Cluster, sight: Sight, now: float) -> Situation:
        ticked = now >= self._next_tick
        if ticked:
            self._next_tick = now + self.config.tick_seconds
            self._tell_unprobed(cluster)
        before = self._situation
        failing = before.failing if before else frozenset()
        self._situation = Situation(
            now=now,
            wall=self._clocks.wall(),
            ticked=ticked,
            config=self.config,
            cluster=cluster,
            settled_cluster=self._membership.settled,
            views=sight.views,
            reports=sight.reports,
            failing=fold(failing, sight.reports, cluster.services),
            silent=silent_ones(cluster, sight.views),
            loads=self._pool_loads(cluster, sight) if ticked or before is None else before.loads,
            ramps=self._membership.ramps(self.config, now),
        )
        return self._situation

    def _tell_unprobed(self, cluster: Cluster) -> None:
        reasons = self.observer.unprobed(cluster)
        for pool in cluster.pools:
            self._say.while_true(UNPROBED, pool.name, reasons.get(pool.name))

    def _pool_loads(self, cluster: Cluster, sight: Sight) -> dict[str, dict[int, float | None]]:
        dips = {server.name: str(server.dip) for server in cluster.servers}
        indices = {server.name: server.index for server in cluster.servers}
        return {
            pool.name: {
                indices[name]: load
                for name, load in self._sources.loads(pool.name, dips, sight).items()
            }
            for pool in cluster.pools
        }

    def _tables(self, situation: Situation, sight: Sight) -> dict[str, PoolReport]:
        pools = situation.cluster.pools
        self._desks = {
            pool.name: self._desks.get(pool.name) or PoolDesk(pool, self._say) for pool in pools
        }
        reports = {}
        for name, desk in self._desks.items():
            desk.pool = next(pool for pool in pools if pool.name == name)
            found = self._settlement(table_kind(name), sight)
            reports[name] = desk.work(self.newest, found, situation)
        return reports

    def _settlement(self, kind: str, sight: Sight) -> Settlement | None:
        generation = self.newest.generations().get(kind)
        cluster = self.newest.cluster
        if generation is None or cluster is None:
            return None
        return settlement(
            kind,
            generation,
            cluster,
            sight.views,
            sight.acknowledged,
            self.config.silent_wait_seconds,
        )

    def _settlements(self, sight: Sight) -> dict[str, Settlement]:
        found = {kind: self._settlement(kind, sight) for kind in self.newest.generations()}
        return {kind: settled for kind, settled in found.items() if settled}

    def _pass_acknowledged(self, sight: Sight) -> None:
        """Go beyond generations that servers already have (a seeded store may be behind).

        Raises:
            StoreCorrupt: a store that began anew, under a fleet that runs. It has other keys: what
                it published would break every connection.

        """
        cluster = self.newest.cluster
        known = [server.name for server in cluster.servers] if cluster else []
        begun = cluster is not None and any(s.state in PAST_REGISTERED for s in cluster.servers)
        for kind, generation in self.newest.generations().items():
            ahead = max((sight.acknowledged.get(n, {}).get(kind, 0) for n in known), default=0)
            if ahead <= generation:
                continue
            if ahead - generation > MOST_SKIPPED:
                self._say.while_true("an acknowledgement is not believed", kind, ahead)
                continue
            if not begun:
                raise StoreCorrupt(
                    f"servers run {kind} generation {ahead}, but this store began anew: stop the "
                    "controller, empty the store, begin with --seed and a server's state directory"
                )
            self._log.warning("agents are ahead of the store", about=kind, generation=ahead)
            self.newest.pass_generation(kind, ahead)
