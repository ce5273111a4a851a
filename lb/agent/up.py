"""`lbctl up`: makes the agent's parts in the right order, runs it, and ends them."""

from __future__ import annotations

import os
import queue
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import structlog

import lb
from controlplane.documents.flows import ReportedFlows, encode_flows
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Origin, Report
from controlplane.domain.settings_changes import changes
from controlplane.store.contract import AgentStore
from controlplane.store.open import open_agent_store, renew_agent_stores
from controlplane.store.state_dir import StateDir
from lb.agent.attach.attachment import Attachment
from lb.agent.attach.guests import root_pins
from lb.agent.config import AgentConfig, Settings, SettingsFile
from lb.agent.documents.controller_copy import ControllerCopy
from lb.agent.documents.follower import Follower
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.documents.intake import Intake
from lb.agent.documents.last_good import read_last_good
from lb.agent.event_loop import Agent, Event, NeighbourChange, Parts, PathMtuChange
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.lock import interface_lock
from lb.agent.machine.signals import signals_handled
from lb.agent.machine.undo_record import Journal, read_record
from lb.agent.mss.keeper import MssKeeper
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.neighbours import Neighbours
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.path.prober import PathProber
from lb.agent.ready.announcer import READY_FILE, Announcer
from lb.agent.ready.boot_wait import Beginning, BootWait
from lb.agent.ready.leave import LeaveWatch
from lb.agent.ready.systemd import sd_notify
from lb.agent.ready.take_over import TakeOver
from lb.agent.report.certificates import note_certificates
from lb.agent.report.checks import Checker
from lb.agent.report.metrics import AgentCollector, serve_metrics
from lb.agent.report.orphans.counter import OrphanCounter
from lb.agent.report.presence.counter import ConnectionCounter
from lb.agent.report.presence.sharing import Sharing
from lb.agent.report.samplers import LoadSampler
from lb.agent.report.store_reports import Acknowledger, Reporter, compose_report
from lb.agent.report.transmit import TransmitCheck
from lb.agent.vips.keeper import VipKeeper
from lb.agent.watch.notices import Notices
from lb.agent.watch.preflight import check_root
from lb.agent.watch.registry import InterfaceReplacedError
from lb.agent.watch.start import Start, open_journal
from lb.agent.watch.watch import Watch, Watched
from lb.agent.worker import Changed, LinkChange, Reload, Stop, Worker, WorkerDeath
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.objects import Identity, ServiceEntry

END_SECONDS = 1.0


class BeginAgainError(Exception):
    """The agent begins anew, with other settings."""


class StoppedError(Exception):
    """A signal came before anything ran."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def find_beginning(config: AgentConfig) -> Beginning:
    """Return how this start differs from that of the agent before, by its record."""
    record = read_record(config.state_dir)
    if record is None:
        return Beginning()
    continued = record.namespace == current_namespace()
    return Beginning(continued=continued, rebooted=not continued)


class Runner:
    """Owner of the agent's parts while it runs."""

    def __init__(self, file: SettingsFile, settings: Settings, stack: ExitStack) -> None:
        self._file = file
        self._settings = settings
        self._config = settings.config
        self._log = structlog.get_logger()
        self._stores: list[AgentStore] = []
        self._stack = stack
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._started = time.monotonic()
        self._facts = SharedFacts(time.time())
        self._boot_id = secrets.token_hex(8)
        self._origin = Origin(str(self._config.dip), current_namespace().boot_id)
        self._lock = threading.Lock()
        self._dataplane: Dataplane | None = None
        self._workers: list[Worker] = []

    def run(self) -> int:
        """Run the agent; return the signal that ended it."""
        config, stack = self._config, self._stack
        check_root("up")
        netlink = stack.enter_context(RouteSocket())
        stack.enter_context(interface_lock(config.interface))
        stack.enter_context(signals_handled(self.signalled))
        beginning = find_beginning(config)
        journal = open_journal(config)
        start = Start(config, journal, self._facts, self._pause)
        try:
            link = start.await_interface(netlink)
        except StoppedError as stopped:
            return stopped.signal
        self._started = time.monotonic()  # the store and the controller have their time from now on
        boot_wait = BootWait(beginning, self._started, config.controller_wait_seconds)
        attachment = Attachment(netlink, link, config, journal)
        start.withdraw_unless_attached(attachment)
        attachment.check()
        try:
            return self._run(netlink, link, journal, attachment, boot_wait)
        except InterfaceReplacedError:
            self._end_workers()
            raise

    @property
    def settings(self) -> Settings:
        """The settings in use, for the next runner."""
        return self._settings

    def _pause(self, seconds: float) -> None:
        """Wait before anything runs.

        Raises:
            StoppedError: a signal came.
            BeginAgainError: the settings were read again.

        """
        try:
            event = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(event, Stop):
            raise StoppedError(event.signal)
        if isinstance(event, Reload):
            try:
                self._settings = self._file.read()
            except BrigadeError as error:
                self._log.error("settings not changed", every_time=True, reason=str(error))
                return
            raise BeginAgainError("settings read again")

    def _end_workers(self) -> None:
        """End all threads before others take their places; a hook may run as long as it may."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(self._config.hook_timeout_seconds + END_SECONDS)

    def signalled(self, number: int) -> None:
        """Handle a signal: a SimpleQueue may be put into at any moment, also in a handler."""
        self._inbox.put(Reload() if number == signal.SIGHUP else Stop(number))

    def _run(
        self,
        netlink: RouteSocket,
        link: LinkInfo,
        journal: Journal,
        attachment: Attachment,
        boot_wait: BootWait,
    ) -> int:
        """Make the parts, in this order, and run the loop."""
        config = self._config
        announced = journal.record.announced
        self._facts.update(ready=announced and (config.run_dir / READY_FILE).exists())
        journal.note(run_dir_made=journal.record.run_dir_made or not config.run_dir.exists())
        self._note_start()
        note_certificates(config, self._facts)
        self._serve_metrics()
        acknowledger = Acknowledger(self._store(), config.name, self._origin, self._facts)
        followed = self._store()
        copy = ControllerCopy(followed, StateDir(config.state_dir))
        follower = Follower(followed, self._facts, self._inbox.put, after_poll=copy.refresh)
        self._start(follower)  # asks the store while the programs are compiled
        dataplane = self._load(link)
        announcer = Announcer(config, journal, self._facts, self._changed)
        checker = Checker(self._facts, random.Random())  # noqa: S311 no secret
        neighbours = self._neighbours(link)
        mss = self._mss_keeper(link, journal)
        sampler = LoadSampler(config.load, self._facts)
        paths = PathProber(
            config.name,
            config.dip,
            self._facts,
            self._path_mtu_changed,
            self._changed,
            config.least_path_mtu,
        )
        notices = Notices(link.index, self._changed)
        self._start(acknowledger, announcer, checker, neighbours, notices, mss, sampler, paths)
        self._start(*self._observers(link))
        vips = VipKeeper(netlink, journal)
        in_use = DocumentsInUse(dataplane, vips, server=config.name)
        state_dir = StateDir(config.state_dir)
        watched = Watched(
            netlink=netlink,
            link=link,
            config=config,
            journal=journal,
            attachment=attachment,
            plane=dataplane,
            plane_lock=self._lock,
            vips=vips,
            in_use=in_use,
            announcer=announcer,
            facts=self._facts,
        )
        parts = Parts(
            config=config,
            link=link,
            dataplane=dataplane,
            dataplane_lock=self._lock,
            attachment=attachment,
            in_use=in_use,
            vips=vips,
            intake=Intake(in_use, state_dir, self._facts, acknowledger.acknowledge),
            announcer=announcer,
            checker=checker,
            mss=mss,
            paths=paths,
            watch=Watch(watched),
            facts=self._facts,
            track=neighbours.track,
            read_last_good=partial(read_last_good, state_dir),
            reload=partial(self._reload, announcer, sampler),
            replacing=bool(attachment.our_forwarders()),
            take_over=TakeOver(self._started, announced=announced),
            boot_wait=boot_wait,
            started=self._started,
        )
        return Agent(parts, self._inbox).run()

    def _store(self) -> AgentStore:
        """Open one more connection to the store, so that a thread that hangs hangs alone."""
        config = self._config
        store = open_agent_store(config.store, config.token_file, config.ca_file)
        self._stack.callback(store.close)
        self._stores.append(store)
        return store

    def _note_start(self) -> None:
        """Save settings that are good; report those that are not loudly."""
        refused = self._settings.refused
        if not refused:
            self._file.save(self._settings)
            self._facts.update(settings_read_at=time.time())
            return
        self._facts.update(settings_accepted=False, settings_last_good=True)
        self._facts.set_trouble("settings", f"the last good settings are in use: {refused}")
        self._log.error(
            "settings refused: the last good ones are in use",
            every_time=True,
            reason=refused,
            remedy="correct the file, then reload (SIGHUP)",
        )

    def _reload(self, announcer: Announcer, sampler: LoadSampler) -> None:
        """Use the file and the files that it names as they are now, or go on as before."""
        log, facts, old = self._log, self._facts, self._settings
        try:
            new = self._file.read(old)
            renew_agent_stores(self._stores, new.config.token_file, new.config.ca_file)
        except BrigadeError as error:
            facts.count_reload("refused")
            facts.update(settings_accepted=False)
            facts.set_trouble("settings", f"settings not changed: {error}")
            self._log.error("settings not changed", every_time=True, reason=str(error))
            return
        self._settings = new
        note_certificates(new.config, facts)
        announcer.configure(new.config)
        sampler.configure(new.config.load)
        self._file.save(new)
        facts.count_reload("ok")
        facts.update(
            settings_accepted=True,
            settings_last_good=False,
            settings_read_at=time.time(),
            restart_needed=len(new.needs_restart),
        )
        facts.set_trouble("settings", None)
        (log.warning if new.needs_restart else log.info)(
            "settings read again",
            every_time=True,
            changed=changes(old.accepted, new.accepted) or "nothing",
            needs_a_restart=", ".join(new.needs_restart),
        )

    def _start(self, *parts: Worker) -> None:
        for part in parts:
            part.on_death = self._died
            part.start()
            self._workers.append(part)
            self._stack.callback(part.stop)

    def _changed(self) -> None:
        self._inbox.put(Changed())

    def _path_mtu_changed(self, mtu: int | None) -> None:
        self._inbox.put(PathMtuChange(mtu))

    def _died(self, name: str) -> None:
        self._inbox.put(WorkerDeath(name))

    def _load(self, link: LinkInfo) -> Dataplane:
        config = self._config
        dataplane = Dataplane.load(
            Identity(config.dip, link.mac, link.mtu, link.index),
            root_pins(config.bpffs, config.interface),
        )
        self._stack.callback(dataplane.close)
        self._facts.update(load_seconds=dataplane.load_seconds, xdp_mode=config.xdp_mode)
        with self._lock:
            self._dataplane = dataplane
        self._stack.callback(self._forget_dataplane)
        return dataplane

    def _forget_dataplane(self) -> None:
        with self._lock:
            self._dataplane = None

    def _counters(self) -> Mapping[str, int]:
        with self._lock:
            return self._dataplane.counters() if self._dataplane else {}

    def _service_counters(self) -> Mapping[ServiceEntry, tuple[int, int]]:
        with self._lock:
            return self._dataplane.service_counters() if self._dataplane else {}

    def _with_dataplane(self, use: Callable[[Dataplane], object]) -> object:
        """Use the data plane under its lock; ``None`` if there is none."""
        with self._lock:
            return use(self._dataplane) if self._dataplane else None

    def _serve_metrics(self) -> None:
        collector = AgentCollector(
            lambda: self._facts.current, self._counters, self._service_counters, time.monotonic
        )
        end = serve_metrics(collector, self._config.dip, self._config.metrics.port)
        self._stack.callback(end)

    def _neighbours(self, link: LinkInfo) -> Neighbours:
        def publish(macs: Mapping[int, bytes | None]) -> None:
            self._inbox.put(NeighbourChange(macs, neighbours.unresolved))

        def on_link() -> None:
            self._inbox.put(LinkChange())

        neighbours = Neighbours(link.index, self._config.dip, publish, on_link)
        return neighbours

    def _mss_keeper(self, link: LinkInfo, journal: Journal) -> MssKeeper:
        config = self._config
        return MssKeeper(
            mode=config.mss,
            table=config.mss_table,
            ifindex=link.index,
            journal=journal,
            facts=self._facts,
            on_change=self._changed,
        )

    def _observers(self, link: LinkInfo) -> Iterator[Worker]:
        config, facts = self._config, self._facts
        sharing = Sharing()
        orphans = OrphanCounter(facts, self._with_dataplane)

        def compose(sequence: int) -> Report:
            known = facts.current
            report = compose_report(
                known, config.name, self._boot_id, sequence, time.time(), lb.__version__
            )
            now = time.monotonic()
            presence = sharing.choose(known.presence, now)
            found = ReportedFlows(orphans.named(now), known.held, known.orphans_total)
            flows = encode_flows(found)
            return replace(report, presence=presence, flows=flows, **vars(self._origin))

        yield Reporter(self._store(), compose, facts)
        yield ConnectionCounter(facts)
        yield orphans
        yield TransmitCheck(link, self._counters, facts)
        yield LeaveWatch(config.interface, facts, self._changed)


def run_agent(
    file: SettingsFile, settings: Settings, notify: Callable[[str], object] | None = None
) -> int:
    """Run the agent until a signal; return the signal's number. Forwarding goes on after its end.

    Raises:
        BrigadeError: one line with the remedy.

    """
    notify = notify or (lambda message: sd_notify(message, os.environ))
    while True:
        with ExitStack() as stack:
            runner = Runner(file, settings, stack)
            try:
                ended_by = runner.run()
            except (InterfaceReplacedError, BeginAgainError) as again:
                structlog.get_logger().warning("beginning again", reason=str(again))
                settings = runner.settings
                continue
            notify("STOPPING=1")
            break
    structlog.get_logger().info("agent ended, forwarding goes on", signal=ended_by)
    return ended_by
