"""All that one agent watches, in the order of the looks, and what a pass may cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.domain.objects import Service
from lb.agent.attach.attachment import Attachment
from lb.agent.config import AgentConfig
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.facts import SharedFacts
from lb.agent.machine.undo_record import Journal
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.ready.announcer import Announcer
from lb.agent.vips.keeper import VipKeeper
from lb.agent.watch.addresses import WatchedAddresses
from lb.agent.watch.egress import WatchedEgress
from lb.agent.watch.files import WatchedFiles
from lb.agent.watch.interface import WatchedInterface
from lb.agent.watch.listeners import WatchedListeners
from lb.agent.watch.programs import PROGRAMS, WatchedPlane, WatchedPrograms
from lb.agent.watch.registry import Registry, Thing

REST = 10
"""After a pass there is none for so many times what it took: a tenth of a CPU, at most."""
LONGEST_REST_SECONDS = 1.0


@dataclass(frozen=True)
class Watched:
    """The parts of the agent whose effects are watched."""

    netlink: RouteSocket
    link: LinkInfo
    config: AgentConfig
    journal: Journal
    attachment: Attachment
    plane: WatchedPlane
    plane_lock: threading.Lock
    vips: VipKeeper
    in_use: DocumentsInUse
    announcer: Announcer
    facts: SharedFacts


class Watch:
    """Looks at everything, for the event loop. Begins once the programs are attached.

    ``link`` is the interface as it was in the last pass, ``None`` if it is gone or unfit.
    """

    def __init__(self, parts: Watched) -> None:
        self._parts = parts
        self._interface = WatchedInterface(parts.netlink, parts.config, parts.link)
        self._registry = Registry(self._things(), parts.facts)
        self._rest_until = 0.0

    @property
    def link(self) -> LinkInfo | None:
        """The interface, ``None`` if it cannot be used."""
        return self._interface.link

    def look(self) -> None:
        """Look, put back what can be put back, and update the facts.

        Raises:
            InterfaceReplacedError: everything has to begin anew.

        """
        now = time.monotonic()
        if now < self._rest_until:
            return
        began = time.thread_time()
        with self._parts.plane_lock:
            missing = self._registry.look(now)
        took = time.thread_time() - began
        detached = bool(PROGRAMS & set(missing))
        self._parts.facts.update(
            missing=missing, attached=not detached, detached=detached, watch_seconds=took
        )
        self._rest_until = time.monotonic() + min(LONGEST_REST_SECONDS, REST * took)

    def _things(self) -> Iterator[Thing]:
        parts = self._parts
        plane = parts.plane
        yield from self._interface.things()
        yield from WatchedAddresses(parts.config.interface, parts.journal, parts.vips).things()
        yield from WatchedPrograms(
            parts.netlink, parts.link, parts.config, parts.attachment, plane
        ).things()
        yield from WatchedEgress(
            parts.config,
            parts.attachment.egress,
            plane,
            lambda: parts.facts.current.answer_links,
        ).things()
        yield from WatchedFiles(parts.announcer, parts.journal).things()
        yield from WatchedListeners(
            lambda: _services(parts),
            lambda: parts.facts.current.checks,
            has_buckets=lambda pool: _has_buckets(parts, pool),
        ).things()


def _services(parts: Watched) -> Iterator[Service]:
    """Yield the services whose VIPs are up here."""
    cluster = parts.in_use.cluster
    up = frozenset(parts.facts.current.vips)
    yield from (s for s in cluster.services if s.vip in up) if cluster else ()


def _has_buckets(parts: Watched, pool: str) -> bool:
    """Whether this server is in chains of a pool's table in use."""
    steering = parts.facts.current.steering
    here = steering.pools.get(pool) if steering else None
    return here is not None and bool(here.leads.any())
