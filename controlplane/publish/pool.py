"""One pool's table, kept up to date: plans, asks the builder, publishes. Remembers shares."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from controlplane.builder import BuildRequest, BuildResult, NoServerLeft, build
from controlplane.decide.health import Failing, PoolHealth, pool_health
from controlplane.decide.pool_step import (
    PoolPlan,
    Step,
    members,
    plan_pool,
    pool_states,
    trusted_indices,
)
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.domain.objects import Cluster, Pool, Report, ServerState, Table, table_kind
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import Say
from controlplane.publish.pool_shares import Balance, PoolSight
from controlplane.publish.published import Newest
from controlplane.settings.models import ControlConfig, PoolConfig


@dataclass(frozen=True)
class Situation:
    """What one round of the loop found. ``now`` is monotonic, ``wall`` Unix seconds."""

    now: float
    wall: float
    ticked: bool
    config: ControlConfig
    cluster: Cluster
    settled_cluster: Cluster | None
    views: Mapping[str, ServerView]
    reports: Mapping[str, Report]
    failing: Failing
    silent: frozenset[str] = frozenset()
    """Silent servers whose acknowledgement counts: they hold back moves made for load."""
    loads: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)
    """Pool -> DIP index -> load."""
    ramps: Mapping[int, float] = field(default_factory=dict)
    """How far a joining server's slow start is, 0 to 1, by DIP index."""


@dataclass(frozen=True)
class PoolReport:
    """What became of a pool in the newest round, for metrics and logs."""

    plan: PoolPlan
    health: PoolHealth
    result: BuildResult | None = None
    build_seconds: float | None = None


class PoolDesk:
    """Works on the table of one pool."""

    def __init__(self, pool: Pool, say: Say) -> None:
        self.pool = pool
        self.balance = Balance()
        self._say = say
        self._log = structlog.get_logger().bind(pool=pool.name)
        self._asked: tuple[object, ...] = ()
        self._known = PoolConfig(name=pool.name, buckets=pool.buckets, depth=pool.depth)

    def work(
        self, newest: Newest, settlement: Settlement | None, situation: Situation
    ) -> PoolReport:
        """Publish the next table if there is one to publish now.

        Raises:
            StoreError: it could not be published; nothing is remembered as done.

        """
        config = self._settings(situation.config)
        table = self._table(newest)
        facts = newest.facts[self.pool.name] if table else None
        health = self._health(situation, table)
        states = pool_states(
            situation.cluster,
            facts or TableFacts(),
            self._serving(situation),
            trusted_indices(situation.settled_cluster, facts or TableFacts()),
            frozenset() if health.panic else health.unhealthy,
        )
        plan = plan_pool(facts, settlement, states, health, silent=situation.silent)
        if situation.ticked or self.balance.stale(states):
            self.balance.update(
                config, self._sight(situation, states, facts, health), situation.now
            )
        self._tell(plan, health)
        asked = (table and table.generation, plan, tuple(sorted(self.balance.shares)))
        if plan.step is Step.WAIT or (asked == self._asked and not situation.ticked):
            return PoolReport(plan, health)
        generation = newest.generations().get(table_kind(self.pool.name), 0) + 1
        request = self._request(table, generation, plan, config, situation)
        report = self._build(newest, table, plan, health, request)
        self._asked = asked
        return report

    def _settings(self, config: ControlConfig) -> PoolConfig:
        """Return the pool's settings; the last ones of a pool that is to go with the next cluster.

        Until that can be published, the pool is in use, and its dead have to leave it.
        """
        found = (pool for pool in config.pool if pool.name == self.pool.name)
        self._known = next(found, self._known)
        return self._known

    def _table(self, newest: Newest) -> Table | None:
        """Return the newest table, ``None`` if it is of another shape (of a pool long gone)."""
        table = newest.tables.get(self.pool.name)
        if table and (table.buckets, table.depth) == (self.pool.buckets, self.pool.depth):
            return table
        return None

    def _serving(self, situation: Situation) -> frozenset[str]:
        return members(situation.config, situation.cluster, self.pool.name)

    def _health(self, situation: Situation, table: Table | None) -> PoolHealth:
        """Judge the pool; without a table yet, everybody is fit."""
        if table is None:
            return PoolHealth()
        return pool_health(
            self.pool.name,
            situation.cluster.services,
            situation.failing,
            self._serving(situation),
            situation.config.panic_threshold,
        )

    def _sight(
        self,
        situation: Situation,
        states: Mapping[int, ServerState],
        facts: TableFacts | None,
        health: PoolHealth,
    ) -> PoolSight:
        limits = {server.name: server.max_connections for server in situation.config.server}
        servers = situation.cluster.servers
        return PoolSight(
            states=states,
            loads=situation.loads.get(self.pool.name, {}),
            ramps=situation.ramps,
            facts=facts or TableFacts(),
            frozen=bool(situation.silent) or health.panic,
            limits={s.index: limit for s in servers if (limit := limits.get(s.name))},
            connections={
                s.index: situation.reports[s.name].connections
                for s in servers
                if s.name in situation.reports
            },
        )

    def _request(
        self,
        table: Table | None,
        generation: int,
        plan: PoolPlan,
        config: PoolConfig,
        situation: Situation,
    ) -> BuildRequest:
        settled = situation.settled_cluster
        return BuildRequest(
            pool=self.pool,
            cluster_generation=max(
                settled.generation if settled else 0, table.cluster_generation if table else 0
            ),
            generation=generation,
            shares=self.balance.shares,
            states=plan.states,
            caps=self.balance.caps,
            cap_factor=config.cap,
            settled=plan.step is Step.BUILD,
            now=situation.wall,
            drain_time_seconds=config.drain_time_seconds,
            forget_after_seconds=situation.config.forget_after_seconds(config),
        )

    def _build(
        self,
        newest: Newest,
        table: Table | None,
        plan: PoolPlan,
        health: PoolHealth,
        request: BuildRequest,
    ) -> PoolReport:
        started = time.perf_counter()
        try:
            result = build(table, request)
        except NoServerLeft as error:
            self._say.while_true("no server left, the last table stays", self.pool.name, str(error))
            return PoolReport(plan, health)
        seconds = time.perf_counter() - started
        self._say.while_true("no server left, the last table stays", self.pool.name, None)
        if result.table:
            newest.publish_table(result.table)
            self._log.info(
                "table published",
                about=f"{self.pool.name} {result.table.generation}",
                generation=result.table.generation,
                step=plan.step.value,
                moved=result.moved,
                prepared=result.prepared,
                forced=result.forced,
                pending=result.pending,
            )
        return PoolReport(plan, health, result, seconds)

    def _tell(self, plan: PoolPlan, health: PoolHealth) -> None:
        name = self.pool.name
        unhealthy = health.unhealthy
        self._say.while_true("panic: too many unhealthy, the last table stays", name, health.panic)
        self._say.while_true("unhealthy, draining in this pool", name, unhealthy)
        self._say.while_true("going on without silent agents", name, plan.gone_on_without)
