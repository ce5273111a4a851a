"""Samples load."""

from __future__ import annotations

import time

import structlog

from controlplane.domain.errors import BrigadeError
from lb.agent.config import LoadConfig
from lb.agent.facts import SharedFacts
from lb.agent.report.load import Window, open_load_source
from lb.agent.worker import Worker

SAMPLES_PER_WINDOW = 8
SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 1.0


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
