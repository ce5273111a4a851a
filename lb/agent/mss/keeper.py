"""Keeps the routing table by which answers of VIPs leave a mirror of the main one (``mss``)."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip
from lb.agent.facts import Board
from lb.agent.machine.lock import InterfaceLock
from lb.agent.machine.undo_record import Journal
from lb.agent.mss.goal import USUAL_PACKET_BYTES, Wish, concerns, goal_for, table_taken, trouble_in
from lb.agent.mss.mirror import Goal, Mirror, Outcome, clear, foreign_routes
from lb.agent.netlink.bulk import RouteSocket, link_mtus
from lb.agent.worker import Worker

LOCK_ROLE = "routing-table"
GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x400 | 1 << 18
"""RTMGRP_LINK, _IPV4_IFADDR (main's routes go with their source, older kernels do not tell),
_IPV4_ROUTE, _IPV4_RULE, _IPV6_ROUTE, and the group of IPv6 rules."""
EVENT_BUFFER_BYTES = 1 << 20
SO_RCVBUFFORCE = 33
SETTLE_SECONDS = 0.02
COST = 4
"""After a look at the tables it rests for so many times the CPU time that it took."""
REFRESH_SECONDS = 30.0
"""For what the kernel does not notify of: IPv4 routes that go with their interface."""
RETRY_SECONDS = 2.0


class MssKeeper(Worker):
    """Follows the main table, links and rules, and makes the mirror what they and the wish say.

    Whatever goes wrong is a trouble on the board: forwarding does not depend on this.
    ``on_change`` is called once the first wish is met.
    """

    def __init__(
        self,
        mode: str,
        table: int,
        ifindex: int,
        journal: Journal,
        board: Board,
        on_change: Callable[[], None],
        on_death: Callable[[str], None],
    ) -> None:
        super().__init__("mss", on_death)
        self._mode = mode
        self._table = table
        self._ifindex = ifindex
        self._journal = journal
        self._board = board
        self._on_change = on_change
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0.0)
        self._wish: Wish | None = None
        self._owned = ExitStack()
        self._owns_table = False
        self._said = Goal(0)
        self.settled = False
        """Whether the first wish is met, or cannot be: nothing has to wait for it any more."""

    def lower(self, vips: Iterable[Vip], depth: int) -> None:
        """Say which VIPs there are and how deep chains may be. Saying it again is free."""
        wish = Wish(frozenset(vips), depth)
        with self._lock:
            if wish == self._wish:
                return
            self._wish = wish
        self._wake_write.send(b"x")

    def stop(self) -> None:
        """Ask it to end; the mirror stays."""
        super().stop()
        self._wake_write.send(b"x")

    def step(self) -> float:
        """Follow until ``stop``, or until netlink fails."""
        try:
            with (
                self._owned,
                RouteSocket() as netlink,
                socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events,
            ):
                events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, EVENT_BUFFER_BYTES)
                events.settimeout(0.0)
                events.bind((0, GROUPS))
                self._follow(netlink, events)
        except (OSError, BrigadeError) as error:
            self._tell_trouble(f"the MSS of VIPs cannot be lowered: {error}")
            self._settle()
            return RETRY_SECONDS
        finally:
            self._owns_table = False
        return 0.0

    def _follow(self, netlink: RouteSocket, events: socket.socket) -> None:
        poll = select.poll()
        poll.register(events, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        mirror = Mirror(netlink)
        while not self.ending.is_set():
            rest, pause = 0.0, REFRESH_SECONDS
            wish = self._current_wish()
            if wish is not None:
                started = time.thread_time()
                if not self._meet(wish, netlink, mirror):
                    pause = RETRY_SECONDS
                rest = COST * (time.thread_time() - started)
            now = time.monotonic()
            self._wait(poll, events, netlink.port, not_before=now + rest, until=now + pause)

    def _wait(
        self,
        poll: select.poll,
        events: socket.socket,
        port: int,
        *,
        not_before: float,
        until: float,
    ) -> None:
        """Wait for a wish, for a change that matters (a burst of them has a rest), or a time."""
        changed = False
        while not changed and not self.ending.is_set() and time.monotonic() < until:
            happened = poll.poll(max(0.0, until - time.monotonic()) * 1000 + 1)
            asked = self._asked()
            if happened and not asked:
                self.pause(max(SETTLE_SECONDS, not_before - time.monotonic()))
            changed = self._drain(events, port) or asked

    def _asked(self) -> bool:
        try:
            return bool(self._wake_read.recv(4096))
        except BlockingIOError:
            return False

    def _drain(self, events: socket.socket, port: int) -> bool:
        """Read all notifications; if some were lost, everything may have happened."""
        changed = False
        while True:
            try:
                changed |= concerns(events.recv(1 << 16), self._table, port)
            except BlockingIOError:
                return changed
            except OSError:  # ENOBUFS: more than the socket could hold
                changed = True

    def _current_wish(self) -> Wish | None:
        with self._lock:
            return self._wish

    def _meet(self, wish: Wish, netlink: RouteSocket, mirror: Mirror) -> bool:
        """Make the mirror what it has to be; return whether it is."""
        mtus = link_mtus(netlink)
        mtu = mtus.get(self._ifindex, USUAL_PACKET_BYTES)
        goal = goal_for(wish, self._mode, self._table, mtu)
        recorded = self._journal.record.mss_table
        if recorded not in (0, self._table):
            clear(netlink, recorded)
            self._journal.note(mss_table=0)
        trouble = self._claim(netlink) if goal.vips else None
        if trouble is None and (goal.vips or self._journal.record.mss_table):
            self._journal.note(mss_table=self._table)
            outcome = mirror.synchronise(goal, mtus)
            trouble = trouble_in(outcome)
            if not goal.vips and trouble is None:
                self._journal.note(mss_table=0)
            self._tell(goal, outcome)
        self._tell_trouble(trouble)
        self._settle()
        return trouble is None

    def _claim(self, netlink: RouteSocket) -> str | None:
        """Make sure that the table is ours alone; return what is wrong."""
        if self._owns_table:
            return None
        others = foreign_routes(netlink, self._table)
        if others:
            return table_taken(self._table, others)
        try:
            self._owned.enter_context(InterfaceLock(str(self._table), LOCK_ROLE))
        except BrigadeError:
            return f"routing table {self._table} is another agent's: set mss_table to a free one"
        self._owns_table = True
        return None

    def _settle(self) -> None:
        if not self.settled:
            self.settled = True
            self._on_change()

    def _tell(self, goal: Goal, outcome: Outcome) -> None:
        if goal == self._said:
            return
        self._said = goal
        self._board.post(mss_room=goal.room, mss_of_all=goal.is_of_all)
        log = structlog.get_logger()
        if goal.vips:
            log.info(
                "MSS lowered",
                room_bytes=goal.room,
                table=goal.table,
                routes=outcome.routes,
                all_tcp=goal.is_of_all,
            )
        else:
            log.info("MSS not lowered any more", table=goal.table)

    def _tell_trouble(self, line: str | None) -> None:
        if line is not None and self._board.facts.troubles.get("mss") != line:
            structlog.get_logger().warning("MSS cannot be lowered", detail=line)
        self._board.trouble("mss", line)
