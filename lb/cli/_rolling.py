"""`lbctl rolling`: from the command line to a run, and from its end to the last line."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from controlplane import logs
from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.observe.probe.sockets import NoProber, Prober, open_prober
from controlplane.operator.drain_preview import capacities, preview_of
from controlplane.operator.overview import listen
from controlplane.operator.rolling import journal, session
from controlplane.operator.rolling.command import (
    Commands,
    check_command,
    is_the_same_for_all,
    words_for,
)
from controlplane.operator.rolling.facts import FleetFacts, Limits, Phase, Turn
from controlplane.operator.rolling.journal import Journal, read_journal
from controlplane.operator.rolling.plan import check_at_once, select
from controlplane.operator.rolling.run import Outcome, Run
from controlplane.operator.rolling.session import Options, Resumption
from controlplane.operator.rolling.tunnel import TunnelProbes
from controlplane.operator.rolling.words import begin_line, stopped, summary
from controlplane.operator.rolling.world import FleetWorld
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore
from lb.cli._rolling_show import Show
from lb.cli.drain import lines as drain_lines
from lb.cli.drain import show as show_drain

LISTEN_SECONDS = 0.6
"""How long to wait for reports before a server counts as silent: agents report every 0.25 s."""


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    pool: str | None
    servers: str | None
    at_once: int
    wait_connections: float
    command_timeout: float
    wait_ready: float
    wait_share: float
    restarts_agent: bool
    reason: str
    journal: Path | None
    resume: bool
    rerun: bool
    skip: bool
    dry_run: bool
    as_json: bool
    config_path: Path
    command: tuple[str, ...]


def roll(arguments: Arguments, config: ControlConfig, store: ControllerStore) -> None:
    """Begin a run, or go on with one. Raises ``BrigadeError``: it stopped."""
    logs.configure(config.log_format, level="warning")  # to standard error: --json owns the other
    folder = session.journal_folder(config.store)
    resumption = _resumption(arguments, config, folder) if arguments.resume else None
    if resumption is not None:
        options, path = resumption.options, resumption.path
    else:
        session.check_no_leftover(folder, config.store, store.drain_requests())
        options = _options(arguments, config, store)
        path = arguments.journal or session.new_journal(folder)
        if path.exists() and path.stat().st_size:
            raise UsageError(f"{path} exists: --resume goes on with it, or name a new file")
    check_command(options.command, options.servers)
    with (
        closing(Journal(path, time.time)) as written,
        _prober(config) as (prober, unprobed),
        Show(as_json=arguments.as_json) as show,
    ):
        work = _Work(arguments, config, store, options, prober, path, show)
        if resumption is None:
            show.event(written.write(journal.BEGIN, **options.as_values()))
        else:
            show.event(written.write(journal.RESUMED, choice=resumption.choice))
        work.run(written, resumption, unprobed)


class _Work:
    """One run in this process, from its first line to its last."""

    def __init__(
        self,
        arguments: Arguments,
        config: ControlConfig,
        store: ControllerStore,
        options: Options,
        prober: Prober | None,
        path: Path,
        show: Show,
    ) -> None:
        self._arguments = arguments
        self._options = options
        self._path = path.absolute()
        self._show = show
        self._store = store
        self._commands = Commands(
            options.command,
            self._path.with_suffix(""),
            options.limits.command_seconds,
            time.monotonic,
        )
        probes = TunnelProbes(prober, config, time.monotonic)
        self._world = FleetWorld(store, config, self._commands, probes, options.reason)

    def run(self, written: Journal, resumption: Resumption | None, unprobed: str) -> None:
        """Give every server its turn. Raises ``BrigadeError``: it stopped.

        ``unprobed``: why this machine cannot probe; empty: it can.
        """
        facts = listened(self._world)
        now = time.monotonic()
        turns = [Turn(name, dip, since=now) for name, dip in self._options.servers]
        if resumption is not None:
            turns = resumption.turns(facts, written, now)
        self._show.line(f"{begin_line(turns)}; journal {self._path}")
        if is_the_same_for_all(self._options.command):
            self._show.line("the command has neither {name} nor {dip}: it is the same for all")
        signs = [f"{sign.server} {sign.text}".lstrip() for sign in sorted(facts.signs)]
        self._show.event(written.write(journal.FOUND, already=signs, unprobed=unprobed))
        if resumption is None:
            for line in drain_lines(self._world.preview(turns[0].name)):
                self._show.line(line)
        run = Run(
            turns,
            self._world,
            written,
            time.monotonic,
            self._options.limits,
            self._options.at_once,
            on_event=self._event,
            on_progress=self._show.progress,
        )
        with _interrupts(run, self._show):
            try:
                outcome = run.run()
            except KeyboardInterrupt:
                self._show.end()
                raise self._ended_at_once() from None
        self._show.end()
        self._finish(outcome, written, resumption)

    def _event(self, event: dict[str, Any]) -> None:
        self._show.event(event)
        if event["event"] == "command_ended" and event["code"]:
            name = event["server"]
            for line in self._commands.tail(name):
                self._show.line(f"{name}| {line}")
            self._show.line(f"{name}| (all of it: {self._commands.output_file(name)})")

    def _finish(self, outcome: Outcome, written: Journal, resumption: Resumption | None) -> None:
        if outcome.reason:
            if outcome.exit_code == ExitCode.INTERRUPTED:
                self._offer_undrain(outcome, written)
            raise BrigadeError(stopped(outcome, self._go_on()), outcome.exit_code)
        before = resumption.history.seconds if resumption else 0.0
        seconds = outcome.seconds + before
        self._show.line(summary(outcome, seconds, resumed=resumption is not None))

    def _go_on(self) -> str:
        config = click.get_current_context().get_parameter_source("config_path")
        words = ["lbctl", "rolling", "--resume", "--journal", str(self._path)]
        if config is not click.core.ParameterSource.DEFAULT:
            words += ["--config", str(self._arguments.config_path)]
        return shlex.join(words)

    def _offer_undrain(self, outcome: Outcome, written: Journal) -> None:
        """Ask, on a terminal, for each drained server whether its drain shall be cancelled."""
        if self._arguments.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return
        for turn in outcome.open_turns:
            if turn.phase not in (Phase.DRAINING, Phase.RETURNING):
                continue
            fresh = turn.phase is Phase.DRAINING
            if click.confirm(f"cancel the drain of {turn.name} now?", default=fresh):
                if fresh:
                    written.write(journal.CANCELLED, server=turn.name)
                elif not turn.code:  # what follows a command that failed, is asked by --resume
                    written.write(journal.UNDRAIN, server=turn.name)
                self._world.undrain(turn.name, turn.request)
                turn.phase = Phase.WAITING if fresh else Phase.JOINING

    def _ended_at_once(self) -> BrigadeError:
        """Return the last line after a second Ctrl-C."""
        left = self._commands.abandon()
        running = f"; the command for {', '.join(left)} was sent SIGTERM" if left else ""
        return BrigadeError(
            f"ended at once{running}. lbctl servers shows which servers are drained. To go on: "
            f"{self._go_on()}{' --rerun (or --skip)' if left else ''}",
            ExitCode.INTERRUPTED,
        )


@contextmanager
def _interrupts(run: Run, show: Show) -> Iterator[None]:
    """End the run after the commands that run, at the first signal; at the second at once."""

    def handle(number: int, _frame: object) -> None:
        if run.interrupted:
            raise KeyboardInterrupt
        run.interrupted = True
        working = ", ".join(turn.name for turn in run.turns if turn.phase is Phase.COMMAND)
        until = f" once the command for {working} has ended" if working else ""
        name = signal.Signals(number).name
        show.line(f"{name}: it stops{until}; the same again ends it at once")

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _prober(config: ControlConfig) -> Iterator[tuple[Prober | None, str]]:
    """Yield a prober of this machine, or why there is none."""
    try:
        prober = open_prober(config.probers, config.gue_port)
    except NoProber as error:
        yield None, str(error)
        return
    with closing(prober):
        yield prober, ""


def listened(world: FleetWorld) -> FleetFacts:
    """Observe until silent agents are known; return the facts of then."""
    until = time.monotonic() + LISTEN_SECONDS
    facts = world.look()
    while time.monotonic() < until:
        world.wait(0.1)
        facts = world.look()
    return facts


def _options(arguments: Arguments, config: ControlConfig, store: ControllerStore) -> Options:
    """Return the options of a new run. Raises ``BrigadeError``: it must not begin."""
    silent_after = config.silent_after_seconds + LISTEN_SECONDS  # who is silent is left out
    published, fleet = listen(store, config, silent_after)
    if published.cluster is None:
        raise BrigadeError("the controller has published nothing yet: lbctl servers shows it")
    names = None
    if arguments.servers is not None:
        names = [name.strip() for name in arguments.servers.split(",") if name.strip()]
    found = select(config, published.cluster, fleet, arguments.pool, names)
    for name, why in found.left_out.items():
        if not arguments.as_json:
            click.echo(f"left out: {name} {why}")
    every = [name for name, _ in found.servers]
    check_at_once(arguments.at_once, every, capacities(store, config, published, fleet), config)
    limits = Limits(
        arguments.wait_connections,
        arguments.command_timeout,
        arguments.wait_ready,
        arguments.wait_share,
        arguments.restarts_agent,
    )
    reason = f"rolling: {arguments.reason}" if arguments.reason else "rolling"
    return Options(
        config.store, found.servers, arguments.command, arguments.at_once, limits, reason
    )


def _resumption(arguments: Arguments, config: ControlConfig, folder: Path) -> Resumption:
    path = arguments.journal or session.newest_unfinished(folder, config.store)
    if path is None:
        raise UsageError(f"no run in {folder} can be resumed: --journal names another file")
    history = read_journal(path)
    choice = session.RERUN if arguments.rerun else session.SKIP if arguments.skip else None
    found = session.Resumption(path, history, session.options_of(history.begin), choice)
    if found.options.store != config.store:
        raise UsageError(f"{path} is the journal of another store: {found.options.store}")
    found.check()
    return found


def dry_run(arguments: Arguments, config: ControlConfig, store: ControllerStore) -> None:
    """Show what a run would do. Raises ``BrigadeError``: it would be refused."""
    options = _options(arguments, config, store)
    if options.command:
        check_command(options.command, options.servers)
    published, fleet = listen(store, config, LISTEN_SECONDS)
    refused = None
    for name, dip in options.servers:
        found = preview_of(store, config, name, published, fleet)
        words = words_for(options.command, name, dip)
        refused = refused or (name, found.reasons) if found.reasons else refused
        if arguments.as_json:
            shown = {**asdict(found), "dip": dip, "command": words, "reasons": found.reasons}
            click.echo(json.dumps(shown))
            continue
        show_drain(found)
        verdict = "; ".join(found.reasons) or "allowed"
        click.echo(f"guards of {name}: {verdict}")
        if words:
            click.echo(f"then: {shlex.join(words)}")
    if refused:
        name, reasons = refused
        raise BrigadeError(f"{name} would not be drained: {'; '.join(reasons)}", ExitCode.REFUSED)
