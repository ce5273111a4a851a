"""Publishes the tables of one pool: decides the step, runs the builder, remembers shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

import structlog

from controlplane.builder import BuildRequest, BuildResult, NoServerLeft, Occupancy, build
from controlplane.decide.health import CALM_SECONDS, Panic, PoolHealth, next_panic, pool_health
from controlplane.decide.plan.effect import DrainEffect, drain_effect
from controlplane.decide.pool_step import (
    PoolDecision,
    Step,
    decide_pool,
    members,
    pool_states,
    trusted_indices,
)
from controlplane.decide.reasons import PoolFacts, explain, full_chains
from controlplane.decide.settlement import Settlement
from controlplane.decide.signs import joins_when_ready
from controlplane.decide.views import PoolView, RoundView
from controlplane.domain.bounds import MAX_DEPTH
from controlplane.domain.decisions import PoolDecisions
from controlplane.domain.objects import (
    CLUSTER,
    SERVING,
    Pool,
    ServerState,
    Table,
    table_kind,
)
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.pool_shares import Balance
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig, PoolConfig

DROP_SECONDS = 5.0
"""How often empty hops may leave in a table of their own: each is a new table for every server."""
MOST_NAMED = 64
"""Servers whose load is not known: so many are named in the decisions."""
NOBODY_LEFT = "no server left, the last table stays"


@dataclass(frozen=True)
class PoolOutcome:
    """What a round did with a pool, for metrics and logs."""

    decision: PoolDecision
    health: PoolHealth
    result: BuildResult | None = None
    build_seconds: float | None = None


@dataclass(frozen=True)
class _Round:
    """What a round knew and decided. ``plan``: what the builder found, if it ran."""

    view: RoundView
    decision: PoolDecision
    settlement: Settlement | None
    plan: BuildResult | None = None


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
        self._wanted: BuildRequest | None = None
        self._round: _Round | None = None
        self._dropped_at = float("-inf")
        self._panic = Panic()
        self._forced = 0
        self.health = PoolHealth()

    @property
    def generation(self) -> int:
        """The newest table's generation, 0 before the first."""
        return self._published.generations().get(table_kind(self.pool.name), 0)

    def effect_of_drain(self, index: int) -> DrainEffect:
        """Return what draining a server would do to the newest table, by the last round's view."""
        table = self._table()
        if table is None or self._wanted is None:
            return DrainEffect()
        return drain_effect(table, self._wanted, index)

    def publish_next(
        self,
        settlement: Settlement | None,
        view: RoundView,
        known: Callable[[Table], Occupancy | None] = lambda _: None,
    ) -> PoolOutcome:
        """Publish the next table if there is one to publish now.

        ``known``: what is known of the connections behind a table's hops.

        Raises ``StoreError``: it could not be published; the next round tries again.
        """
        config = self._current_config(view.config)
        table = self._table()
        facts = self._published.facts[self.pool.name] if table else None
        # Before the first table, every server counts as healthy: none can be ready without one.
        servers = view.cluster.servers if table else ()
        not_yet = joins_when_ready(servers, view.fleet.servers)
        serving = members(view.config, view.cluster, self.pool.name, not_yet)
        health = self._judge_health(view, serving) if table else PoolHealth()
        states = pool_states(
            view.cluster,
            facts or TableFacts(),
            serving,
            trusted_indices(view.settled_cluster, facts or TableFacts()),
            frozenset() if health.panic else health.unhealthy,
            view.fleet.leaving() if settlement and settlement.settled else (),
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
        request = self._request(table, decision, view)
        if table is not None and decision.step is not Step.DEATHS_ONLY:
            request = replace(request, occupancy=known(table))
        self.health, self._wanted = health, request
        self._round = _Round(view, decision, settlement)
        attempt = (table and table.generation, decision, tuple(sorted(self.balance.shares)))
        if decision.step is Step.WAIT or (attempt == self._last_attempt and not view.ticked):
            return PoolOutcome(decision, health)
        outcome = self._build(table, decision, health, request)
        if outcome.result and outcome.result.only_drops:
            self._dropped_at = view.now
        self._round = replace(self._round, plan=outcome.result)
        self._last_attempt = attempt
        return outcome

    def decisions(self) -> PoolDecisions:
        """Return what the last round decided, and why servers lack buckets."""
        table, done, request = self._table(), self._round, self._wanted
        if table is None or done is None or request is None:
            return PoolDecisions()
        names = {server.index: server.name for server in done.view.cluster.servers}
        waiting = done.settlement.waiting_for if done.settlement else ()
        return PoolDecisions(
            generation=table.generation,
            waiting_for=waiting,
            panic=self.health.panic,
            shares={names[i]: share for i, share in request.shares.items() if i in names},
            caps={names[i]: cap for i, cap in request.caps.items() if i in names},
            servers=explain(self._facts(table, done, request)),
            forced=self._forced,
            load_unknown=self.load_unknown[:MOST_NAMED],
        )

    @property
    def load_unknown(self) -> tuple[str, ...]:
        """Servers that are heard and whose load is not known, if the pool is balanced by load."""
        if self._round is None or self._config.balance != "load":
            return ()
        view = self._round.view
        loads = view.loads.get(self.pool.name, {})
        members = {s.name for s in view.config.server if s.serves(self.pool.name)}
        return tuple(
            server.name
            for server in view.cluster.servers
            if server.state in SERVING
            and server.name in members
            and view.fleet.servers[server.name].heard
            and loads.get(server.index) is None
        )

    def _facts(self, table: Table, done: _Round, request: BuildRequest) -> PoolFacts:
        """Return what explains the newest table. Without a plan of this round, one is made."""
        plan, view = done.plan, done.view
        if plan is None:
            with suppress(NoServerLeft):
                plan = build(table, replace(request, settled=False))
        return PoolFacts(
            pool=self.pool.name,
            buckets=self.pool.buckets,
            cluster=view.cluster,
            fleet=view.fleet,
            members={s.name for s in view.config.server if s.serves(self.pool.name)},
            states=request.states,
            current=self._published.facts[self.pool.name].current,
            full=self.balance.full,
            shares=request.shares,
            health=self.health,
            failing=view.failing,
            decision=done.decision,
            settlement=done.settlement,
            cluster_settlement=view.fleet.settlement(CLUSTER, view.cluster.generation),
            plan=plan,
            silent=view.silent,
            full_chains=full_chains(table, request) if plan and plan.lacking else None,
        )

    def _judge_health(self, view: RoundView, serving: Collection[str]) -> PoolHealth:
        """Return who is unhealthy, and whether that is ignored: panic outlasts its cause."""
        threshold, services = view.config.panic_threshold, view.cluster.services
        found = pool_health(self.pool.name, services, view.failing, serving, threshold, view.unfit)
        failing = len(found.unhealthy)
        self._panic = next_panic(
            self._panic, failing, len(serving), threshold, view.now, CALM_SECONDS
        )
        return replace(found, panic=self._panic.on)

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
            generation=self.generation + 1,
            shares=self.balance.shares,
            states=decision.states,
            caps=self.balance.caps,
            cap_factor=config.cap,
            settled=decision.step is Step.BUILD,
            now=view.fleet_seconds,
            drain_time_seconds=config.drain_time_seconds,
            forget_after_seconds=view.config.forget_after_seconds(config),
            forget_occupied=config.forget_after_seconds is not None,
            drop_now=view.now >= self._dropped_at + DROP_SECONDS,
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
                empty=result.dropped,
                pending=result.pending,
            )
            self._forced += result.forced
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
                connections=_about(result.lost_connections),
                remedy=f"longer pauses between drains,{deeper} or a shorter drain_time_seconds",
            )

    def _log_conditions(self, decision: PoolDecision, health: PoolHealth) -> None:
        name, log = self.pool.name, self._conditions
        log.set("panic: too many unhealthy, their checks are ignored", name, health.panic)
        draining = frozenset() if health.panic else health.unhealthy
        log.set("unhealthy, draining in this pool", name, draining)
        log.set("going on without silent agents", name, decision.gone_on_without)


def _about(connections: float | None) -> str | int:
    """Return a number of connections as it is logged: it is an estimate."""
    return "unknown" if connections is None else round(connections)
