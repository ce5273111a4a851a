"""Acknowledgements to the store, at once, and a report every 250 ms.

Two threads beside the follower, each with a store of its own: if one hangs, the others and the
forwarding go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from controlplane.domain.objects import Origin, Report, Strays
from controlplane.store.contract import AgentStore, StoreConflict, StoreError
from lb.agent.facts import Facts, SharedFacts
from lb.agent.worker import Backoff, Worker

REPORT_SECONDS = 0.25
REPEAT_SECONDS = 5.0
"""How often everything is acknowledged again, whatever is new meanwhile: a store that was started
again (`--seed`) does not have it, and one that lost its power may have lost it."""
MAX_ERRORS = 8
REFUSED_SECONDS = 1.0
"""How often a server whose name belongs to another machine looks whether that is still so."""
TWIN_SECONDS = 3.0
"""For how long a server that reported before may be refused: its DIP may be changing."""


class Acknowledger(Worker):
    """Acknowledges the generations that the data plane has in use, until the store has them."""

    def __init__(
        self,
        store: AgentStore,
        server: str,
        origin: Origin,
        facts: SharedFacts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("acknowledge")
        self._origin = origin
        self._facts = facts
        self._clock = clock
        self._store = store
        self._server = server
        self._backoff = Backoff()
        self._wanted: Mapping[str, int] = {}
        self._acknowledged: dict[str, int] = {}
        self._repeat_at = self._clock() + REPEAT_SECONDS

    def acknowledge(self, generations: Mapping[str, int]) -> None:
        """Request this as soon as possible."""
        with self.requested:
            self._wanted = dict(generations)
            self.requested.notify()

    def step(self) -> float:
        """Acknowledge what is pending; wait until something is."""
        with self.requested:
            if not self._pending() and not self.ending.is_set():
                self.requested.wait(max(0.0, self._repeat_at - self._clock()))
            if self._clock() >= self._repeat_at:
                self._repeat_at = self._clock() + REPEAT_SECONDS
                self._acknowledged.clear()
            pending = self._pending()
        if pending and not self._facts.own_name:
            return REFUSED_SECONDS
        for kind, generation in pending.items():
            try:
                self._store.acknowledge(self._server, kind, generation, self._origin)
            except StoreError as error:
                structlog.get_logger().warning("cannot acknowledge", about=kind, reason=str(error))
                return self._backoff.failed()
            self._acknowledged[kind] = generation
        self._backoff.succeeded()
        return 0.0

    def _pending(self) -> dict[str, int]:
        wanted = sorted(self._wanted.items())
        return {kind: number for kind, number in wanted if self._acknowledged.get(kind) != number}


class Reporter(Worker):
    """Reports the facts at a steady rate."""

    def __init__(
        self,
        store: AgentStore,
        compose: Callable[[int], Report],
        facts: SharedFacts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("report")
        self._store = store
        self._compose = compose
        self._facts = facts
        self._clock = clock
        self._backoff = Backoff(first=REPORT_SECONDS, longest=2.0)
        self._sequence = 0
        self._may_be_refused_until = 0.0

    def step(self) -> float:
        """Send one report."""
        started = time.monotonic()
        if self._facts.current.misnamed:
            return REFUSED_SECONDS
        self._sequence += 1
        try:
            self._store.report(self._compose(self._sequence))
        except StoreConflict as error:
            return self._refused(str(error), started)
        except StoreError as error:
            structlog.get_logger().warning("cannot report", reason=str(error))
            return self._backoff.failed()
        self._facts.update(
            last_contact=self._clock(),
            heard_at=time.monotonic(),
            twin=False,
            mark=self._store.mark,
            asked=self._store.asked,
        )
        self._facts.set_trouble("twin", None)
        self._may_be_refused_until = time.monotonic() + TWIN_SECONDS
        self._backoff.succeeded()
        return max(0.0, REPORT_SECONDS - (time.monotonic() - started))

    def _refused(self, reason: str, now: float) -> float:
        """Note that the name is another machine's; go on asking, for that one may end."""
        if now >= self._may_be_refused_until:
            if not self._facts.current.twin:
                structlog.get_logger().error("this machine is ignored", reason=reason)
            self._facts.update(twin=True)
            self._facts.set_trouble("twin", reason)
        return REFUSED_SECONDS


def compose_report(
    facts: Facts, server: str, boot_id: str, sequence: int, now: float, version: str
) -> Report:
    """Return the report of these facts. ``boot_id`` is unique to this run of the agent."""
    return Report(
        server=server,
        boot_id=boot_id,
        sequence=sequence,
        sent_at=now,
        ready=facts.ready,
        detached=facts.detached,
        load=facts.load,
        connections=facts.connections,
        checks=dict(facts.checks),
        version=version,
        xdp_mode=facts.xdp_mode,
        errors=tuple(facts.troubles.values())[:MAX_ERRORS],
        refused_cluster=facts.refused_cluster,
        paths=facts.path_report,
        missing=facts.missing,
        leaving=facts.leaving,
        strays=tuple(in_order(facts.strays)),
    )


def in_order(strays: Mapping[tuple[str, str], int]) -> list[Strays]:
    """Return counts by pool and cause as objects, the greatest first."""
    found = [Strays(pool, str(cause), count) for (pool, cause), count in strays.items()]
    return sorted(found, key=lambda one: (-one.count, one.pool, one.cause))
