"""What the agent knows about itself, shared by its threads: updated by many, read by all.

Reports, metrics and the status file are three views of the same facts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.documents.presence import Dump, Mark
from controlplane.domain.objects import (
    AskedFlow,
    FlowName,
    PathReport,
    Service,
    ServiceHealth,
    Vip,
)
from lb.led_here import Steering


@dataclass(frozen=True)
class PathFacts:
    """What the probes of the path to one peer have shown since the agent's start.

    ``reachable`` is ``None`` if none was answered yet. ``mtu`` is the path's if it is less than the
    interface's, in bytes.
    """

    probes: int
    losses: int
    reachable: bool | None
    mtu: int | None = None


@dataclass(frozen=True)
class PresenceFacts:
    """The newest dump of this server's sockets, as reports have it, and taken when (monotonic)."""

    dump: Dump
    body: Mapping[str, Any]
    body_bytes: int
    taken_at: float


@dataclass(frozen=True)
class Facts:
    """The facts of one moment. Times are Unix seconds; ``None`` is unknown or never.

    ``generations`` is what the data plane has in use, by document kind, and ``since`` from when.
    ``taken_at`` and ``heard_at`` are ``since`` and ``last_contact`` by the monotonic clock, for
    ages: the wall clock may be stepped.
    ``mss_overhead`` is by how many bytes the MSS of VIP connections is lowered, 0 if it is not;
    ``mss_of_all``: there are so many VIPs that all this host's connections are lowered.
    ``answer_links``: the interfaces by which answers to clients can leave.
    ``detached``: no program of ours, of this agent or of one before it, is attached: packets for
    this DIP are lost. ``refused_cluster`` is the generation of the newest cluster document if it
    was refused, else 0.
    ``xdp_tx_lost`` is how many forwarded frames the driver has dropped or held back, ``None`` if it
    does not count them.
    ``reloads`` counts SIGHUPs by result; ``settings_accepted``: the file was accepted when it was
    last read; ``settings_last_good``: the last good settings are in use, not the file;
    ``restart_needed`` is how many changed keys need a restart.
    ``paths`` is by peer; ``path_report`` is ``None`` until the first probes are sent.
    ``certificates`` is when those in use end, by the key that names their file.
    ``missing`` names what this server cannot do without and does not have now; ``repairs`` counts
    what was put back, by its name. ``watch_seconds`` is the CPU time of the last look at it all.
    ``misnamed``: the controller knows this server's name with another DIP; ``twin``: the store
    refuses this machine, because the name belongs to another one. ``listed_dip``: the DIP that the
    controller knows this name by, if it is another machine's; ``state`` is that machine's.
    ``leaving``: `lbctl down` waits until no table names this server; ``withdrawing``: it needs the
    routes withdrawn.
    ``steering`` is by what connections are sorted into pools and buckets, ``None`` until the
    programs are attached. ``connections`` are open ones on VIPs. ``strays`` counts those that no
    table leads to now, by pool and cause, ``strays_total`` all since the start.
    ``asked``: flows that the controller asks all servers for, because another one had no socket for
    them; ``held``: those that this server has, and ``held_total`` how many since the start.
    ``orphans_total`` counts flows whose segments arrived and had nowhere to go, by pool and kind.
    ``dump_seconds`` is the CPU time of the last dump of the sockets.
    ``mark``: the newest mark that the controller has given this agent.
    ``troubles`` has one line a topic, for people. ``source`` is where the documents came from.
    """

    started_at: float
    ready: bool = False
    attached: bool = False
    detached: bool = False
    missing: tuple[str, ...] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    watch_seconds: float = 0.0
    xdp_mode: str = ""
    state: str = ""
    source: str = ""
    generations: Mapping[str, int] = field(default_factory=dict)
    since: Mapping[str, float] = field(default_factory=dict)
    taken_at: Mapping[str, float] = field(default_factory=dict)
    vips: tuple[Vip, ...] = ()
    services: tuple[Service, ...] = ()
    last_contact: float | None = None
    heard_at: float | None = None
    load: float | None = None
    connections: int = 0
    steering: Steering | None = field(default=None, repr=False)
    presence: PresenceFacts | None = None
    strays: Mapping[tuple[str, str], int] = field(default_factory=dict)
    strays_total: Mapping[tuple[str, str], int] = field(default_factory=dict)
    asked: frozenset[AskedFlow] = frozenset()
    held: tuple[FlowName, ...] = ()
    held_total: int = 0
    orphans_total: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dump_seconds: float = 0.0
    mark: Mark | None = None
    checks: Mapping[str, ServiceHealth] = field(default_factory=dict)
    neighbours_unresolved: int = 0
    xdp_tx_lost: int | None = None
    load_seconds: float = 0.0
    mss_overhead: int = 0
    mss_of_all: bool = False
    answer_links: tuple[str, ...] = ()
    troubles: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    refused_cluster: int = 0
    hooks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    reloads: Mapping[str, int] = field(default_factory=lambda: {"ok": 0, "refused": 0})
    settings_accepted: bool = True
    settings_last_good: bool = False
    settings_read_at: float | None = None
    restart_needed: int = 0
    certificates: Mapping[str, float] = field(default_factory=dict)
    paths: Mapping[str, PathFacts] = field(default_factory=dict)
    path_report: PathReport | None = None
    misnamed: bool = False
    listed_dip: str = ""
    twin: bool = False
    leaving: bool = False
    withdrawing: bool = False


class SharedFacts:
    """Owner of the facts; every method may be called from any thread."""

    def __init__(self, started_at: float) -> None:
        self._lock = threading.Lock()
        self._facts = Facts(started_at)

    @property
    def own_name(self) -> bool:
        """Whether nothing shows that this server's name belongs to another machine."""
        return not self._facts.misnamed and not self._facts.twin

    @property
    def current(self) -> Facts:
        """The facts as they are now."""
        return self._facts

    def update(self, **changes: Any) -> None:
        """Replace facts."""
        with self._lock:
            self._facts = replace(self._facts, **changes)

    def set_trouble(self, topic: str, line: str | None) -> None:
        """Note that something is wrong, or (``None``) is not any more."""
        with self._lock:
            troubles = {k: v for k, v in self._facts.troubles.items() if k != topic}
            if line is not None:
                troubles[topic] = line
            self._facts = replace(self._facts, troubles=troubles)

    def count_refused(self, kind: str, reason: str) -> None:
        """Count a refused document."""
        with self._lock:
            refused = _counted(self._facts.refused, (kind, reason))
            self._facts = replace(self._facts, refused=refused)

    def count_hook(self, hook: str, result: str) -> None:
        """Count a hook's run, ``ok`` or ``failed``."""
        with self._lock:
            self._facts = replace(self._facts, hooks=_counted(self._facts.hooks, (hook, result)))

    def begin_repairs(self, names: Iterable[str]) -> None:
        """Begin to count repairs of these, from zero."""
        with self._lock:
            repairs = {**dict.fromkeys(names, 0), **self._facts.repairs}
            self._facts = replace(self._facts, repairs=repairs)

    def count_repair(self, what: str) -> None:
        """Count that something was put back."""
        with self._lock:
            repairs = {**self._facts.repairs, what: self._facts.repairs.get(what, 0) + 1}
            self._facts = replace(self._facts, repairs=repairs)

    def count_reload(self, result: str) -> None:
        """Count a reload of the settings, ``ok`` or ``refused``."""
        with self._lock:
            reloads = {**self._facts.reloads, result: self._facts.reloads.get(result, 0) + 1}
            self._facts = replace(self._facts, reloads=reloads)


def _counted(
    counts: Mapping[tuple[str, str], int], name: tuple[str, str]
) -> Mapping[tuple[str, str], int]:
    return {**counts, name: counts.get(name, 0) + 1}
