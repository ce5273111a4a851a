"""`lbctl up`: makes the agent's parts in the right order, runs it, and ends them."""

from __future__ import annotations

import os
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

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
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.documents.intake import Intake
from lb.agent.documents.last_good import read_last_good
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
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.lock import interface_lock
from lb.agent.machine.signals import signals_handled
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.mss.keeper import MssKeeper
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.neighbours import Neighbours
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.preflight import check_interface, check_root
from lb.agent.ready.announcer import Announcer
from lb.agent.ready.systemd import sd_notify
from lb.agent.report.checks import Checker
from lb.agent.report.load import open_load_source
from lb.agent.report.metrics import AgentCollector, serve_metrics
from lb.agent.report.samplers import ConnectionCounter, LoadSampler
from lb.agent.report.store_reports import Acknowledger, Reporter, compose_report
from lb.agent.vips.keeper import VipKeeper
from lb.agent.worker import Worker
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.objects import Identity, ServiceEntry


def open_journal(config: AgentConfig) -> Journal:
    """Continue the record of this network namespace, or begin one.

    Raises:
        BrigadeError: the record is about another interface here.

    """
    namespace = current_namespace()
    fresh = Record(namespace, config.interface, str(config.bpffs), config.xdp_mode)
    record = read_record(config.state_dir)
    if record is None or record.namespace != namespace:
        return Journal(config.state_dir, fresh)
    if (record.interface, record.bpffs) != (config.interface, str(config.bpffs)):
        raise BrigadeError(
            f"{config.state_dir} is of an agent that runs, or ran, on {record.interface} with pins "
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
        self._facts = SharedFacts(time.time())
        self._boot_id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._dataplane: Dataplane | None = None

    def run(self) -> int:
        """Run the agent; return the signal that ended it."""
        config, stack = self._config, self._stack
        check_root("up")
        netlink = stack.enter_context(RouteSocket())
        link = check_interface(netlink, config)
        stack.enter_context(interface_lock(config.interface))
        # a SimpleQueue may be put into at any moment, also in a handler
        stack.enter_context(signals_handled(lambda number: self._inbox.put(Stop(number))))
        journal = open_journal(config)
        attachment = Attachment(netlink, link, config, journal)
        attachment.check()
        return self._run(netlink, link, journal, attachment)

    def _run(
        self, netlink: RouteSocket, link: LinkInfo, journal: Journal, attachment: Attachment
    ) -> int:
        """Make the parts, in this order, and run the loop."""
        config = self._config
        journal.note(run_dir_made=journal.record.run_dir_made or not config.run_dir.exists())
        self._serve_metrics()
        acknowledger = Acknowledger(self._store(), config.name)
        follower = Follower(self._store(), self._facts, self._inbox.put)
        self._start(follower)  # asks the store while the programs are compiled
        dataplane = self._load(link)
        announcer = Announcer(config, journal, self._facts, self._changed)
        checker = Checker(self._facts, random.Random())  # noqa: S311 no secret
        neighbours = self._neighbours(link)
        mss = self._mss_keeper(link, journal)
        self._start(acknowledger, announcer, checker, neighbours, mss, *self._observers())
        vips = VipKeeper(netlink, journal)
        in_use = DocumentsInUse(dataplane, vips)
        state_dir = StateDir(config.state_dir)
        parts = Parts(
            config=config,
            netlink=netlink,
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
            facts=self._facts,
            track=neighbours.track,
            read_last_good=partial(read_last_good, state_dir),
            replacing=bool(attachment.our_forwarders()),
            started=self._started,
        )
        return Agent(parts, self._inbox).run()

    def _store(self) -> AgentStore:
        """Open one more connection to the store, so that a thread that hangs hangs alone."""
        config = self._config
        store = open_agent_store(config.store, config.token_file, config.ca_file)
        self._stack.callback(store.close)
        return store

    def _start(self, *parts: Worker) -> None:
        for part in parts:
            part.on_death = self._died
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

    def _serve_metrics(self) -> None:
        collector = AgentCollector(
            lambda: self._facts.current, self._counters, self._service_counters, time.time
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

    def _observers(self) -> Iterator[Worker]:
        config, facts = self._config, self._facts

        def compose(sequence: int) -> Report:
            return compose_report(
                facts.current, config.name, self._boot_id, sequence, time.time(), lb.__version__
            )

        yield Reporter(self._store(), compose, facts)
        yield ConnectionCounter(facts)
        source = open_load_source(config.load)
        if source is not None:
            yield LoadSampler(source, config.load.window_seconds, facts)


def run_agent(config: AgentConfig, notify: Callable[[str], object] | None = None) -> int:
    """Run the agent until a signal; return the signal's number. Forwarding goes on after its end.

    Raises:
        BrigadeError: one line with the remedy.

    """
    notify = notify or (lambda message: sd_notify(message, os.environ))
    with ExitStack() as stack:
        ended_by = Runner(config, stack).run()
        notify("STOPPING=1")
    structlog.get_logger().info("agent ended, forwarding goes on", signal=ended_by)
    return ended_by
