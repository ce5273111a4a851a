"""Leaving: `lbctl down` asks the controller to take this server out of all tables, and waits.

Tables of other servers may name this one as a later hop when it has no buckets any more, and a UDP
packet visits the oldest hop first. So programs are detached only after every server uses tables
without this one. The controller confirms that by the state ``down`` in the cluster document.

The request is a lock that `lbctl down` holds while it waits: the agent sees it and reports it. If
`lbctl down` ends in any way, so does the request. Without an agent, `lbctl down` itself reports.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.documents.check import decode_cluster, decode_table
from controlplane.documents.fields import DocumentError
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import CLUSTER, Cluster, ServerState, table_kind
from controlplane.domain.table_facts import table_facts
from controlplane.store.contract import AgentStore, StoreError
from lb.agent.facts import SharedFacts
from lb.agent.machine.lock import find_holder
from lb.agent.worker import Worker

LEAVE_ROLE = "leave"
"""The lock that `lbctl down` holds from its request to leave on."""
WITHDRAW_ROLE = "withdraw"
"""The lock that it holds once the routes have to be withdrawn."""
LOOK_SECONDS = 0.25
REPORT_SECONDS = 0.25
PRINT_SECONDS = 2.0
REMIND_SECONDS = 10.0
OUTAGE_SECONDS = 5.0
"""For how long the store or the controller may be away meanwhile: a standby may take the lead."""
COST = (
    "--force leaves at once: then other servers lose the packets that they still send here "
    "(open connections of theirs, UDP first), until they have tables without this server"
)

Show = Callable[[str], None]
Send = Callable[[int], None]
"""Sends this server's report with this sequence number."""


class LeaveWatch(Worker):
    """Notes what `lbctl down` requests; ``on_change`` is called when that has changed."""

    def __init__(self, interface: str, facts: SharedFacts, on_change: Callable[[], None]) -> None:
        super().__init__("leave")
        self._interface = interface
        self._facts = facts
        self._on_change = on_change

    def step(self) -> float:
        """Look at the locks."""
        leaving, withdrawing = self._held(LEAVE_ROLE), self._held(WITHDRAW_ROLE)
        facts = self._facts.current
        if (leaving, withdrawing) != (facts.leaving, facts.withdrawing):
            self._facts.update(leaving=leaving, withdrawing=withdrawing)
            self._on_change()
        return LOOK_SECONDS

    def _held(self, role: str) -> bool:
        """Whether a process of this user holds a lock: others may take its name, too."""
        holder = find_holder(self._interface, role)
        return holder is not None and holder.uid == os.geteuid()


@dataclass(frozen=True)
class Progress:
    """This server's state by the newest documents, and the pools whose chains name it."""

    state: ServerState | None
    pools: tuple[str, ...] = ()

    @property
    def unused(self) -> bool:
        """Whether no server sends here any more."""
        return self.state in (None, ServerState.DOWN) and not self.pools

    def __str__(self) -> str:
        if self.pools:
            return f"the newest table of {', '.join(self.pools)} still names this server"
        return "until every server uses the tables without this one (lbctl servers names them)"


class Leaving:
    """One request to leave, as far as the store's documents show it."""

    def __init__(self, store: AgentStore, server: str) -> None:
        self._store = store
        self._server = server
        self._cluster: Cluster | None = None
        self._named: dict[str, tuple[int, frozenset[int]]] = {}
        self._kinds: Mapping[str, int] = {}

    def look(self, wait_seconds: float) -> Progress:
        """Wait for newer documents, not longer than this, and read them. Raises StoreError."""
        self._kinds = self._store.wait(self._kinds, wait_seconds)
        newest = self._kinds.get(CLUSTER, 0)
        if self._cluster is None or self._cluster.generation != newest:
            version = self._store.latest(CLUSTER)
            self._cluster = decode_cluster(version.data) if version else None
        own = self._cluster.server(self._server) if self._cluster else None
        if self._cluster is None:
            return Progress(ServerState.REGISTERED)  # a store that has just begun knows nobody
        if own is None:
            return Progress(None)
        pools = [pool.name for pool in self._cluster.pools]
        return Progress(own.state, tuple(p for p in pools if own.index in self._named_in(p)))

    def _named_in(self, pool: str) -> frozenset[int]:
        """Return the DIP indices in the newest table of a pool."""
        kind = table_kind(pool)
        generation, named = self._named.get(pool, (0, frozenset()))
        if self._kinds.get(kind, 0) != generation:
            version = self._store.latest(kind)
            if version is not None:
                generation, named = (
                    version.generation,
                    table_facts(decode_table(version.data)).named,
                )
                self._named[pool] = generation, named
        return named


def check_controller(store: AgentStore) -> None:
    """Make sure that a controller can be asked.

    Raises:
        BrigadeError: exit code 3, with the remedy.

    """
    try:
        led = store.is_led()
    except StoreError as error:
        raise _refusal(f"the store does not answer ({error})") from error
    if not led:
        raise _refusal("no controller runs")


def wait_until_unused(
    store: AgentStore,
    server: str,
    show: Show,
    *,
    timeout_seconds: float,
    send: Send | None = None,
) -> None:
    """Block until no server uses a table that names this one.

    ``send`` reports for this server, if it has no agent.

    Raises:
        BrigadeError: exit code 3, nobody can be asked; 4, it takes longer than this.

    """
    leaving, lines = Leaving(store, server), _Lines(show)
    deadline = time.monotonic() + timeout_seconds
    answered, sequence, reason = time.monotonic(), 0, ""
    found = Progress(ServerState.REGISTERED)
    while True:
        if reason:
            time.sleep(REPORT_SECONDS)
        try:
            if send is not None:
                sequence += 1
                send(sequence)
            if store.is_led():
                found = leaving.look(REPORT_SECONDS)
                if found.unused:
                    return
                answered, reason = time.monotonic(), ""
            else:
                reason = "no controller runs any more"
        except (StoreError, DocumentError) as error:
            reason = f"the store does not answer any more ({error})"
        now = time.monotonic()
        if now - answered >= OUTAGE_SECONDS:
            raise _refusal(reason)
        if now >= deadline:
            raise BrigadeError(
                f"after {timeout_seconds:g} s, still waiting: {found}; {server} goes on as before. "
                f"Look at lbctl servers on the controller, then try again. {COST}",
                ExitCode.TIMEOUT,
            )
        lines.print(f"waiting: {found}")


class _Lines:
    """Shows what is waited for: after 2 s, when it changes, and every 10 s."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._next = time.monotonic() + PRINT_SECONDS
        self._printed = ""
        self._remind_at = 0.0

    def print(self, line: str) -> None:
        now = time.monotonic()
        if now < self._next or (line == self._printed and now < self._remind_at):
            return
        self._show(line)
        self._printed, self._next, self._remind_at = line, now + PRINT_SECONDS, now + REMIND_SECONDS


def _refusal(reason: str) -> BrigadeError:
    return BrigadeError(
        f"{reason}, so this server cannot leave the tables of the others; it goes on as before. "
        f"Start the controller (lbctl control) and try again. {COST}",
        ExitCode.REFUSED,
    )
