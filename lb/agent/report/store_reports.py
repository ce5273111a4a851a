"""Telling the store: acknowledgements at once, a report every 250 ms.

Two threads beside the one that follows, each with a store of its own: whichever hangs, the others
and the forwarding go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from controlplane.domain.objects import Report
from controlplane.store.contract import AgentStore, StoreError
from lb.agent.facts import Board, Facts
from lb.agent.worker import Backoff, Worker

REPORT_SECONDS = 0.25
RETELL_SECONDS = 5.0
"""How often all of it is said again, however much is new meanwhile: a store begun anew (`--seed`)
has not heard it, one that lost its power may have forgotten it."""
MOST_ERRORS = 8


class Acknowledger(Worker):
    """Says which generations the data plane has in use, until the store has heard it."""

    def __init__(
        self,
        store: AgentStore,
        server: str,
        board: Board,
        on_death: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("acknowledge", on_death)
        self._clock = clock
        self._store = store
        self._server = server
        self._board = board
        self._backoff = Backoff()
        self._changed = threading.Condition()
        self._wanted: Mapping[str, int] = {}
        self._told: dict[str, int] = {}
        self._retell_at = self._clock() + RETELL_SECONDS

    def say(self, in_use: Mapping[str, int]) -> None:
        """Have this told as soon as can be."""
        with self._changed:
            self._wanted = dict(in_use)
            self._changed.notify()

    def stop(self) -> None:
        """Ask it to end."""
        super().stop()
        with self._changed:
            self._changed.notify()

    def step(self) -> float:
        """Tell what is untold; sleep until there is more."""
        with self._changed:
            if not self._untold() and not self.ending.is_set():
                self._changed.wait(max(0.0, self._retell_at - self._clock()))
            if self._clock() >= self._retell_at:
                self._retell_at = self._clock() + RETELL_SECONDS
                self._told.clear()
            untold = self._untold()
        for kind, generation in untold.items():
            try:
                self._store.acknowledge(self._server, kind, generation)
            except StoreError as error:
                structlog.get_logger().warning("cannot acknowledge", about=kind, reason=str(error))
                return self._backoff.failed()
            self._told[kind] = generation
        self._backoff.succeeded()
        return 0.0

    def _untold(self) -> dict[str, int]:
        return {k: g for k, g in sorted(self._wanted.items()) if self._told.get(k) != g}


class Reporter(Worker):
    """Reports what the board says, on a steady beat."""

    def __init__(
        self,
        store: AgentStore,
        compose: Callable[[int], Report],
        board: Board,
        on_death: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("report", on_death)
        self._store = store
        self._compose = compose
        self._board = board
        self._clock = clock
        self._backoff = Backoff(first=REPORT_SECONDS, longest=2.0)
        self._sequence = 0

    def step(self) -> float:
        """Send one report."""
        started = time.monotonic()
        self._sequence += 1
        try:
            self._store.report(self._compose(self._sequence))
        except StoreError as error:
            structlog.get_logger().warning("cannot report", reason=str(error))
            return self._backoff.failed()
        self._board.post(last_contact=self._clock())
        self._backoff.succeeded()
        return max(0.0, REPORT_SECONDS - (time.monotonic() - started))


def compose_report(
    facts: Facts, server: str, boot_id: str, sequence: int, now: float, version: str
) -> Report:
    """Return the report that these facts make. ``boot_id`` is this run of the agent's own."""
    return Report(
        server=server,
        boot_id=boot_id,
        sequence=sequence,
        sent_at=now,
        ready=facts.ready,
        load=facts.load,
        connections=facts.connections,
        checks=dict(facts.checks),
        version=version,
        xdp_mode=facts.xdp_mode,
        errors=tuple(facts.troubles.values())[:MOST_ERRORS],
        refused_cluster=facts.refused_cluster,
    )
