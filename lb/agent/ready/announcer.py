"""Ready or not: the ready file, sd_notify and the hooks that announce and withdraw routes.

A thread of its own, since a hook may take its time. Hooks run one at a time and a failed one is run
again until it succeeds or is no longer wanted. An agent that ends withdraws nothing: forwarding
goes on, and so does the announcement; whoever starts next finds it in the record.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip, vip_text
from lb.agent.config import AgentConfig
from lb.agent.facts import Board
from lb.agent.machine.atomic_file import write_atomically
from lb.agent.machine.undo_record import Journal
from lb.agent.ready.hooks import run_hook
from lb.agent.ready.systemd import sd_notify
from lb.agent.worker import Worker

READY_FILE = "ready"
RETRY_SECONDS = 5.0
IDLE_SECONDS = 60.0
ON_READY = "on_ready"
ON_WITHDRAW = "on_withdraw"
Wish = tuple[bool, tuple[Vip, ...]]
"""Ready or not, and the VIPs to announce: where those change, ``on_ready`` runs again."""


def hook_variables(config: AgentConfig, vips: Iterable[Vip]) -> dict[str, str]:
    """Return what hooks find in their environment."""
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
        board: Board,
        on_change: Callable[[], None],
        on_death: Callable[[str], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__("announce", on_death)
        self._config = config
        self._journal = journal
        self._board = board
        self._on_change = on_change
        self._environment = environment
        self._changed = threading.Condition()
        self._wanted: Wish | None = None
        self._done: Wish | None = None
        self._retry_at = 0.0

    def want(self, *, ready: bool) -> None:
        """Say whether this server is to be ready, with the VIPs of now. Saying it again is free."""
        wish = (True, self._board.facts.vips) if ready else (False, ())
        with self._changed:
            if wish != self._wanted:
                self._wanted = wish
                self._retry_at = 0.0
                self._changed.notify()

    def stop(self) -> None:
        """Ask it to end."""
        super().stop()
        with self._changed:
            self._changed.notify()

    def step(self) -> float:
        """Do what is wanted and not done; sleep until something is."""
        with self._changed:
            pause = self._retry_at - time.monotonic()
            if self._wanted == self._done:
                pause = IDLE_SECONDS
            if pause > 0 and not self.ending.is_set():
                self._changed.wait(pause)
                return 0.0
            wanted = self._wanted
        if wanted is not None and wanted[0]:
            self._announce(wanted)
        elif wanted is not None:
            self._withdraw(wanted)
        return 0.0

    def _announce(self, wanted: Wish) -> None:
        self._journal.note(announced=True)
        if not self._board.facts.ready:
            since = {"server": self._config.name, "since": time.time()}
            write_atomically(self._config.run_dir / READY_FILE, json.dumps(since) + "\n")
        self._board.post(ready=True)
        self._on_change()
        if self._environment.get("NOTIFY_SOCKET"):
            self._tell_systemd("READY=1\nSTATUS=forwarding")
        self._finish(ON_READY, self._config.on_ready, wanted)

    def _withdraw(self, wanted: Wish) -> None:
        announced = self._journal.record.announced
        command = self._config.on_withdraw if announced else ()
        if self._finish(ON_WITHDRAW, command, wanted):
            (self._config.run_dir / READY_FILE).unlink(missing_ok=True)
            self._journal.note(announced=False)
            self._board.post(ready=False)
            self._on_change()
            self._tell_systemd("STATUS=not announced")

    def _finish(self, name: str, command: tuple[str, ...], wanted: Wish) -> bool:
        """Run a hook, if there is one; return whether that is done."""
        log = structlog.get_logger()
        try:
            if command:
                variables = hook_variables(self._config, self._board.facts.vips)
                run_hook(name, command, self._config.hook_timeout_seconds, variables)
                self._board.count_hook(name, "ok")
        except BrigadeError as error:
            log.warning("hook failed, will run again", about=name, reason=str(error))
            self._board.count_hook(name, "failed")
            self._board.trouble("hook", str(error))
            self._done = None
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return False
        self._board.trouble("hook", None)
        self._done = wanted
        log.info("ready" if wanted[0] else "not ready", hook=" ".join(command))
        return True

    def _tell_systemd(self, message: str) -> None:
        try:
            sd_notify(message, self._environment)
        except OSError as error:
            structlog.get_logger().warning("cannot notify systemd", reason=str(error))
