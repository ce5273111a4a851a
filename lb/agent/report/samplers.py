"""Samples load, and connections on VIPs."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Service, Vip
from lb.agent.config import LoadConfig
from lb.agent.facts import SharedFacts
from lb.agent.report.connections import count_connections
from lb.agent.report.load import Window, open_load_source
from lb.agent.worker import Worker

SAMPLES_PER_WINDOW = 8
SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 1.0
COUNT_SECONDS = 1.0
COUNT_COST = 20
"""Counting takes at most one part in this many of the time, for any number of sockets."""


class LoadSampler(Worker):
    """Reads the load source several times a window. Settings may change while it runs."""

    def __init__(self, config: LoadConfig, facts: SharedFacts) -> None:
        super().__init__("load")
        self._facts = facts
        self._wanted = config
        self._config = config
        self._start_anew()

    def configure(self, config: LoadConfig) -> None:
        """Use these settings from the next reading on."""
        self._wanted = config

    def step(self) -> float:
        """Take one reading."""
        if self._wanted != self._config:
            self._config = self._wanted
            self._start_anew()
            self._facts.set_trouble("load", None)
            self._facts.update(load=None)
        if self._source is None:
            return LONGEST_SECONDS
        try:
            reading = self._source.read()
        except (OSError, ValueError, IndexError, BrigadeError) as error:
            structlog.get_logger().warning("load is unknown", reason=str(error))
            self._facts.set_trouble("load", f"load is unknown: {error}")
            self._window.forget()
            self._facts.update(load=None)
            return max(self._pause, LONGEST_SECONDS)
        self._window.add(time.monotonic(), reading)
        self._facts.set_trouble("load", None)
        self._facts.update(load=self._window.load())
        return self._pause

    def _start_anew(self) -> None:
        self._source = open_load_source(self._config)
        self._window = Window(self._config.window_seconds)
        pause = self._config.window_seconds / SAMPLES_PER_WINDOW
        self._pause = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, pause))


class ConnectionCounter(Worker):
    """Counts open connections on VIPs about once a second."""

    def __init__(
        self,
        facts: SharedFacts,
        count: Callable[[tuple[Vip, ...], tuple[Service, ...]], int] = count_connections,
    ) -> None:
        super().__init__("connections")
        self._facts = facts
        self._count = count

    def step(self) -> float:
        """Count once; after a long count, pause longer."""
        started = time.monotonic()
        facts = self._facts.current
        try:
            self._facts.update(connections=self._count(facts.vips, facts.services))
        except OSError as error:
            line = f"connections on VIPs cannot be counted ({error}): modprobe tcp_diag udp_diag"
            structlog.get_logger().warning("cannot count connections", reason=str(error))
            self._facts.set_trouble("connections", line)
        else:
            self._facts.set_trouble("connections", None)
        took = time.monotonic() - started
        return max(COUNT_SECONDS - took, took * COUNT_COST)
