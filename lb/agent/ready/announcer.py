"""Readiness: the ready file, sd_notify and the hooks that announce and withdraw routes.

A thread of its own, since a hook may take long. Hooks run one at a time and a failed one is run
again until it succeeds or is no longer wanted. An agent that ends withdraws nothing: forwarding
goes on, and so does the announcement; the next agent finds it in the record.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip, vip_text
from lb.agent.config import AgentConfig
from lb.agent.facts import SharedFacts
from lb.agent.machine.atomic_file import write_atomically
from lb.agent.machine.undo_record import Journal
from lb.agent.ready.hooks import run_hook
from lb.agent.ready.systemd import try_notify
from lb.agent.worker import Worker

READY_FILE = "ready"
RETRY_SECONDS = 5.0
IDLE_SECONDS = 60.0
ON_READY = "on_ready"
ON_WITHDRAW = "on_withdraw"
Readiness = tuple[bool, tuple[Vip, ...]]
"""Ready or not, and the VIPs to announce: if those change, ``on_ready`` runs again."""


def hook_variables(config: AgentConfig, vips: Iterable[Vip]) -> dict[str, str]:
    """Return the variables that are added to the environment of hooks."""
    return {
        "BUCKET_BRIGADE_SERVER": config.name,
        "BUCKET_BRIGADE_DIP": str(config.dip),
        "BUCKET_BRIGADE_INTERFACE": config.interface,
        "BUCKET_BRIGADE_VIPS": " ".join(vip_text(vip) for vip in vips),
    }


class Announcer(Worker):
    """Owner of the ready file and the hooks. ``on_change`` is called when readiness has changed."""

    def __init__(
        self,
        config: AgentConfig,
        journal: Journal,
        facts: SharedFacts,
        on_change: Callable[[], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__("announce")
        self._config = config
        self._journal = journal
        self._facts = facts
        self._on_change = on_change
        self._environment = environment
        self._wanted: Readiness | None = None
        self._done: Readiness | None = None
        self._retry_at = 0.0

    def configure(self, config: AgentConfig) -> None:
        """Run the hooks of these settings from now on; a hook that succeeded is not repeated."""
        with self.requested:
            self._config = config
            self._retry_at = 0.0
            self.requested.notify()

    def want(self, *, ready: bool) -> None:
        """Request that this server is ready or not, with its VIPs. Repeating it costs nothing."""
        wanted = (True, self._facts.current.vips) if ready else (False, ())
        with self.requested:
            if wanted != self._wanted:
                self._wanted = wanted
                self._retry_at = 0.0
                self.requested.notify()

    def lost_ready_file(self) -> bool:
        """Whether this server is announced, and somebody has removed the ready file."""
        with self.requested:
            return self._is_announced() and not (self._config.run_dir / READY_FILE).exists()

    def restore_ready_file(self) -> None:
        """Write the ready file again, if this server is still announced.

        Raises:
            BrigadeError: it cannot be written.

        """
        with self.requested:  # a withdrawal removes it after this
            if self._is_announced():
                self._write_ready_file()

    def _is_announced(self) -> bool:
        return self._wanted is not None and self._wanted[0] and self._wanted == self._done

    def step(self) -> float:
        """Do what is wanted and not done; wait until something is."""
        with self.requested:
            pause = self._retry_at - time.monotonic()
            if self._wanted == self._done:
                pause = IDLE_SECONDS
            if pause > 0 and not self.ending.is_set():
                self.requested.wait(pause)
                return 0.0
            wanted = self._wanted
        if wanted is not None and wanted[0]:
            self._announce(wanted)
        elif wanted is not None:
            self._withdraw(wanted)
        return 0.0

    def _announce(self, wanted: Readiness) -> None:
        self._journal.note(announced=True)
        if not self._facts.current.ready or not (self._config.run_dir / READY_FILE).exists():
            self._write_ready_file()
        self._facts.update(ready=True)
        self._on_change()
        try_notify("READY=1\nSTATUS=forwarding", self._environment)
        self._finish(ON_READY, self._config.on_ready, wanted)

    def _write_ready_file(self) -> None:
        since = {"server": self._config.name, "since": time.time()}
        write_atomically(self._config.run_dir / READY_FILE, json.dumps(since) + "\n")

    def _withdraw(self, wanted: Readiness) -> None:
        announced = self._journal.record.announced
        command = self._config.on_withdraw if announced else ()
        if self._finish(ON_WITHDRAW, command, wanted):
            (self._config.run_dir / READY_FILE).unlink(missing_ok=True)
            self._journal.note(announced=False)
            self._facts.update(ready=False)
            self._on_change()
            try_notify("STATUS=not announced", self._environment)

    def _finish(self, name: str, command: tuple[str, ...], wanted: Readiness) -> bool:
        """Run a hook, if there is one; return whether it succeeded."""
        log = structlog.get_logger()
        try:
            if command:
                variables = hook_variables(self._config, self._facts.current.vips)
                run_hook(name, command, self._config.hook_timeout_seconds, variables)
                self._facts.count_hook(name, "ok")
        except BrigadeError as error:
            log.warning("hook failed, will run again", about=name, reason=str(error))
            self._facts.count_hook(name, "failed")
            self._facts.set_trouble("hook", str(error))
            self._done = None
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return False
        self._facts.set_trouble("hook", None)
        self._done = wanted
        log.info("ready" if wanted[0] else "not ready", hook=" ".join(command))
        return True
