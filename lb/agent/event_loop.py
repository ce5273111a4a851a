"""The agent: one thread that owns the data plane, and helpers that tell it what happened.

Everything that changes forwarding happens here, one event after the other: documents from the
store, neighbours and links from the kernel, the clock. Helpers never touch the data plane. Whatever
hangs or dies around it, store, hooks, a service, forwarding goes on as it was.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import IN_USE, Cluster
from controlplane.domain.vips import in_order
from lb.agent.attach.attachment import Attachment
from lb.agent.config import AgentConfig
from lb.agent.documents.cluster_view import cluster_vips, deepest, pools_in_service
from lb.agent.documents.follower import Batch, StoreTrouble
from lb.agent.documents.in_use import Forwarding
from lb.agent.documents.intake import Intake
from lb.agent.facts import Board
from lb.agent.mss.keeper import MssKeeper
from lb.agent.netlink.links import LinkInfo, netlink_errors, read_link
from lb.agent.preflight import link_warnings
from lb.agent.ready.announcer import Announcer
from lb.agent.ready.systemd import sd_notify
from lb.agent.report.checks import Checker, wanted_checks
from lb.agent.report.status_file import status_of, write_status
from lb.agent.vips.keeper import VipKeeper
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.objects import DEFAULT_GUE_PORT, Identity

STORE_PATIENCE_SECONDS = 5.0
NEIGHBOUR_PATIENCE_SECONDS = 0.3
TICK_SECONDS = 1.0


@dataclass(frozen=True)
class NeighbourChange:
    """Next-hop MACs by DIP index, and how many are unknown in all."""

    macs: Mapping[int, bytes | None]
    unresolved: int


@dataclass(frozen=True)
class LinkChange:
    """Something about our interface changed."""


@dataclass(frozen=True)
class Changed:
    """A helper posted something that the status file should tell without delay."""


@dataclass(frozen=True)
class WorkerDeath:
    """A helper ended by a fault of ours."""

    name: str


@dataclass(frozen=True)
class Stop:
    """A signal asked the agent to end."""

    signal: int


Event = Batch | StoreTrouble | NeighbourChange | LinkChange | Changed | WorkerDeath | Stop


@dataclass(frozen=True)
class Parts:
    """What the agent works with; ``up`` makes and ends them."""

    config: AgentConfig
    netlink: Any
    link: LinkInfo
    dataplane: Dataplane
    dataplane_lock: threading.Lock
    attachment: Attachment
    forwarding: Forwarding
    vips: VipKeeper
    intake: Intake
    announcer: Announcer
    checker: Checker
    mss: MssKeeper
    board: Board
    track: Callable[[Mapping[int, Any]], None]
    read_saved: Callable[[], Batch]
    replacing: bool
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
        self._identity: Identity | None = None
        self._tracked: Mapping[int, Any] = {}
        self._answered = False
        self._used_saved = False
        self._neighbours_seen = False
        self._filled_at: float | None = None
        self._attached = False
        self._next_tick = 0.0

    def run(self) -> int:
        """Handle events until a signal; return its number.

        Raises:
            BrigadeError: something that restarting may mend, or the operator has to.

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
            self._answered = True
            self._take(event, "store")
        elif isinstance(event, StoreTrouble):
            self._log.warning("store trouble", reason=event.line)
            if event.denied and not self._attached:
                self._fall_back(event.line)
                if self._parts.forwarding.cluster is None:
                    raise BrigadeError(event.line)
        elif isinstance(event, NeighbourChange):
            self._set_neighbours(event)
        elif isinstance(event, LinkChange):
            self._follow_link()
        elif isinstance(event, Changed):
            self._next_tick = 0.0
        elif isinstance(event, WorkerDeath):
            raise BrigadeError(
                f"the agent's part {event.name!r} failed; forwarding goes on as it was"
            )

    def _proceed(self) -> None:
        """Do what the time or the last event made possible."""
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

    def _take(self, batch: Batch, source: str) -> None:
        parts = self._parts
        before = parts.forwarding.in_use()
        with parts.dataplane_lock:
            parts.intake.take(batch)
            self._set_identity()
        if parts.forwarding.in_use() == before:
            return
        self._next_tick = 0.0
        parts.board.post(source=source)
        if parts.forwarding.view.dips != self._tracked:
            self._tracked = dict(parts.forwarding.view.dips)
            parts.track(self._tracked)
        if self._filled_at is None and parts.forwarding.cluster is not None:
            self._filled_at = time.monotonic()
        self._follow_cluster()

    def _fall_back(self, reason: str) -> None:
        """Fill what the store did not give from the last good documents, once, and say so."""
        if self._used_saved:
            return
        cluster = self._parts.forwarding.cluster
        if cluster is not None and not self._missing_pools(cluster):
            return
        self._used_saved = True
        saved = self._parts.read_saved()
        if cluster is not None:
            missing = self._missing_pools(cluster)
            tables = {pool: data for pool, data in saved.tables.items() if pool in missing}
            saved = Batch(None, tables, saved.keys)
        if saved.empty:
            missed = "documents" if cluster is None else "tables"
            self._log.warning(f"no {missed} yet: waiting for the store", reason=reason)
            return
        self._log.warning("starting from the last good documents", reason=reason or "none in store")
        self._take(saved, "last good")

    def _missing_pools(self, cluster: Cluster) -> frozenset[str]:
        return pools_in_service(cluster) - self._parts.forwarding.tables.keys()

    def _follow_cluster(self) -> None:
        """Post and pass on what the documents in use imply."""
        parts = self._parts
        cluster = parts.forwarding.cluster
        if cluster is None or not self._attached:
            return
        vips = tuple(in_order(cluster_vips(cluster) - parts.vips.left_out.keys()))
        own = cluster.server(parts.config.name)
        parts.board.post(vips=vips, state=own.state.value if own else "unknown")
        parts.checker.follow(wanted_checks(cluster.services, vips))
        depth = deepest(cluster.pools)
        parts.mss.lower(vips, depth)
        parts.board.trouble("vips", parts.vips.trouble)
        self._warn(link_warnings(parts.config, self._link, vips, depth))
        self._decide_ready()

    def _warn(self, lines: Mapping[str, str | None]) -> None:
        """Post what is wrong with the interface; log what is newly wrong."""
        before = self._parts.board.facts.troubles
        for topic, line in lines.items():
            self._parts.board.trouble(topic, line)
            if line is not None and before.get(topic) != line:
                self._log.warning("the interface is not fit for all packets", detail=line)

    # ------------------------------------------------------------------ attaching

    def _may_attach(self, now: float) -> bool:
        cluster = self._parts.forwarding.cluster
        if cluster is None or self._filled_at is None:
            return False
        if (
            self._parts.replacing
            and self._missing_pools(cluster) & self._parts.intake.refused_pools
        ):
            return False  # the programs in place have a table that we have not
        waited = now - self._filled_at >= NEIGHBOUR_PATIENCE_SECONDS
        return self._neighbours_seen or waited

    def _attach(self) -> None:
        """Put the filled programs to work: from here on this server forwards by them."""
        parts = self._parts
        parts.attachment.attach(parts.dataplane)
        parts.attachment.set_sysctls()
        parts.vips.enabled = True
        cluster = parts.forwarding.cluster
        wanted = cluster_vips(cluster) if cluster else frozenset()
        parts.vips.shrink(wanted)
        parts.vips.extend(wanted)
        self._attached = True
        parts.board.post(attached=True, xdp_mode=parts.config.xdp_mode)
        parts.intake.open = True
        parts.intake.publish()
        self._log.info(
            "forwarding",
            interface=self._link.name,
            xdp_mode=parts.config.xdp_mode,
            generations=parts.forwarding.in_use(),
            seconds=round(time.monotonic() - self._started, 2),
        )
        self._follow_cluster()

    def _set_identity(self) -> None:
        """Tell the data plane who this server is, if that has changed."""
        cluster = self._parts.forwarding.cluster
        identity = Identity(
            self._parts.config.dip,
            self._link.mac,
            self._link.mtu,
            self._link.index,
            cluster.gue_port if cluster else DEFAULT_GUE_PORT,
        )
        if identity != self._identity:
            self._parts.dataplane.set_identity(identity)
            self._identity = identity

    # ------------------------------------------------------------------ kernel

    def _set_neighbours(self, change: NeighbourChange) -> None:
        parts = self._parts
        self._neighbours_seen = True
        with parts.dataplane_lock:
            for index, mac in change.macs.items():
                if index in parts.forwarding.view.dips:
                    parts.dataplane.set_neighbour(index, mac)
        parts.board.post(neighbours_unresolved=change.unresolved)

    def _follow_link(self) -> None:
        with netlink_errors(f"look at interface {self._link.name}", "is it gone?"):
            self._link = read_link(self._parts.netlink, self._link.index)
        with self._parts.dataplane_lock:
            self._set_identity()
        self._follow_cluster()

    # ------------------------------------------------------------------ clock

    def _tick(self) -> None:
        parts = self._parts
        if self._attached:
            with netlink_errors(f"look at interface {self._link.name}", "is it gone?"):
                missing = parts.attachment.missing()
            if missing and parts.board.facts.attached:
                self._log.error("not attached any more", reason=missing)
            parts.board.trouble("attachment", missing)
            parts.board.post(attached=missing is None)
            self._decide_ready()
        try:
            status = status_of(parts.board.facts, parts.config, time.time())
            write_status(parts.config.run_dir, status)
        except BrigadeError as error:  # a full /run must not stop documents from being followed
            self._log.warning("no status file", reason=str(error))
        if os.environ.get("WATCHDOG_USEC"):
            try:
                sd_notify("WATCHDOG=1", os.environ)
            except OSError as error:
                self._log.warning("cannot notify systemd", reason=str(error))

    def _decide_ready(self) -> None:
        """Ready: attached, VIPs and their MSS set, a table loaded, and traffic is wanted here."""
        parts = self._parts
        cluster = parts.forwarding.cluster
        own = cluster.server(parts.config.name) if cluster else None
        wrong = None
        if own is not None and own.dip != parts.config.dip:
            wrong = f"the controller knows {own.name} by DIP {own.dip}, not {parts.config.dip}"
        parts.board.trouble("identity", wrong)
        parts.announcer.want(
            ready=wrong is None
            and own is not None
            and own.state in IN_USE
            and parts.board.facts.attached
            and bool(parts.forwarding.tables)
            and parts.mss.settled
        )
