"""The control loop: observe, decide, publish.

One thread, one round at a time. A report, an acknowledgement, a drain request, the next probe, the
next possible silence or the tick starts a round, whichever is first. What a round cannot do (no
store, another controller was first) is logged, and the next round tries again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from controlplane.controller.wall_clock import WallClock
from controlplane.decide.deaths import Deaths
from controlplane.decide.groups import Groups
from controlplane.decide.health import fold
from controlplane.decide.pool_step import ROUND_SECONDS
from controlplane.decide.settlement import Settlement
from controlplane.decide.signs import not_ready, refused_by_probes, refusing
from controlplane.decide.views import FleetView, RoundView
from controlplane.domain.controller_state import ControllerState
from controlplane.domain.decisions import Decisions, Proved
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, PAST_REGISTERED, Cluster, table_kind
from controlplane.observe.loads import LoadSources
from controlplane.observe.observer import Observer
from controlplane.observe.probe.sockets import Prober
from controlplane.publish.asked import AskedWriter
from controlplane.publish.cluster import ClusterPublisher
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.decisions import DecisionWriter
from controlplane.publish.dumps import DumpWriter
from controlplane.publish.empty_hops import EmptyHops
from controlplane.publish.guard import DrainGuard, Held
from controlplane.publish.history import HistoryKeeper, Moment
from controlplane.publish.paths import listed
from controlplane.publish.pool import PoolOutcome, PoolPublisher
from controlplane.publish.published import Published
from controlplane.publish.state import StateKeeper, rounded
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore, StoreConflict, StoreCorrupt

MOST_SKIPPED = 10_000
"""An acknowledgement further ahead of the store than this is ignored."""
MOST_PASSED_A_ROUND = 16
"""Generations that are passed in one round: others wait for it, deaths first of all."""
NOT_PUBLISHING = "nothing can be published"
UNKNOWN = "ignored: reports of names that are not in the settings"
UNPROBED = "cannot probe: no server of this pool will be declared down"


@dataclass(frozen=True)
class Round:
    """What a round found and did, for metrics."""

    cluster: Cluster
    fleet: FleetView
    settlements: Mapping[str, Settlement]
    deaths: Deaths
    outcomes: Mapping[str, PoolOutcome] = field(default_factory=dict)
    shares: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Pool -> DIP index -> share, and buckets as published."""
    probes_sent: int = 0
    probes_unanswered: int = 0
    cut_off: frozenset[str] = frozenset()
    groups: Groups = field(default_factory=Groups)
    held: Held = field(default_factory=dict)
    presence_refused: Mapping[str, int] = field(default_factory=dict)
    """Server -> presences that could not be read, since the start."""
    proved: tuple[Proved, ...] = ()
    flows_refused: Mapping[str, int] = field(default_factory=dict)
    """Server -> reports and answers about flows that were not believed, since the start."""
    load_unknown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Pool -> servers whose load it lacks."""


class Loop:
    """Runs one leading controller. The caller owns leadership, store, prober and sources."""

    def __init__(
        self,
        store: ControllerStore,
        config: ControlConfig,
        prober: Prober | None,
        *,
        sources: LoadSources,
        show: Callable[[Round], None] = lambda _: None,
    ) -> None:
        self.config = config
        self._store = store
        self._show = show
        self._sources = sources
        self._sources.configure(config)
        self._conditions = ConditionLog()
        self._wall_clock = WallClock()
        self._log = structlog.get_logger()
        self.observer = Observer(store, config, prober, time.monotonic())
        self.published = Published(store)
        self._cluster = ClusterPublisher(store, self.published, self._conditions)
        self._state = StateKeeper(store, self._conditions)
        self._begun = False
        self._pools: dict[str, PoolPublisher] = {}
        self._guard = DrainGuard()
        self._empty_hops = EmptyHops(store, self._conditions, self.observer.last_dumps)
        self._decisions = DecisionWriter(store, self._conditions)
        self._asked = AskedWriter(store, self._conditions)
        self._history = HistoryKeeper(store, self._conditions)
        self._dumps = DumpWriter(store, self._conditions)
        self._view: RoundView | None = None
        self._next_tick = 0.0

    def configure(self, config: ControlConfig, prober: Prober | None) -> None:
        """Use other settings from the next round on."""
        self.config = config
        self.observer.configure(config, prober)
        self._sources.configure(config)
        self._next_tick = 0.0

    def run(self, stop: threading.Event, between: Callable[[], None] = lambda: None) -> None:
        """Do rounds until ``stop``; ``between`` is called before each (settings may change)."""
        while not stop.is_set():
            between()
            self._wall_clock.look()
            started, busy = time.monotonic(), 0.0
            try:
                self.round()
                busy = time.monotonic() - started
                self._store.wait_reports(max(0.0, self._next_round() - time.monotonic()))
                self._conditions.set(NOT_PUBLISHING, "loop", None)
            except StoreConflict as error:
                self._log.warning("another controller was first", reason=str(error))
                stop.wait(ROUND_SECONDS)
            except BrigadeError as error:
                self._conditions.set(NOT_PUBLISHING, "loop", str(error), level="error")
                stop.wait(self.config.tick_seconds)
            stop.wait(max(0.0, started + max(ROUND_SECONDS, 2 * busy) - time.monotonic()))

    def _next_round(self) -> float:
        look = self.observer.next_look()
        return self._next_tick if look is None else min(look, self._next_tick)

    def round(self) -> Round:
        """Observe, decide, publish, once.

        Raises ``StoreError``, ``DocumentError``: something was not published; the next round tries
        again.
        """
        now = time.monotonic()
        self.published.refresh()
        self._begin(now)
        fleet = self.observer.look(self.config, self.published.cluster, now)
        self._pass_acknowledged(fleet)
        settlement = self._settlement(CLUSTER, fleet)
        held = self._guard.judge(self.config, fleet, self._pools, now)
        deaths = self._cluster.publish_next(self.config, fleet, settlement, now, held)
        cluster = self.published.cluster
        if cluster is None:
            raise StoreConflict("there is no cluster document yet")
        fleet = self._cluster.paths.marked(replace(fleet, cluster=cluster), now)
        view = self._round_view(cluster, fleet, now)
        pools = self._publish_tables(view)
        wall = time.time()
        decided = Decisions(
            wall,
            held,
            refusing(cluster, fleet.servers),
            self._cluster.paths.reasons(now),
            proved=self._proved(),
        )
        self._decisions.write(decided, self._pools, ticked=view.ticked)
        self._history.follow(self._moment(view, pools, wall))
        self._dumps.write(self.observer.presence.newest(), now, wall)
        done = Round(
            cluster,
            fleet,
            {k: fleet.settlement(k, g) for k, g in self.published.generations().items()},
            deaths,
            pools,
            {name: publisher.balance.shares for name, publisher in self._pools.items()},
            {name: facts.current for name, facts in self.published.facts.items()},
            self.observer.probing.sent,
            self.observer.probing.unanswered,
            self._cluster.paths.cut_off.names,
            self._cluster.paths.groups,
            held,
            self.observer.presence.refused,
            decided.proved,
            self.observer.orphans.refused,
            {name: publisher.load_unknown for name, publisher in self._pools.items()},
        )
        self._keep_state(fleet, now)
        self._show(done)
        return done

    def _proved(self) -> tuple[Proved, ...]:
        """Ask for the flows that are to be asked for; return what is proved, the most first."""
        orphans = self.observer.orphans
        self._asked.write(orphans.asked)
        return tuple(Proved(*pair, count) for pair, count in orphans.proved.most_common())

    def _moment(self, view: RoundView, pools: Mapping[str, PoolOutcome], wall: float) -> Moment:
        """Return what the history needs of a round."""
        fleet, generations = view.fleet, self.published.generations()
        heard = (r for name, r in fleet.reports.items() if fleet.servers[name].heard)
        return Moment(
            view.cluster,
            fleet.drain_requests,
            self.published.facts,
            [outcome.result for outcome in pools.values() if outcome.result],
            all(fleet.settlement(k, g).passable for k, g in generations.items()),
            sum(one.count for report in heard for one in report.strays or ()),
            view.fleet_seconds,
            wall,
        )

    def _begin(self, now: float) -> None:
        """In the first round, go on from the stored state. Raises ``StoreError``."""
        if not self._begun:
            self._state.begin(self.published.facts, now)
            self._cluster.resume(self._state.known)
            self._begun = True

    def _keep_state(self, fleet: FleetView, now: float) -> None:
        """Store what a controller that takes over would need."""
        cluster = self.published.cluster
        names = {server.index: server.name for server in cluster.servers} if cluster else {}
        state = ControllerState(
            fleet_seconds=self._state.seconds(self.published.facts, now),
            slow_start=self._cluster.slow_start(self.config, now),
            shares={
                pool: {names[i]: share for i, share in publisher.balance.full.items() if i in names}
                for pool, publisher in self._pools.items()
            },
            requests=fleet.drain_requests,
        )
        self._log_requests(fleet)
        self._conditions.set(UNKNOWN, "store", listed(fleet.unknown))
        self._cluster.resume(state)
        self._state.keep(rounded(state), self.published.generations(), now)

    def _log_requests(self, fleet: FleetView) -> None:
        for name in fleet.servers:
            request = fleet.drain_requests.get(name)
            text = f"by {request.by or 'unknown'}: {request.reason or '-'}" if request else None
            self._conditions.set("drain requested", name, text, level="info")

    def _stored_shares(self, pool: str, cluster: Cluster) -> dict[int, float]:
        """Return the shares that an earlier controller stored, by DIP index."""
        shares = self._state.known.shares.get(pool, {})
        return {s.index: shares[s.name] for s in cluster.servers if s.name in shares}

    def _round_view(self, cluster: Cluster, fleet: FleetView, now: float) -> RoundView:
        ticked = now >= self._next_tick
        if ticked:
            self._next_tick = now + self.config.tick_seconds
            self._log_unprobed(cluster)
        before = self._view
        failing = before.failing if before else frozenset()
        if before:  # what a silent server refused is asked anew in each round
            failing -= {pair for pair in before.refused if fleet.servers[pair[0]].silent}
        refused = refused_by_probes(fleet.servers)
        self._view = RoundView(
            now=now,
            fleet_seconds=self._state.seconds(self.published.facts, now),
            ticked=ticked,
            config=self.config,
            fleet=fleet,
            cluster=cluster,
            settled_cluster=self._cluster.settled,
            failing=fold(failing, fleet.reports, cluster.services) | refused,
            refused=refused,
            unfit=not_ready(cluster, fleet.servers),
            silent=fleet.silent(),
            loads=self._pool_loads(cluster, fleet) if ticked or before is None else before.loads,
            ramps=self._cluster.ramps(self.config, now),
            cut_off=self._cluster.paths.cut_off.names,
        )
        return self._view

    def _log_unprobed(self, cluster: Cluster) -> None:
        reasons = self.observer.unprobed(cluster)
        for pool in cluster.pools:
            self._conditions.set(UNPROBED, pool.name, reasons.get(pool.name))

    def _pool_loads(self, cluster: Cluster, fleet: FleetView) -> dict[str, dict[int, float | None]]:
        dips = {server.name: str(server.dip) for server in cluster.servers}
        indices = {server.name: server.index for server in cluster.servers}
        return {
            pool.name: {
                indices[name]: load
                for name, load in self._sources.loads(pool.name, dips, fleet).items()
            }
            for pool in cluster.pools
        }

    def _publish_tables(self, view: RoundView) -> dict[str, PoolOutcome]:
        self._pools = {
            pool.name: self._pools.get(pool.name)
            or PoolPublisher(
                pool,
                self.published,
                self._conditions,
                self._stored_shares(pool.name, view.cluster),
            )
            for pool in view.cluster.pools
        }
        self._look_for_empty_hops(view)
        outcomes = {}
        for pool in view.cluster.pools:
            publisher = self._pools[pool.name]
            publisher.pool = pool
            settlement = self._settlement(table_kind(pool.name), view.fleet)
            known = partial(self._empty_hops.occupancy, pool, servers=view.cluster.servers)
            outcomes[pool.name] = publisher.publish_next(settlement, view, known)
        return outcomes

    def _look_for_empty_hops(self, view: RoundView) -> None:
        names = [pool.name for pool in view.cluster.pools]
        settlements = {
            name: found
            for name in names
            if (found := self._settlement(table_kind(name), view.fleet)) is not None
        }
        facts = self.published.facts
        changing = {name for name in settlements if facts[name].in_transition}
        self._empty_hops.follow(view.cluster, settlements, changing, view.now)
        if view.ticked:
            self._empty_hops.read(view.cluster.servers, view.now)

    def _settlement(self, kind: str, fleet: FleetView) -> Settlement | None:
        generation = self.published.generations().get(kind)
        return None if generation is None else fleet.settlement(kind, generation)

    def _pass_acknowledged(self, fleet: FleetView) -> None:
        """Publish past the generations that servers have already: a seeded store may be behind.

        Raises ``StoreCorrupt``: the store is new and the fleet is not. The new store has other
        keys, so its tables would break every connection.
        """
        cluster = self.published.cluster
        known = [server.name for server in cluster.servers] if cluster else []
        begun = cluster is not None and any(s.state in PAST_REGISTERED for s in cluster.servers)
        for kind, generation in self.published.generations().items():
            ahead = max((fleet.acknowledged_by(name, kind) for name in known), default=0)
            if ahead <= generation:
                continue
            if ahead - generation > MOST_SKIPPED:
                self._conditions.set("an acknowledgement is not believed", kind, ahead)
                continue
            if not begun:
                raise StoreCorrupt(
                    f"servers run {kind} generation {ahead}, but this store began anew: stop the "
                    "controller, empty the store, begin with --seed and a server's state directory"
                )
            self._log.warning("agents are ahead of the store", about=kind, generation=ahead)
            self.published.pass_generation(kind, min(ahead, generation + MOST_PASSED_A_ROUND - 1))
