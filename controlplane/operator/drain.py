"""How far the drain of a server is, and waiting for its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlplane.decide.server_state import ServerView
from controlplane.decide.views import FleetView
from controlplane.documents.presence import Dump
from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.domain.names import guess
from controlplane.domain.objects import CLUSTER, SERVING, Cluster, Report, ServerState
from controlplane.domain.table_facts import TableFacts
from controlplane.observe.observer import Observer
from controlplane.operator.overview import decisions_of, keeping, keeps_text
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore

VERDICT_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class DrainProgress:
    """What still connects clients to a server.

    ``in_buckets``: in how many buckets of all pools its last dump of sockets found connections;
    ``None``: it does not report it.
    ``buckets``: how many it is current for, in all pools. ``waiting_for``: servers that have not
    taken the newest tables into use. ``connections``: on its VIPs; ``None``: no report yet. Of
    these, ``strays`` are cut off already: they end when the service or the kernel gives up.
    ``noted``: the controller has acted on the request, so the server gets no more buckets.
    """

    buckets: int
    waiting_for: tuple[str, ...]
    connections: int | None
    noted: bool = True
    over: bool = False
    """The server is down, stopped, or not in the cluster: nothing to wait for."""
    held: tuple[str, ...] = ()
    """Why the controller holds the drain back."""
    keeps: tuple[str, ...] = ()
    """Pools whose buckets it keeps, because no other server can take them."""
    in_buckets: int | None = None
    strays: int = 0

    @property
    def done(self) -> bool:
        """Whether it serves nobody."""
        return self.over or (
            self.noted and not self.buckets and not self.waiting_for and self.connections == 0
        )

    def __str__(self) -> str:
        connections = "an unknown number of" if self.connections is None else self.connections
        buckets = f"{self.buckets} buckets and " if self.buckets else ""
        text = f"has {buckets}{connections} connections"
        if self.connections and self.in_buckets is not None:
            text += f", in {self.in_buckets} buckets"
        if self.strays:
            text += f" ({self.strays} of them cut off already)"
        if self.held:
            text += f", its drain is held back: {'; '.join(self.held)}"
        elif not self.noted:
            text += ", the controller has not acted yet (does it run?)"
        if self.keeps:
            text += f", {keeps_text(self.keeps)}"
        if self.waiting_for:
            text += f", not using the newest table yet: {', '.join(self.waiting_for)}"
        return text


def known_server(config: ControlConfig, cluster: Cluster | None, name: str) -> None:
    """Raise ``UsageError`` unless the settings or the cluster know this server."""
    names = {server.name for server in config.server}
    names |= {server.name for server in cluster.servers} if cluster else set()
    if name not in names:
        raise UsageError(
            f"no server is called {name!r}; {guess(name, names)}there are: "
            f"{', '.join(sorted(names))}; the controller's settings add others, by [[server]]"
        )


def progress(
    name: str, facts: Mapping[str, TableFacts], generations: Mapping[str, int], fleet: FleetView
) -> DrainProgress:
    """Return how far a drain is. A table counts once it is settled, as for the controller."""
    if fleet.cluster is None:
        return DrainProgress(0, (), None, noted=False)
    server = fleet.cluster.server(name)
    if server is None or server.state is ServerState.DOWN:
        return DrainProgress(0, (), 0, over=True)
    waiting: set[str] = set()
    for kind, generation in generations.items():
        found = fleet.settlement(kind, generation)
        if kind != CLUSTER and not found.passable:
            waiting |= set(found.waiting_for)
    view, report = fleet.servers[name], fleet.reports.get(name)
    return DrainProgress(
        buckets=sum(table.current.get(server.index, 0) for table in facts.values()),
        waiting_for=tuple(sorted(waiting)),
        connections=_connections(view, report),
        strays=sum(one.count for one in report.strays) if report else 0,
        noted=server.state not in SERVING,
        over=view.stopped,
    )


def _connections(view: ServerView, report: Report | None) -> int | None:
    if not view.known:
        return 0
    return report.connections if report and view.heard else None


def occupied_buckets(dumps: Sequence[Dump]) -> int | None:
    """Return in how many buckets the last of these dumps found connections; ``None``: no dump."""
    if not dumps:
        return None
    return sum(int(np.count_nonzero(pool.occupied)) for pool in dumps[-1].pools.values())


def wait_drained(
    store: ControllerStore,
    config: ControlConfig,
    name: str,
    timeout_seconds: float | None,
    on_progress: Callable[[DrainProgress], None],
) -> DrainProgress:
    """Block until the server is current nowhere, settled, and reports no connection.

    ``on_progress`` is called in every round until then.

    Raises:
        BrigadeError: exit code 4, the timeout came first; the message names what was missing.
        StoreError: the store cannot be read.

    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    observer = Observer(store, config, None, time.monotonic())
    published = Published(store)
    while True:
        published.refresh()
        now = time.monotonic()
        fleet = observer.look(config, published.cluster, now)
        found = progress(name, published.facts, published.generations(), fleet)
        if found.done:
            return found
        decided = decisions_of(store)
        held = () if found.noted else decided.held.get(name, ())
        found = replace(
            found,
            held=held,
            keeps=tuple(keeping(name, decided)),
            in_buckets=occupied_buckets(observer.last_dumps(name)),
        )
        on_progress(found)
        if deadline is not None and now >= deadline:
            text = f"{name} still {found} after {timeout_seconds:g} s; its drain stays requested"
            if found.connections:
                text += (
                    f". On {name}, `ss -tun state connected` lists them, and `lbctl down --force` "
                    "ends them"
                )
            raise BrigadeError(text, ExitCode.TIMEOUT)
        pause = config.tick_seconds if deadline is None else deadline - now
        store.wait_reports(min(config.tick_seconds, pause))


def await_verdict(
    store: ControllerStore, name: str, timeout_seconds: float, *, force: bool
) -> tuple[str, ...] | None:
    """Wait until the controller has acted on a request to drain.

    Returns nothing (an empty tuple) if the drain goes ahead, the reasons if it is held back,
    ``None`` if neither was seen before the timeout. With ``force`` it is not held back: such
    decisions are about an earlier request. Raises ``StoreError``.
    """
    deadline = time.monotonic() + timeout_seconds
    published = Published(store)
    while True:
        published.refresh()
        server = published.cluster.server(name) if published.cluster else None
        if server is None or server.state not in SERVING:
            return ()
        held = None if force else decisions_of(store).held.get(name)
        if held:
            return held
        if time.monotonic() >= deadline:
            return None
        store.wait_reports(min(VERDICT_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
