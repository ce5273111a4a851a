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
from controlplane.controller.settings import Settings, SettingsFile
from controlplane.domain.errors import BrigadeError, ConfigError, ExitCode
from controlplane.domain.settings_changes import changes
from controlplane.observe.loads import LoadSources
from controlplane.observe.probe.sockets import NoProber, Prober, open_prober
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore, StoreConflict
from controlplane.store.http.server import ServeConfig, Serving, serve
from controlplane.store.http.validity import chain_end, ending_soon
from controlplane.store.open import open_controller_store

STAND_BY_SECONDS = 0.5
"""How often a standby controller tries to take the lead."""
CERTIFICATE = "listen.certificate"
ENDS_SOON = "a certificate ends soon"
OPEN_AGAIN_SECONDS = 2.0
"""How often a controller that cannot probe tries again."""


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
    logs.configure()
    file = SettingsFile(path)
    settings = file.start()
    logs.configure(settings.config.log_format)
    with ExitStack() as owned:
        store = open_controller_store(settings.config.store)
        owned.callback(store.close)
        if not owned.enter_context(leading(store, signals.stop)):
            return _exit_code(signals)
        if seed:
            seed_store(store, seed)
        published = Published(store)
        published.refresh()
        settings = file.start(published.cluster, settings)
        Controller(file, settings, store, owned).run(signals)
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
        self, file: SettingsFile, settings: Settings, store: ControllerStore, owned: ExitStack
    ) -> None:
        config = settings.config
        self._file = file
        self._settings = settings
        self._log = structlog.get_logger()
        self._owned = owned
        self._logged = ""
        self._conditions = ConditionLog()
        self._certificates: dict[str, float] = {}
        self._prober = self._open_prober(config)
        self._open_again_at = time.monotonic() + OPEN_AGAIN_SECONDS
        owned.callback(self._close_prober)
        self._metrics = ControlMetrics()
        owned.enter_context(self._metrics.served(config.metrics))
        self._serving: Serving | None = None
        if config.listen:
            served = serve(store, ServeConfig(**dict(config.listen)), settings.credentials)
            self._serving = owned.enter_context(served)
        sources = LoadSources()
        owned.callback(sources.close)
        self.loop = Loop(store, config, self._prober, sources=sources, show=self._metrics.show)
        self._note_start()
        self._note_certificates()

    def run(self, signals: Signals) -> None:
        """Run the loop until a signal ends it; SIGHUP reads the settings again.

        Raises ``BrigadeError``: the store's server has ended.
        """

        def between() -> None:
            if signals.reload.is_set():
                signals.reload.clear()
                self._reload()
            self._repair()
            soon = ending_soon(self._certificates, time.time())
            self._conditions.set(ENDS_SOON, CERTIFICATE, soon)

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

    def _note_certificates(self) -> None:
        """Note when the certificate in use ends: the file may change before it is read again."""
        listen = self._settings.config.listen
        self._certificates = {}
        if listen and listen.certificate:
            try:
                self._certificates[CERTIFICATE] = chain_end(listen.certificate)
            except ConfigError as error:
                self._log.warning("a certificate's end is not known", reason=str(error))
        self._metrics.show_certificates(self._certificates)

    def _note_start(self) -> None:
        """Save settings that are good; report those that are not loudly."""
        refused = self._settings.refused
        self._metrics.show_start(refused=bool(refused))
        if not refused:
            self._file.save(self._settings)
            return
        self._log.error(
            "settings refused: the last good ones are in use",
            every_time=True,
            reason=refused,
            remedy="correct the file, then reload (SIGHUP)",
        )

    def _reload(self) -> None:
        """Use the file and the files that it names as they are now, or go on as before."""
        old = self._settings
        try:
            new = self._file.read(self.loop.published.cluster, old)
            if self._serving and new.credentials:
                self._serving.credentials.use(new.credentials)
        except BrigadeError as error:
            self._metrics.show_reload("refused")
            self._log.error("settings not changed", every_time=True, reason=str(error))
            return
        self._settings = new
        self._note_certificates()
        keys = ("probers", "gue_port")
        if any(getattr(new.config, key) != getattr(old.config, key) for key in keys):
            self._close_prober()
            self._prober = self._open_prober(new.config)
        self.loop.configure(new.config, self._prober)
        self._file.save(new)
        self._metrics.show_reload("ok", restart_needed=len(new.needs_restart))
        log = self._log.warning if new.needs_restart else self._log.info
        log(
            "settings read again",
            every_time=True,
            changed=changes(old.accepted, new.accepted) or "nothing",
            needs_a_restart=", ".join(new.needs_restart),
        )
