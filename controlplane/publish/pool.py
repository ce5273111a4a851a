"""Publishes the tables of one pool: decides the step, runs the builder, remembers shares."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from controlplane.builder import BuildRequest, BuildResult, NoServerLeft, build
from controlplane.decide.health import PoolHealth, pool_health
from controlplane.decide.pool_step import (
    PoolDecision,
    Step,
    decide_pool,
    members,
    pool_states,
    trusted_indices,
)
from controlplane.decide.settlement import Settlement
from controlplane.decide.signs import joins_when_ready
from controlplane.decide.views import PoolView, RoundView
from controlplane.domain.bounds import MAX_DEPTH
from controlplane.domain.objects import Pool, ServerState, Table, table_kind
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.pool_shares import Balance
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig, PoolConfig

NOBODY_LEFT = "no server left, the last table stays"


@dataclass(frozen=True)
class PoolOutcome:
    """What a round did with a pool, for metrics and logs."""

    decision: PoolDecision
    health: PoolHealth
    result: BuildResult | None = None
    build_seconds: float | None = None


class PoolPublisher:
    """Publishes the tables of one pool. ``shares``: the full shares that it begins with."""

    def __init__(
        self,
        pool: Pool,
        published: Published,
        conditions: ConditionLog,
        shares: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        self.pool = pool
        self.balance = Balance(shares)
        self._published = published
        self._conditions = conditions
        self._log = structlog.get_logger().bind(pool=pool.name)
        self._last_attempt: tuple[object, ...] = ()
        self._config = PoolConfig(name=pool.name, buckets=pool.buckets, depth=pool.depth)

    def publish_next(self, settlement: Settlement | None, view: RoundView) -> PoolOutcome:
        """Publish the next table if there is one to publish now.

        Raises ``StoreError``: it could not be published; the next round tries again.
        """
        config = self._current_config(view.config)
        table = self._table()
        facts = self._published.facts[self.pool.name] if table else None
        # Before the first table, every server counts as healthy: none can be ready without one.
        servers = view.cluster.servers if table else ()
        not_yet = joins_when_ready(servers, view.fleet.servers)
        serving = members(view.config, view.cluster, self.pool.name, not_yet)
        health = PoolHealth()
        if table:
            threshold, services = view.config.panic_threshold, view.cluster.services
            health = pool_health(
                self.pool.name, services, view.failing, serving, threshold, view.unfit
            )
        states = pool_states(
            view.cluster,
            facts or TableFacts(),
            serving,
            trusted_indices(view.settled_cluster, facts or TableFacts()),
            frozenset() if health.panic else health.unhealthy,
        )
        decision = decide_pool(
            facts,
            settlement,
            states,
            health,
            silent=view.silent,
            withdrawing=facts is not None and view.is_withdrawing(facts.named),
        )
        if view.ticked or self.balance.stale(states):
            self.balance.update(config, self._pool_view(view, states, facts, health), view.now)
        self._log_conditions(decision, health)
        attempt = (table and table.generation, decision, tuple(sorted(self.balance.shares)))
        if decision.step is Step.WAIT or (attempt == self._last_attempt and not view.ticked):
            return PoolOutcome(decision, health)
        outcome = self._build(table, decision, health, self._request(table, decision, view))
        self._last_attempt = attempt
        return outcome

    def _current_config(self, config: ControlConfig) -> PoolConfig:
        """Return the pool's settings, or the last ones of a pool that left the settings.

        Such a pool is in use until the next cluster document, and dead servers must leave it.
        """
        found = (pool for pool in config.pool if pool.name == self.pool.name)
        self._config = next(found, self._config)
        return self._config

    def _table(self) -> Table | None:
        """Return the newest table, ``None`` if it has another shape (of an earlier pool)."""
        table = self._published.tables.get(self.pool.name)
        if table and (table.buckets, table.depth) == (self.pool.buckets, self.pool.depth):
            return table
        return None

    def _pool_view(
        self,
        view: RoundView,
        states: Mapping[int, ServerState],
        facts: TableFacts | None,
        health: PoolHealth,
    ) -> PoolView:
        limits = {server.name: server.max_connections for server in view.config.server}
        servers, reports = view.cluster.servers, view.fleet.reports
        return PoolView(
            states=states,
            loads=view.loads.get(self.pool.name, {}),
            ramps=view.ramps,
            current=facts.current if facts else {},
            limits={s.index: limit for s in servers if (limit := limits.get(s.name))},
            connections={
                s.index: reports[s.name].connections for s in servers if s.name in reports
            },
            frozen=bool(view.silent) or health.panic,
        )

    def _request(
        self, table: Table | None, decision: PoolDecision, view: RoundView
    ) -> BuildRequest:
        settled, config = view.settled_cluster, self._config
        return BuildRequest(
            pool=self.pool,
            cluster_generation=max(
                settled.generation if settled else 0, table.cluster_generation if table else 0
            ),
            generation=self._published.generations().get(table_kind(self.pool.name), 0) + 1,
            shares=self.balance.shares,
            states=decision.states,
            caps=self.balance.caps,
            cap_factor=config.cap,
            settled=decision.step is Step.BUILD,
            now=view.fleet_seconds,
            drain_time_seconds=config.drain_time_seconds,
            forget_after_seconds=view.config.forget_after_seconds(config),
        )

    def _build(
        self,
        table: Table | None,
        decision: PoolDecision,
        health: PoolHealth,
        request: BuildRequest,
    ) -> PoolOutcome:
        started = time.perf_counter()
        try:
            result = build(table, request)
        except NoServerLeft as error:
            self._conditions.set(NOBODY_LEFT, self.pool.name, str(error))
            return PoolOutcome(decision, health)
        seconds = time.perf_counter() - started
        self._conditions.set(NOBODY_LEFT, self.pool.name, None)
        if result.table:
            self._published.publish_table(result.table)
            self._log.info(
                "table published",
                about=f"{self.pool.name} {result.table.generation}",
                generation=result.table.generation,
                step=decision.step.value,
                moved=result.moved,
                prepared=result.prepared,
                forced=result.forced,
                forgotten=result.forgotten,
                pending=result.pending,
            )
            self._log_forced(result)
        return PoolOutcome(decision, health, result, seconds)

    def _log_forced(self, result: BuildResult) -> None:
        """Log hops that were pushed out while connections may still need them."""
        if result.forced:
            deeper = "" if self.pool.depth == MAX_DEPTH else f" or a new pool of depth {MAX_DEPTH},"
            self._log.warning(
                "hops forced out within their drain time, their connections break",
                about=self.pool.name,
                hops=result.forced,
                remedy=f"longer pauses between drains,{deeper} or a shorter drain_time_seconds",
            )

    def _log_conditions(self, decision: PoolDecision, health: PoolHealth) -> None:
        name, log = self.pool.name, self._conditions
        log.set("panic: too many unhealthy, the last table stays", name, health.panic)
        log.set("unhealthy, draining in this pool", name, health.unhealthy)
        log.set("going on without silent agents", name, decision.gone_on_without)
