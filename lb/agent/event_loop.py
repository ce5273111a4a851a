"""The agent's event loop: one thread that owns the data plane; other threads send it events.

Everything that changes forwarding happens here, one event after the other: documents from the
store, neighbours and links from the kernel, the clock. Other threads never touch the data plane.
Whatever hangs or dies, store, hooks, a service, forwarding goes on as it was.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import IN_USE, Cluster, ServerState
from controlplane.domain.vips import in_order
from controlplane.store.http.validity import ending_soon
from lb.agent.attach.attachment import Attachment
from lb.agent.config import AgentConfig
from lb.agent.documents.cluster_view import cluster_vips, deepest, pools_in_service
from lb.agent.documents.follower import Batch, StoreTrouble
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.documents.intake import Intake
from lb.agent.facts import SharedFacts
from lb.agent.mss.keeper import MssKeeper
from lb.agent.netlink.links import LinkInfo
from lb.agent.path.prober import PathProber
from lb.agent.ready.announcer import Announcer
from lb.agent.ready.boot_wait import BootWait
from lb.agent.ready.systemd import try_notify
from lb.agent.ready.take_over import OVERDUE, TakeOver
from lb.agent.report.checks import Checker, wanted_checks
from lb.agent.report.status_file import status_of, write_status
from lb.agent.vips.keeper import VipKeeper
from lb.agent.watch.preflight import link_warnings
from lb.agent.watch.watch import Watch
from lb.agent.worker import Changed, LinkChange, Reload, Stop, WorkerDeath
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.objects import DEFAULT_GUE_PORT, Identity

LAST_GOOD = "last good"
"""Where documents came from that were saved, not read from the store."""
STORE_PATIENCE_SECONDS = 5.0
NEIGHBOUR_PATIENCE_SECONDS = 0.3
TICK_SECONDS = 1.0
DOWN = (
    "the controller counts this server as down and gives it no traffic, although its agent runs: "
    "`lbctl why` with this server's name, on the controller's machine, shows the reason (one that "
    "others did not reach joins when they have reached it for 30 s)"
)


@dataclass(frozen=True)
class NeighbourChange:
    """Next-hop MACs by DIP index, and how many are unknown in all."""

    macs: Mapping[int, bytes | None]
    unresolved: int


@dataclass(frozen=True)
class PathMtuChange:
    """The MTU of the narrowest path to another server, ``None``: that of the interface."""

    mtu: int | None


PathChange = NeighbourChange | PathMtuChange
"""What changed on the way to other servers."""
Event = Batch | StoreTrouble | PathChange | LinkChange | Changed | WorkerDeath | Reload | Stop


@dataclass(frozen=True)
class Parts:
    """The parts of the agent; ``up`` makes and ends them."""

    config: AgentConfig
    link: LinkInfo
    dataplane: Dataplane
    dataplane_lock: threading.Lock
    attachment: Attachment
    in_use: DocumentsInUse
    vips: VipKeeper
    intake: Intake
    announcer: Announcer
    checker: Checker
    mss: MssKeeper
    paths: PathProber
    watch: Watch
    facts: SharedFacts
    track: Callable[[Mapping[int, IPv4Address]], None]
    read_last_good: Callable[[], Batch]
    reload: Callable[[], None]
    """Reads the settings again, and logs the result."""
    replacing: bool
    take_over: TakeOver
    boot_wait: BootWait
    started: float
    """When `up` began and the store was first asked, by the monotonic clock."""


class Agent:
    """The event loop. ``inbox`` takes events from any thread, and from signal handlers."""

    def __init__(self, parts: Parts, inbox: queue.SimpleQueue[Event]) -> None:
        self._parts = parts
        self._inbox = inbox
        self._log = structlog.get_logger()
        self._started = parts.started
        self._link = parts.link
        self._path_mtu: int | None = None
        self._identity: Identity | None = None
        self._tracked: Mapping[int, IPv4Address] = {}
        self._answered = False
        self._used_last_good = False
        self._neighbours_seen = False
        self._filled_at: float | None = None
        self._attached = False
        parts.facts.update(detached=not parts.replacing)
        self._next_tick = 0.0

    def run(self) -> int:
        """Handle events until a signal; return its number.

        Raises:
            BrigadeError: something that a restart or the operator may repair.

        """
        while True:
            try:
                event = self._inbox.get(timeout=max(0.0, self._pause()))
            except queue.Empty:
                pass
            else:
                if isinstance(event, Stop):
                    return event.signal
                self._handle(event)
            self._proceed()

    def _pause(self) -> float:
        if self._attached:
            return self._next_tick - time.monotonic()
        return min(0.05, TICK_SECONDS)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Batch):
            self._take_from_store(event)
        elif isinstance(event, StoreTrouble):
            self._log.warning("store trouble", reason=event.line)
            if event.denied and not self._attached:
                self._fall_back(event.line)
                if self._parts.in_use.cluster is None:
                    raise BrigadeError(event.line)
        elif isinstance(event, PathChange):
            self._follow_path(event)
        elif isinstance(event, LinkChange | Changed):
            self._next_tick = 0.0
        elif isinstance(event, Reload):
            self._parts.reload()
            self._next_tick = 0.0
        elif isinstance(event, WorkerDeath):
            raise BrigadeError(
                f"the agent's part {event.name!r} failed; forwarding goes on as it was"
            )

    def _proceed(self) -> None:
        """Do what is possible now, after an event or some time."""
        now = time.monotonic()
        if not self._attached:
            waited_long = now - self._started >= STORE_PATIENCE_SECONDS
            if self._answered or waited_long:
                self._fall_back("" if self._answered else "the store does not answer")
            if self._may_attach(now):
                self._attach()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._tick()

    # ------------------------------------------------------------------ documents

    def _take_from_store(self, batch: Batch) -> None:
        self._answered = True
        if batch.led:
            self._parts.boot_wait.controller_answered()
            self._next_tick = 0.0
        self._take(batch, "store")

    def _take(self, batch: Batch, source: str) -> None:
        parts = self._parts
        before = parts.in_use.generations()
        with parts.dataplane_lock:
            parts.intake.take(batch)
            self._set_identity()
        if parts.in_use.generations() == before:
            return
        self._next_tick = 0.0
        if parts.in_use.cluster is not None:
            self._check_name(parts.in_use.cluster)
        parts.facts.update(source=source)
        if parts.in_use.view.dips != self._tracked:
            self._tracked = dict(parts.in_use.view.dips)
            parts.track(self._tracked)
        if self._filled_at is None and parts.in_use.cluster is not None:
            self._filled_at = time.monotonic()
        self._follow_cluster()

    def _fall_back(self, reason: str) -> None:
        """Take the documents that the store did not give from the last good ones, once."""
        if self._used_last_good:
            return
        cluster = self._parts.in_use.cluster
        if cluster is not None and not self._missing_pools(cluster):
            return
        self._used_last_good = True
        last_good = self._parts.read_last_good()
        if cluster is not None:
            missing = self._missing_pools(cluster)
            tables = {pool: data for pool, data in last_good.tables.items() if pool in missing}
            last_good = Batch(None, tables, last_good.keys)
        if last_good.empty:
            missed = "documents" if cluster is None else "tables"
            self._log.warning(f"no {missed} yet: waiting for the store", reason=reason)
            return
        self._log.warning("starting from the last good documents", reason=reason or "none in store")
        self._take(last_good, LAST_GOOD)

    def _missing_pools(self, cluster: Cluster) -> frozenset[str]:
        return pools_in_service(cluster) - self._parts.in_use.tables.keys()

    def _follow_cluster(self) -> None:
        """Update facts and parts by the documents in use."""
        parts = self._parts
        cluster = parts.in_use.cluster
        if cluster is None or not self._attached:
            return
        vips = tuple(in_order(cluster_vips(cluster) - parts.vips.left_out.keys()))
        own = cluster.server(parts.config.name)
        state = own.state.value if own else "unknown"
        parts.facts.update(vips=vips, services=cluster.services, state=state)
        parts.checker.follow(wanted_checks(cluster.services, vips))
        depth = deepest(cluster.pools)
        parts.mss.lower(vips, depth, self._path_mtu)
        parts.paths.follow(cluster, self._link.mtu)
        parts.facts.set_trouble("vips", parts.vips.trouble)
        down = own is not None and own.state is ServerState.DOWN
        parts.facts.set_trouble("state", DOWN if down and not parts.facts.current.leaving else None)
        self._warn_of_link()
        self._decide_ready()

    def _warn_of_link(self) -> None:
        """Note what is wrong with the interface; log what is newly wrong."""
        parts = self._parts
        depth = deepest(parts.in_use.cluster.pools if parts.in_use.cluster else ())
        before = parts.facts.current.troubles
        link = replace(self._link, mtu=self._underlay_mtu())
        lines = link_warnings(parts.config, link, parts.facts.current.vips, depth)
        for topic, line in lines.items():
            self._parts.facts.set_trouble(topic, line)
            if line is not None and before.get(topic) != line:
                self._log.warning("the interface is not fit for all packets", detail=line)

    # ------------------------------------------------------------------ attaching

    def _may_attach(self, now: float) -> bool:
        cluster = self._parts.in_use.cluster
        if cluster is None or self._filled_at is None:
            return False
        if (
            self._parts.replacing
            and self._missing_pools(cluster) & self._parts.intake.refused_pools
        ):
            return False  # the attached programs have a table that we do not have
        waited = now - self._filled_at >= NEIGHBOUR_PATIENCE_SECONDS
        return self._neighbours_seen or waited

    def _attach(self) -> None:
        """Attach the filled programs: from here on this server forwards by them."""
        parts = self._parts
        parts.attachment.attach(parts.dataplane)
        parts.attachment.set_sysctls()
        parts.vips.enabled = True
        cluster = parts.in_use.cluster
        wanted = cluster_vips(cluster) if cluster else frozenset()
        parts.vips.shrink(wanted)
        parts.vips.extend(wanted)
        self._attached = True
        parts.take_over.attached(time.monotonic())
        parts.facts.set_trouble("take-over", None)
        parts.facts.update(attached=True, detached=False, xdp_mode=parts.config.xdp_mode)
        parts.intake.attached = True
        parts.intake.publish()
        self._log.info(
            "forwarding",
            interface=self._link.name,
            xdp_mode=parts.config.xdp_mode,
            generations=parts.in_use.generations(),
            seconds=round(time.monotonic() - self._started, 2),
        )
        self._follow_cluster()

    def _set_identity(self) -> None:
        """Give the data plane this server's addresses, if they have changed."""
        cluster = self._parts.in_use.cluster
        identity = Identity(
            self._parts.config.dip,
            self._link.mac,
            self._underlay_mtu(),
            self._link.index,
            cluster.gue_port if cluster else DEFAULT_GUE_PORT,
        )
        if identity != self._identity:
            self._parts.dataplane.set_identity(identity)
            self._identity = identity

    # ------------------------------------------------------------------ kernel

    def _follow_path(self, change: PathChange) -> None:
        if isinstance(change, NeighbourChange):
            self._set_neighbours(change)
        else:
            self._follow_path_mtu(change.mtu)

    def _set_neighbours(self, change: NeighbourChange) -> None:
        parts = self._parts
        self._neighbours_seen = True
        with parts.dataplane_lock:
            for index, mac in change.macs.items():
                if index in parts.in_use.view.dips:
                    parts.dataplane.set_neighbour(index, mac)
        parts.facts.update(neighbours_unresolved=change.unresolved)

    def _follow_watch(self) -> None:
        """Look at what this server relies on, and follow what has changed about the interface."""
        parts = self._parts
        parts.watch.look()
        link = parts.watch.link
        if link is not None and link != self._link:
            self._link = link
            with parts.dataplane_lock:
                self._set_identity()
            self._follow_cluster()
        self._warn_of_link()

    def _follow_path_mtu(self, mtu: int | None) -> None:
        """Encapsulate only what the narrowest path carries."""
        if mtu == self._path_mtu:
            return
        self._path_mtu = mtu
        self._log.warning("MTU of paths to other servers", mtu=mtu or self._link.mtu)
        with self._parts.dataplane_lock:
            self._set_identity()
        self._follow_cluster()

    def _underlay_mtu(self) -> int:
        """Return the size up to which encapsulated packets reach every server, in bytes."""
        return min(self._link.mtu, self._path_mtu or self._link.mtu)

    # ------------------------------------------------------------------ clock

    def _tick(self) -> None:
        parts = self._parts
        if self._attached:
            self._follow_watch()
            parts.intake.save_again()
            self._decide_ready()
        elif parts.facts.current.ready and parts.take_over.overdue(time.monotonic()):
            parts.facts.update(ready=False)
            parts.facts.set_trouble("take-over", OVERDUE)
        now = time.time()
        soon = ending_soon(parts.facts.current.certificates, now)
        parts.facts.set_trouble("certificates", soon)
        try:
            status = status_of(parts.facts.current, parts.config, now)
            write_status(parts.config.run_dir, status)
        except BrigadeError as error:  # a full /run must not stop documents from being followed
            self._log.warning("no status file", reason=str(error))
        if os.environ.get("WATCHDOG_USEC"):
            try_notify("WATCHDOG=1", os.environ)

    def _decide_ready(self) -> None:
        """Ready: all is in place, the MSS lowered, a table loaded, and traffic is wanted here."""
        parts = self._parts
        cluster = parts.in_use.cluster
        own = cluster.server(parts.config.name) if cluster else None
        ready = (
            parts.facts.own_name
            and self._documents_are_new_enough()
            and not parts.facts.current.withdrawing
            and own is not None
            and own.state in IN_USE
            and parts.facts.current.attached
            and not parts.facts.current.missing
            and bool(parts.in_use.tables)
        )
        if ready and not parts.mss.settled and parts.take_over.adapting(time.monotonic()):
            return  # the MSS table of the agent before is in place: nothing to withdraw
        parts.announcer.want(ready=ready and parts.mss.settled)

    def _check_name(self, cluster: Cluster) -> None:
        """Whether this server's name is its own: else it reports and acknowledges nothing."""
        parts = self._parts
        own, wrong = cluster.server(parts.config.name), None
        if own is not None and own.dip != parts.config.dip:
            wrong = (
                f"the controller knows {own.name} by DIP {own.dip}, not {parts.config.dip}: this "
                "server reports nothing and gets no traffic; correct name or dip in agent.toml, or "
                "the controller's file"
            )
        if wrong is not None and wrong != parts.facts.current.troubles.get("identity"):
            self._log.error(wrong, every_time=True)
        listed_dip = str(own.dip) if own is not None and wrong is not None else ""
        parts.facts.update(misnamed=wrong is not None, listed_dip=listed_dip)
        parts.facts.set_trouble("identity", wrong)

    def _documents_are_new_enough(self) -> bool:
        """Whether a controller has answered since the boot, or has been waited for long enough."""
        facts = self._parts.facts
        saved = facts.current.source == LAST_GOOD
        enough, trouble = self._parts.boot_wait.decide(time.monotonic(), saved=saved)
        if trouble is not None and trouble != facts.current.troubles.get("controller"):
            (self._log.error if enough else self._log.warning)(trouble, every_time=True)
        facts.set_trouble("controller", trouble)
        return enough
