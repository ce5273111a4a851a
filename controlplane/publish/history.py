"""Follows each change of a server to its end, and keeps it beside what was foreseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from controlplane.builder import BuildResult
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.history import MOST_EVENTS, Event, EventKind, Happened
from controlplane.domain.objects import IN_USE, SERVING, Cluster, ServerState
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import ConditionLog
from controlplane.store.contract import ControllerStore, StoreCorrupt, StoreError

NOT_WRITTEN = "what happened to servers is not stored: lbctl history lacks it"
WRITE_SECONDS = 5.0
"""How often counts of an event that goes on are stored. A restart loses as much, at most."""
STRAY_SECONDS = 5.0
"""How long strays are waited for after the last move: agents report them within seconds."""
LONGEST_SECONDS = 3600.0
"""An event that takes longer ends as it is."""


@dataclass(frozen=True)
class Moment:
    """What a round found and did.

    ``settled``: all documents are, but for agents that have been silent for long. ``strays``: open
    connections that no table leads to, on all servers. ``wall``: Unix seconds, for people.
    """

    cluster: Cluster
    requests: Mapping[str, DrainRequest]
    facts: Mapping[str, TableFacts]
    results: Iterable[BuildResult]
    settled: bool
    strays: int
    fleet_seconds: float
    wall: float


class HistoryKeeper:
    """The events of a fleet, over controllers. For one thread. Nothing waits for it."""

    def __init__(self, store: ControllerStore, conditions: ConditionLog) -> None:
        self._store = store
        self._conditions = conditions
        self._events: list[Event] | None = None
        self._states: dict[str, ServerState] | None = None
        self._write_at = 0.0
        self._written: tuple[Event, ...] = ()

    @property
    def events(self) -> list[Event]:
        """The newest events, the oldest first."""
        return self._events or []

    def follow(self, moment: Moment) -> None:
        """Take one round into account. A store that fails is logged."""
        if self._events is None and not self._begin():
            return
        events = self.events
        states = {server.name: server.state for server in moment.cluster.servers}
        begun = False
        for name, kind in _changes(self._states, states):
            events = [replace(one, over=True) if one.server == name else one for one in events]
            events.append(self._event(name, kind, moment))
            begun = True
        self._states = states
        counted = _counted(moment.results)
        self._events = [
            event if event.over else _after(event, counted, moment)
            for event in events[-MOST_EVENTS:]
        ]
        self._write(moment.fleet_seconds, at_once=begun)

    def _event(self, name: str, kind: EventKind, moment: Moment) -> Event:
        request = moment.requests.get(name) if kind is EventKind.DRAIN else None
        foreseen = None
        with suppress(StoreError):
            foreseen = self._store.take_foreseen(name)
        wanted = EventKind.UNDRAIN if kind is EventKind.JOIN else kind
        return Event(
            name,
            kind,
            moment.wall,
            moment.fleet_seconds,
            request.by if request else "",
            request.reason if request else "",
            foreseen if foreseen and foreseen.kind is wanted else None,
            # Nobody counts what goes with a server.
            Happened(lost=None if kind is EventKind.DOWN else 0),
            strays_before=moment.strays,
        )

    def _begin(self) -> bool:
        """Go on from what is stored; return whether it could be read. Damaged, it begins anew."""
        try:
            self._events = list(self._store.history())
        except StoreCorrupt as error:
            self._conditions.set(NOT_WRITTEN, "history", f"it begins anew: {error}")
            self._events = []
        except StoreError:
            return False
        self._written = tuple(self._events)
        return True

    def _write(self, now: float, *, at_once: bool) -> None:
        events = tuple(self.events)
        ended = [event.over for event in events] != [event.over for event in self._written]
        if events == self._written or not (at_once or ended or now >= self._write_at):
            return
        self._write_at = now + WRITE_SECONDS
        try:
            self._store.put_history(events)
        except StoreError as error:
            self._conditions.set(NOT_WRITTEN, "store", str(error))
        else:
            self._written = events
            self._conditions.set(NOT_WRITTEN, "store", None)


def _after(event: Event, counted: Happened, moment: Moment) -> Event:
    """Return an event after one more round: it counts until it has ended, then waits for strays."""
    now, before, ended = moment.fleet_seconds, event.happened, event.ended
    strays = max(before.strays, moment.strays - event.strays_before)
    happened = replace(before, strays=strays)
    if ended is None:
        unknown = before.lost is None or counted.lost is None
        happened = Happened(
            before.buckets + counted.buckets,
            before.forced + counted.forced,
            None if unknown else (before.lost or 0) + (counted.lost or 0),
            strays,
            max(0.0, now - event.began),
        )
        ended = now if _done(event, moment) else None
    quiet = ended is not None and now - ended >= STRAY_SECONDS
    over = quiet or now - event.began >= LONGEST_SECONDS
    return replace(event, happened=happened, ended=ended, over=over)


def _changes(
    before: Mapping[str, ServerState] | None, after: Mapping[str, ServerState]
) -> Iterable[tuple[str, EventKind]]:
    """Yield the servers to which something happened; in the first round, to none."""
    for name, state in after.items():
        old = state if before is None else before.get(name, ServerState.REGISTERED)
        if old in SERVING and state is ServerState.DRAINING:
            yield name, EventKind.DRAIN
        elif old is ServerState.DRAINING and state in SERVING:
            yield name, EventKind.UNDRAIN
        elif old not in IN_USE and state in SERVING:
            yield name, EventKind.JOIN
        elif old in SERVING and state not in IN_USE:
            yield name, EventKind.DOWN


def _done(event: Event, moment: Moment) -> bool:
    """Whether a server has given up, or has got, what the change is about."""
    server = moment.cluster.server(event.server)
    if server is None or not moment.settled:
        return server is None
    if event.kind in (EventKind.UNDRAIN, EventKind.JOIN):
        return server.state is not ServerState.JOINING
    return not any(server.index in facts.current for facts in moment.facts.values())


def _counted(results: Iterable[BuildResult]) -> Happened:
    """Return what the tables of one round did, of those that were published."""
    buckets = forced = 0
    lost: float | None = 0.0
    for result in results:
        if result.table is None:
            continue
        buckets, forced = buckets + result.moved, forced + result.forced
        if result.forced or result.forgotten:
            known = result.lost_connections
            lost = None if lost is None or known is None else lost + known
        if result.moved and result.table.depth == 1:  # nobody counts what a bucket loses there
            lost = None
    return Happened(buckets, forced, None if lost is None else round(lost))
