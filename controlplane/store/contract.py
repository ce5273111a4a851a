"""The store contract, in three parts: controllers, agents, operators (docs/stores.md).

Every implementation passes ``tests/unit/controlplane/store``. Documents travel as the bytes that
``controlplane.documents`` encodes: a store neither understands nor changes them, it only knows
their kind (``cluster``, ``table/<pool>`` or ``controller``) and generation.

Errors: ``StoreUnavailable`` when the store cannot be reached now (worth a retry),
``StoreConflict`` when a compare-and-set lost, ``StoreDenied`` for a refused credential,
``StoreCorrupt`` for content that a retry does not repair. No other error leaves a store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import Origin

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from controlplane.documents.presence import Mark
    from controlplane.domain.decisions import Decisions
    from controlplane.domain.history import Event, Foreseen
    from controlplane.domain.objects import AskedFlow, Report, Twin
    from controlplane.domain.seen_dumps import SeenDump

NOBODY = Origin()
"""The origin of what an older agent sends."""

MOST_UNKNOWN = 256
"""Names that no cluster document has, under which somebody reports or acknowledges."""
UNKNOWN_REQUEST = DrainRequest()


class StoreError(BrigadeError):
    """Base of all store failures."""


class StoreUnavailable(StoreError):
    """The store cannot be reached now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.UNAVAILABLE)


class StoreConflict(StoreError):
    """A compare-and-set lost: someone else published first."""


class StoreDenied(StoreError):
    """The store refused the credential."""


class StoreCorrupt(StoreError):
    """The store holds something invalid."""


@dataclass(frozen=True)
class Version:
    """One published document: its kind, generation and encoded bytes."""

    kind: str
    generation: int
    data: bytes


def is_newer(kinds: Mapping[str, int], seen: Mapping[str, int]) -> bool:
    """Return whether some kind is newer in ``kinds`` than in ``seen``, where 0 is never seen."""
    return any(generation > seen.get(kind, 0) for kind, generation in kinds.items())


class AgentStore(ABC):
    """What an agent may do: read and follow documents, acknowledge, report.

    ``mark``: the newest mark of the leading controller that came with the answer to a report;
    ``None``: none yet (docs/adr/0015). ``asked``: the flows that the controller asked for with that
    answer (docs/adr/0017).
    """

    mark: Mark | None = None
    asked: frozenset[AskedFlow] = frozenset()

    @abstractmethod
    def latest(self, kind: str) -> Version | None:
        """Return the newest document of this kind, ``None`` if there never was one."""

    @abstractmethod
    def kinds(self) -> Mapping[str, int]:
        """Return every published kind with its newest generation.

        Without ``controller``: it changes every few seconds, and agents do not act on it.
        """

    @abstractmethod
    def wait(self, seen: Mapping[str, int], timeout_seconds: float) -> Mapping[str, int]:
        """Block until some kind is newer than in ``seen`` (0: never seen), or the timeout.

        Notification or long poll, never a poll at the tick: a change is noticed within 50 ms on
        one machine. Returns ``kinds()`` as of then, also after a timeout. Raises
        ``StoreUnavailable`` when the store is closed meanwhile.
        """

    @abstractmethod
    def key(self, key_id: str) -> bytes:
        """Return a pool's secret key (16 bytes). ``StoreCorrupt`` if there is none."""

    @abstractmethod
    def acknowledge(self, server: str, kind: str, generation: int, origin: Origin = NOBODY) -> None:
        """Record that this server's data plane has this generation in use.

        ``StoreConflict`` if the name is another machine's than ``origin``.

        Repeating it is cheap, and agents should do so now and then: documents and keys survive a
        power cut on the store's machine, the last acknowledgements may not.
        """

    @abstractmethod
    def report(self, report: Report) -> None:
        """Replace this server's report. ``StoreConflict`` if the name is another machine's.

        The name belongs to the machine with the DIP that the controller knows (``know_dips``). Of
        two with this DIP it belongs to the first one, until that is silent or has stopped.
        """

    @abstractmethod
    def is_led(self) -> bool:
        """Return whether a controller leads: what the store has is then its word of now.

        An ``http:`` store is served by the leading controller, so its answer is enough.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the store holds open."""


class OperatorStore(ABC):
    """What an operator may do: request a drain, and keep what its plan contains."""

    @abstractmethod
    def request_drain(
        self, server: str, *, requested: bool, request: DrainRequest = UNKNOWN_REQUEST
    ) -> None:
        """Set or clear the request to drain this server. It outlives controllers.

        ``request`` has who requests it, when and why; a repetition replaces it.
        """

    @abstractmethod
    def drain_requests(self) -> Mapping[str, DrainRequest]:
        """Return the servers whose drain is requested, each with its request."""

    @abstractmethod
    def put_foreseen(self, server: str, foreseen: Foreseen) -> None:
        """Keep what the plan of a change contains that is requested next. Not durable."""


class ControllerStore(AgentStore, OperatorStore):
    """What a controller may do, beside reading: publish, hold leadership, read the fleet."""

    @abstractmethod
    def publish(self, version: Version) -> None:
        """Publish ``version.generation`` if the newest of its kind is exactly one less.

        The compare-and-set: ``StoreConflict`` otherwise, and nothing is changed. Whole or not at
        all, also when the machine stops in the middle. After ``StoreUnavailable`` it may have
        happened or not (the answer may be what was lost): read ``latest`` before the next attempt.
        """

    @abstractmethod
    def seed(self, version: Version) -> None:
        """Put a document of any generation into a store that has none of its kind."""

    @abstractmethod
    def put_key(self, key_id: str, key: bytes) -> None:
        """Create a key. ``StoreConflict`` if the id is taken by other bytes."""

    @abstractmethod
    def acknowledgements(
        self, servers: Collection[str] | None = None
    ) -> Mapping[str, Mapping[str, int]]:
        """Return, for each server that ever acknowledged, kind -> generation.

        ``servers``: read only those of these.
        """

    @abstractmethod
    def names(self) -> Collection[str]:
        """Return the names under which somebody ever reported or acknowledged.

        Anybody with the token can invent names. At most ``MOST_UNKNOWN`` that ``know_dips`` does
        not have are stored; others get ``StoreDenied``.
        """

    @abstractmethod
    def know_dips(self, dips: Mapping[str, str]) -> None:
        """Set the DIPs of the servers: reports and acknowledgements of others are refused."""

    @abstractmethod
    def twins(self) -> Mapping[str, Twin]:
        """Return the newest refused machine of every name that two machines claim."""

    @abstractmethod
    def forget_twin(self, server: str) -> None:
        """Forget the machine that was refused under this name."""

    @abstractmethod
    def reports(self, servers: Collection[str] | None = None) -> Mapping[str, Report]:
        """Return the newest report of every server that ever reported.

        ``servers``: read only those of these.
        """

    @abstractmethod
    def wait_reports(self, timeout_seconds: float) -> None:
        """Block until a report, an acknowledgement or a drain request changes, or the timeout.

        What changed since the last call returned counts, so nothing falls between two calls; the
        first call counts from its own beginning.
        """

    @abstractmethod
    def put_decisions(self, decisions: Decisions) -> None:
        """Replace what the controller decided last, for people. Not durable."""

    @abstractmethod
    def decisions(self) -> Decisions | None:
        """Return what a controller decided last, ``None`` if none ever wrote it."""

    @abstractmethod
    def take_foreseen(self, server: str) -> Foreseen | None:
        """Return and forget what is foreseen of a server's change; ``None``: nothing."""

    @abstractmethod
    def put_history(self, events: Sequence[Event]) -> None:
        """Replace what happened to servers, for people. Not durable."""

    @abstractmethod
    def history(self) -> tuple[Event, ...]:
        """Return what happened to servers, the oldest first."""

    @abstractmethod
    def put_dumps(self, dumps: Mapping[str, SeenDump]) -> None:
        """Replace the last dumps of servers' sockets, for plans. Not durable."""

    @abstractmethod
    def dumps(self) -> Mapping[str, SeenDump]:
        """Return the last dumps of servers' sockets, as far as a controller has seen any."""

    @abstractmethod
    def put_mark(self, mark: Mark) -> None:
        """Give out a mark: every report that is answered from now on has it. Not durable."""

    @abstractmethod
    def put_asked(self, asked: Collection[AskedFlow]) -> None:
        """Ask for these flows in every answer to a report from now on. Not durable."""

    @abstractmethod
    def forget(self, server: str) -> None:
        """Drop a removed server's acknowledgements, report and drain request."""

    @abstractmethod
    def leader(self) -> str | None:
        """Return who holds leadership, ``None`` if nobody does."""

    @abstractmethod
    def lead(self, owner: str) -> AbstractContextManager[None]:
        """Hold leadership for the context's life; ``StoreConflict`` names the holder if taken."""
