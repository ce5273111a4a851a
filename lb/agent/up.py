"""`lbctl up`: makes the agent's parts in the right order, runs it, ends what has to end."""

from __future__ import annotations

import os
import queue
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import structlog

import lb
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import Report
from controlplane.store import open_agent_store
from controlplane.store.contract import AgentStore
from controlplane.store.state_dir import StateDir
from lb.agent.attach.attachment import Attachment
from lb.agent.attach.guests import root_pins
from lb.agent.config import AgentConfig
from lb.agent.documents.follower import Follower
from lb.agent.documents.in_use import Forwarding
from lb.agent.documents.intake import Intake, read_saved
from lb.agent.event_loop import (
    Agent,
    Changed,
    Event,
    LinkChange,
    NeighbourChange,
    Parts,
    Stop,
    WorkerDeath,
)
from lb.agent.facts import Board
from lb.agent.machine.boot import current_place
from lb.agent.machine.lock import InterfaceLock
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.mss.keeper import MssKeeper
from lb.agent.netlink.bulk import RouteSocket
from lb.agent.netlink.links import LinkInfo, open_netlink
from lb.agent.netlink.neighbours import Neighbours
from lb.agent.preflight import check_interface, check_root
from lb.agent.ready.announcer import Announcer
from lb.agent.ready.systemd import sd_notify
from lb.agent.report.checks import Checker
from lb.agent.report.load import open_load_source
from lb.agent.report.metrics import AgentCollector, serve_metrics
from lb.agent.report.samplers import ConnectionCounter, LoadSampler
from lb.agent.report.store_reports import Acknowledger, Reporter, compose_report
from lb.agent.vips.keeper import VipKeeper
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.objects import Identity

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BOOT_ID_BYTES = 8


def open_journal(config: AgentConfig) -> Journal:
    """Go on with the record of this place, or begin one.

    Raises:
        BrigadeError: the record speaks of another interface here.

    """
    place = current_place()
    fresh = Record(place, config.interface, str(config.bpffs), config.xdp_mode)
    record = read_record(config.state_dir)
    if record is None or record.place != place:
        return Journal(config.state_dir, fresh)
    if (record.interface, record.bpffs) != (config.interface, str(config.bpffs)):
        raise BrigadeError(
            f"{config.state_dir} says that an agent runs, or ran, on {record.interface} with pins "
            f"in {record.bpffs}: undo that first, with its own settings: lbctl down",
            ExitCode.REFUSED,
        )
    return Journal(config.state_dir, record)


class Runner:
    """Owner of the agent's parts while it runs."""

    def __init__(self, config: AgentConfig, stack: ExitStack) -> None:
        self._config = config
        self._stack = stack
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._started = time.monotonic()
        self._board = Board(time.time())
        self._boot_id = secrets.token_hex(BOOT_ID_BYTES)
        self._lock = threading.Lock()
        self._dataplane: Dataplane | None = None

    def run(self) -> int:
        """Run the agent; return the signal that ended it."""
        config, stack = self._config, self._stack
        check_root()
        netlink = stack.enter_context(open_netlink())
        link = check_interface(netlink, config)
        stack.enter_context(InterfaceLock(config.interface))
        stack.enter_context(self._signals())
        journal = open_journal(config)
        attachment = Attachment(netlink, link, config, journal)
        attachment.check()
        return self._run(netlink, link, journal, attachment)

    def _run(self, netlink: Any, link: LinkInfo, journal: Journal, attachment: Attachment) -> int:
        """Make the parts, in this order, and run the loop."""
        config = self._config
        journal.note(run_dir_made=journal.record.run_dir_made or not config.run_dir.exists())
        self._serve_metrics()
        acknowledger = Acknowledger(self._store(), config.name, self._board, self._died)
        follower = Follower(self._store(), self._board, self._inbox.put, self._died)
        self._start(follower)  # asks the store while the programs are compiled
        dataplane = self._load(link)
        announcer = Announcer(config, journal, self._board, self._changed, self._died)
        checker = Checker(self._board, self._died, random.Random())  # noqa: S311 no secret
        neighbours = self._neighbours(link)
        mss = self._mss_keeper(link, journal)
        for part in (acknowledger, announcer, checker, neighbours, mss, *self._observers()):
            self._start(part)
        vips = VipKeeper(self._stack.enter_context(RouteSocket()), journal)
        forwarding = Forwarding(dataplane, vips)
        state_dir = StateDir(config.state_dir)
        parts = Parts(
            config=config,
            netlink=netlink,
            link=link,
            dataplane=dataplane,
            dataplane_lock=self._lock,
            attachment=attachment,
            forwarding=forwarding,
            vips=vips,
            intake=Intake(forwarding, state_dir, self._board, acknowledger.say),
            announcer=announcer,
            checker=checker,
            mss=mss,
            board=self._board,
            track=neighbours.track,
            read_saved=partial(read_saved, state_dir),
            replacing=bool(attachment.our_forwarders()),
            started=self._started,
        )
        return Agent(parts, self._inbox).run()

    def _store(self) -> AgentStore:
        """Open one more connection to the store: a thread that hangs must not hang another."""
        config = self._config
        store = open_agent_store(config.store, config.token_file, config.ca_file)
        self._stack.callback(store.close)
        return store

    def _start(self, part: Any) -> None:
        part.start()
        self._stack.callback(part.stop)

    def _changed(self) -> None:
        self._inbox.put(Changed())

    def _died(self, name: str) -> None:
        self._inbox.put(WorkerDeath(name))

    def _load(self, link: LinkInfo) -> Dataplane:
        config = self._config
        dataplane = Dataplane.load(
            Identity(config.dip, link.mac, link.mtu, link.index),
            root_pins(config.bpffs, config.interface),
        )
        self._stack.callback(dataplane.close)
        self._board.post(load_seconds=dataplane.load_seconds, xdp_mode=config.xdp_mode)
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

    def _service_counters(self) -> Mapping[Any, tuple[int, int]]:
        with self._lock:
            return self._dataplane.service_counters() if self._dataplane else {}

    def _serve_metrics(self) -> None:
        collector = AgentCollector(
            lambda: self._board.facts, self._counters, self._service_counters, time.time
        )
        end = serve_metrics(collector, self._config.dip, self._config.metrics.port)
        self._stack.callback(end)

    def _neighbours(self, link: LinkInfo) -> Neighbours:
        def publish(macs: Mapping[int, bytes | None]) -> None:
            self._inbox.put(NeighbourChange(macs, neighbours.unresolved))

        neighbours = Neighbours(
            link.index,
            self._config.dip,
            publish,
            lambda: self._inbox.put(LinkChange()),
            self._died,
        )
        return neighbours

    def _mss_keeper(self, link: LinkInfo, journal: Journal) -> MssKeeper:
        config = self._config
        return MssKeeper(
            *(config.mss, config.mss_table, link.index, journal, self._board),
            on_change=self._changed,
            on_death=self._died,
        )

    def _observers(self) -> Iterator[Any]:
        config, board = self._config, self._board

        def compose(sequence: int) -> Report:
            return compose_report(
                board.facts, config.name, self._boot_id, sequence, time.time(), lb.__version__
            )

        yield Reporter(self._store(), compose, board, self._died)
        yield ConnectionCounter(board, self._died)
        source = open_load_source(config.load)
        if source is not None:
            yield LoadSampler(source, config.load.window_seconds, board, self._died)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals put into the inbox, which a handler may do at any moment."""

        def handle(number: int, _frame: object) -> None:
            self._inbox.put(Stop(number))

        before: dict[int, Any] = {number: signal.signal(number, handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_agent(config: AgentConfig, notify: Callable[[str], object] | None = None) -> int:
    """Run the agent until a signal; return the signal's number. Packets notice nothing of its end.

    Raises:
        BrigadeError: one line with the remedy.

    """
    tell = notify or (lambda message: sd_notify(message, os.environ))
    with ExitStack() as stack:
        ended_by = Runner(config, stack).run()
        tell("STOPPING=1")
    structlog.get_logger().info("agent ended, forwarding goes on", signal=ended_by)
    return ended_by
