"""One controller process: takes the lead, serves the agents, runs the loop, handles signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog

from controlplane import logs
from controlplane.controller.loop import Loop
from controlplane.controller.metrics import ControlMetrics
from controlplane.controller.seed import seed_store
from controlplane.domain.errors import BrigadeError, ConfigError, ExitCode
from controlplane.observe.loads import LoadSources
from controlplane.observe.probe.sockets import NoProber, Prober, open_prober
from controlplane.publish.published import Published
from controlplane.settings.load import load_control_config
from controlplane.settings.models import ControlConfig
from controlplane.settings.rules import check_against
from controlplane.store import open_controller_store
from controlplane.store.contract import ControllerStore, StoreConflict
from controlplane.store.http.server import ServeConfig, Serving, serve

STAND_BY_SECONDS = 0.5
"""How often a standby controller tries to take the lead."""
OPEN_AGAIN_SECONDS = 2.0
"""How often a controller that cannot probe tries again."""
FIXED_KEYS = ("store", "listen", "metrics", "log_format")
"""Keys that a running controller cannot change."""


class Signals:
    """Requests by signal: ``stop`` (SIGTERM, SIGINT) and ``reload`` (SIGHUP)."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.reload = threading.Event()
        self.interrupted = False

    @contextmanager
    def caught(self) -> Iterator[Signals]:
        """Handle the signals while the context lives. Call it in the main thread."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self.reload.set()
            return
        self.interrupted = number == signal.SIGINT
        self.stop.set()


def run_controller(path: Path, seed: Path | None, signals: Signals) -> int:
    """Run a controller until a signal stops it; return its exit code.

    Raises ``BrigadeError``: it cannot start with these settings, this seed or this store.
    """
    config = load_control_config(path)
    logs.configure(config.log_format)
    with ExitStack() as owned:
        store = open_controller_store(config.store)
        owned.callback(store.close)
        if not owned.enter_context(leading(store, signals.stop)):
            return _exit_code(signals)
        if seed:
            seed_store(store, seed)
        published = Published(store)
        published.refresh()
        if published.cluster:
            check_against(config, published.cluster, path)
        Controller(path, config, store, owned).run(signals)
    return _exit_code(signals)


def _exit_code(signals: Signals) -> int:
    return ExitCode.INTERRUPTED if signals.interrupted else 0


@contextmanager
def leading(store: ControllerStore, stop: threading.Event) -> Iterator[bool]:
    """Wait for the lead, however long another controller has it; ``False``: stopped before."""
    owner = f"{socket.gethostname()} {os.getpid()}"
    log = structlog.get_logger()
    logged = ""
    with ExitStack() as lead:
        while not stop.is_set():
            try:
                lead.enter_context(store.lead(owner))
            except StoreConflict as error:
                if str(error) != logged:
                    log.info("standing by", reason=str(error))
                    logged = str(error)
                stop.wait(STAND_BY_SECONDS)
                continue
            log.info("leading", owner=owner)
            yield True
            return
        yield False


class Controller:
    """A leading controller: the loop, its prober, the store's server and the metrics."""

    def __init__(
        self, path: Path, config: ControlConfig, store: ControllerStore, owned: ExitStack
    ) -> None:
        self._path = path
        self._log = structlog.get_logger()
        self._owned = owned
        self._logged = ""
        self._prober = self._open_prober(config)
        self._open_again_at = time.monotonic() + OPEN_AGAIN_SECONDS
        owned.callback(self._close_prober)
        metrics = ControlMetrics()
        owned.enter_context(metrics.served(config.metrics))
        self._serving: Serving | None = None
        if config.listen:
            served = serve(store, ServeConfig(**dict(config.listen)))
            self._serving = owned.enter_context(served)
        sources = LoadSources()
        owned.callback(sources.close)
        self.loop = Loop(store, config, self._prober, sources=sources, show=metrics.show)

    def run(self, signals: Signals) -> None:
        """Run the loop until a signal ends it; SIGHUP reads the settings again.

        Raises ``BrigadeError``: the store's server has ended.
        """

        def between() -> None:
            if signals.reload.is_set():
                signals.reload.clear()
                self._reload()
            self._repair()

        self.loop.run(signals.stop, between)
        self._log.info("stopped")

    def _open_prober(self, config: ControlConfig) -> Prober | None:
        try:
            return open_prober(config.probers, config.gue_port)
        except NoProber as error:
            if str(error) != self._logged:
                self._logged = str(error)
                self._log.error(
                    "cannot probe: no server will be declared down", reason=self._logged
                )
            return None

    def _close_prober(self) -> None:
        if self._prober:
            self._prober.close()

    def _repair(self) -> None:
        """Check the store's server, and open the prober once its address is there."""
        if self._serving and not self._serving.alive:
            raise BrigadeError("the store's server has ended; see its log")
        if self._prober or not self.loop.config.probers:
            return
        if time.monotonic() >= self._open_again_at:
            self._open_again_at = time.monotonic() + OPEN_AGAIN_SECONDS
            self._prober = self._open_prober(self.loop.config)
            if self._prober:
                self._log.info("probing", address=str(self._prober.address))
                self.loop.configure(self.loop.config, self._prober)

    def _reload(self) -> None:
        old = self.loop.config
        try:
            config = load_control_config(self._path)
            if self.loop.published.cluster:
                check_against(config, self.loop.published.cluster, self._path)
        except ConfigError as error:
            self._log.error("settings not changed", reason=str(error))
            return
        fixed = [key for key in FIXED_KEYS if getattr(config, key) != getattr(old, key)]
        if fixed:
            self._log.warning("a restart is needed for these keys", keys=", ".join(fixed))
        if (config.probers, config.gue_port) != (old.probers, old.gue_port):
            self._close_prober()
            self._prober = self._open_prober(config)
        self.loop.configure(config, self._prober)
        self._log.info("settings read again")
