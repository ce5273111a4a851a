"""Reconciles the routing table for replies from VIPs with the main one (setting ``mss``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip
from lb.agent.facts import SharedFacts
from lb.agent.machine.lock import interface_lock
from lb.agent.machine.undo_record import Journal
from lb.agent.mss.goal import (
    USUAL_PACKET_BYTES,
    VipPaths,
    concerns,
    goal_for,
    refused_routes,
    table_taken,
)
from lb.agent.mss.mirror import Goal, Mirror, Outcome, clear, foreign_routes
from lb.agent.netlink.links import link_mtus
from lb.agent.netlink.route_filter import Interest, filter_for
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.netlink.routes import RT_TABLE_MAIN
from lb.agent.netlink.watcher import RTMGRP, Watcher
from lb.agent.worker import Worker

LOCK_ROLE = "routing-table"
REPAIRS = "routing"
"""What is counted when somebody removed our rules, or routes of our table."""
GROUPS = RTMGRP.LINK | RTMGRP.IPV4_IFADDR | RTMGRP.IPV4_ROUTE | RTMGRP.IPV4_RULE
GROUPS |= RTMGRP.IPV6_ROUTE | RTMGRP.IPV6_RULE
"""Addresses too: routes go with their source, and older kernels do not notify of that."""
SETTLE_SECONDS = 0.02
REST_SECONDS = 0.1
COST = 4
"""After a look at the tables it rests for so many times the CPU time that it took, at least for
the time above."""
REFRESH_SECONDS = 30.0
"""For changes without a notification: IPv4 routes that go with their interface."""
RETRY_SECONDS = 2.0


class MssKeeper(Worker):
    """Reconciles the mirror with the main table, links, rules and the VIPs that are requested.

    Every failure is a trouble among the facts: forwarding does not depend on this.
    ``on_change`` is called after the first attempt.
    """

    def __init__(
        self,
        mode: str,
        table: int,
        ifindex: int,
        journal: Journal,
        facts: SharedFacts,
        on_change: Callable[[], None],
    ) -> None:
        super().__init__("mss")
        self._mode = mode
        self._table = table
        self._ifindex = ifindex
        self._journal = journal
        self._facts = facts
        self._on_change = on_change
        self._watcher = Watcher(GROUPS)
        self._paths: VipPaths | None = None
        self._owned = ExitStack()
        self._owns_table = False
        self._reported = Goal(0)
        facts.begin_repairs([REPAIRS])
        self.settled = False
        """Whether the first request is done, or cannot be: nothing has to wait for it any more."""

    def lower(self, vips: Iterable[Vip], depth: int, path_mtu: int | None = None) -> None:
        """Request this for these VIPs and chains of up to ``depth``. Repeating it costs nothing.

        ``path_mtu``: of the narrowest path to another server, if it is less than the interface's.
        """
        paths = VipPaths(frozenset(vips), depth, path_mtu)
        with self.requested:
            if paths == self._paths:
                return
            self._paths = paths
        self._watcher.wake()

    def stop(self) -> None:
        """Request the end; the mirror stays."""
        super().stop()
        self._watcher.wake()

    def step(self) -> float:
        """Follow until ``stop``, or until netlink fails."""
        try:
            with self._owned, RouteSocket() as netlink, self._watcher:
                self._follow(netlink, netlink.port)
        except (OSError, BrigadeError) as error:
            self._set_trouble(f"the MSS of VIPs cannot be lowered: {error}")
            self._settle()
            return RETRY_SECONDS
        finally:
            self._owns_table = False
        return 0.0

    def _follow(self, netlink: RouteSocket, port: int) -> None:
        mirror = Mirror(netlink)
        while not self.ending.is_set():
            rest, pause = 0.0, REFRESH_SECONDS
            with self.requested:
                paths = self._paths
            if paths is not None:
                started = time.thread_time()
                if not self._reconcile(paths, netlink, mirror):
                    pause = RETRY_SECONDS
                rest = max(REST_SECONDS, COST * (time.thread_time() - started))
            now = time.monotonic()
            self._wait(port, not_before=now + rest, until=now + pause)

    def _wait(self, port: int, *, not_before: float, until: float) -> None:
        """Wait for a request, for a change that matters (after a burst, rest), or for a time."""
        changed = False
        while not changed and not self.ending.is_set() and time.monotonic() < until:
            happened = self._watcher.wait(until - time.monotonic())
            requested = self._watcher.woken()
            if happened and not requested:
                self.pause(max(SETTLE_SECONDS, not_before - time.monotonic()))
            changed = self._changed(port) or requested

    def _changed(self, port: int) -> bool:
        """Whether the kernel reports a change that matters, or reports were lost."""
        notifications, lost = self._watcher.notifications()
        return lost or concerns(notifications, self._table, port)

    def _reconcile(self, paths: VipPaths, netlink: RouteSocket, mirror: Mirror) -> bool:
        """Make the mirror what it has to be; return whether it is."""
        mtus = link_mtus(netlink)
        mtu = mtus.get(self._ifindex, USUAL_PACKET_BYTES)
        mtu = min(mtu, paths.path_mtu or mtu)
        goal = goal_for(paths, self._mode, self._table, mtu)
        recorded = self._journal.record.mss_table
        self._watcher.set_filter(filter_for(self._interest(goal)))
        if recorded not in (0, self._table):
            clear(netlink, recorded)
            self._journal.note(mss_table=0)
        trouble = self._claim(netlink) if goal.vips else None
        if trouble is None and (goal.vips or self._journal.record.mss_table):
            self._journal.note(mss_table=self._table)
            outcome = mirror.synchronise(goal, mtus)
            if outcome.put_back:
                self._facts.count_repair(REPAIRS)
                structlog.get_logger().warning("put back", about=REPAIRS, changes=outcome.put_back)
            trouble = refused_routes(outcome)
            if not goal.vips and trouble is None:
                self._journal.note(mss_table=0)
            self._report(goal, outcome)
        self._set_trouble(trouble)
        self._settle()
        return trouble is None

    def _interest(self, goal: Goal) -> Interest:
        """Return which routes matter: those of main and of its copy, if there has to be one."""
        copied = bool(goal.vips or self._journal.record.mss_table)
        return Interest(frozenset({RT_TABLE_MAIN, self._table} if copied else ()))

    def _claim(self, netlink: RouteSocket) -> str | None:
        """Make sure that the table is ours alone; return what is wrong."""
        if self._owns_table:
            return None
        others = foreign_routes(netlink, self._table)
        if others:
            return table_taken(self._table, others)
        try:
            self._owned.enter_context(interface_lock(str(self._table), LOCK_ROLE))
        except BrigadeError:
            return f"routing table {self._table} is another agent's: set mss_table to a free one"
        self._owns_table = True
        return None

    def _settle(self) -> None:
        if not self.settled:
            self.settled = True
            self._on_change()

    def _report(self, goal: Goal, outcome: Outcome) -> None:
        if goal == self._reported:
            return
        self._reported = goal
        self._facts.update(mss_overhead=goal.overhead, mss_of_all=goal.covers_all_tcp)
        log = structlog.get_logger()
        if goal.vips:
            log.info(
                "MSS lowered",
                room_bytes=goal.overhead,
                table=goal.table,
                routes=outcome.routes,
                all_tcp=goal.covers_all_tcp,
            )
        else:
            log.info("MSS not lowered any more", table=goal.table)

    def _set_trouble(self, line: str | None) -> None:
        if line is not None and self._facts.current.troubles.get("mss") != line:
            structlog.get_logger().warning("MSS cannot be lowered", detail=line)
        self._facts.set_trouble("mss", line)
