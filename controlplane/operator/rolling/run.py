"""The rolling run itself: turns of servers, one or some at once. It has no clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import SERVING
from controlplane.operator.rolling import journal
from controlplane.operator.rolling.facts import FleetFacts, Limits, Phase, ServerFacts, Turn
from controlplane.operator.rolling.journal import Journal
from controlplane.operator.rolling.judge import Answer, Verdict, drained, joined, returned
from controlplane.operator.rolling.watch import Watch

POLL_SECONDS = 0.25
GUARD_SECONDS = 2.0
"""How often the guards are asked again that refuse a drain."""
CAPACITY_SECONDS = 10.0
"""How long a pool may lack capacity before the run stops: the server before may just be back."""
MOST_HELD = 3
"""How often the controller may hold back a drain that the guards here allowed."""


class Guard(NamedTuple):
    """Why a drain is not allowed: a pool would lack servers; chains are full for now."""

    lacking: tuple[str, ...] = ()
    full: tuple[str, ...] = ()


class CommandEnd(IntEnum):
    """Exit codes of a command that did not end by itself, as shells have them."""

    TIMEOUT = 124
    NOT_STARTED = 127


def failure(code: int) -> str:
    """Return how a command failed."""
    if code == CommandEnd.TIMEOUT:
        return "the command did not end in time, and was ended"
    if code < 0:
        return f"the command was ended by signal {-code}"
    return f"the command failed with exit code {code}"


class World(Protocol):
    """What a run observes and changes. Raises ``BrigadeError`` where it cannot."""

    def look(self) -> FleetFacts:
        """Return the facts of now."""

    def guard(self, server: str) -> Guard:
        """Return why a server's drain would be refused."""

    def request(self, server: str) -> DrainRequest:
        """Return a request to drain this server, made now; nobody has it yet."""

    def drain(self, server: str, request: DrainRequest) -> None:
        """Request a drain."""

    def undrain(self, server: str, request: DrainRequest | None) -> None:
        """Cancel this request, and no other one."""

    def start(self, turn: Turn) -> None:
        """Start the command for a server."""

    def ended(self, server: str) -> int | None:
        """Return the exit code of a server's command, ``None`` while it runs."""

    def probe(self, server: str) -> str | None:
        """Probe a server through the tunnel: see ``Turn.probed``; asked again and again."""

    def wait(self, seconds: float) -> None:
        """Wait."""


class Stop(Exception):
    """Why a run stops."""

    def __init__(self, reason: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


@dataclass
class Outcome:
    """How a run ended. ``reason``: empty if all servers are done."""

    turns: Sequence[Turn]
    seconds: float
    reason: str = ""
    exit_code: int = 0
    broken: int | None = None
    forced: int = 0

    @property
    def open_turns(self) -> list[Turn]:
        """The servers whose turn is not over."""
        return [turn for turn in self.turns if turn.phase not in (Phase.WAITING, Phase.DONE)]


@dataclass
class Run:
    """One run. ``on_event`` gets each event of the journal, ``on_progress`` all turns, each round.

    ``interrupted``: set it to end after the commands that run now.
    """

    turns: Sequence[Turn]
    world: World
    journal: Journal
    clock: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    at_once: int = 1
    on_event: Callable[[dict[str, Any]], None] = lambda _: None
    on_progress: Callable[[Sequence[Turn]], None] = lambda _: None
    watch: Watch = field(default_factory=Watch)
    interrupted: bool = False

    def run(self) -> Outcome:
        """Give every server its turn. Returns also if it stops before that."""
        begun = self.clock()
        outcome = Outcome(self.turns, 0.0)
        try:
            self._all()
        except Stop as stop:
            outcome.reason, outcome.exit_code = str(stop), stop.exit_code
        except BrigadeError as error:
            outcome.reason, outcome.exit_code = str(error), error.exit_code
        if self.watch.measured([turn.name for turn in self.turns]):
            strays, proved = self.watch.strays.grown, self.watch.proved.grown
            outcome.broken = max(sum(strays.values()), sum(proved.values()))
        outcome.forced = sum(self.watch.forced.grown.values())
        outcome.seconds = self.clock() - begun
        values = {"seconds": round(outcome.seconds, 1), "broken": outcome.broken}
        try:
            if outcome.reason:
                self._note(journal.STOPPED, reason=outcome.reason, **values)
            else:
                self._note(journal.END, servers=len(self.turns), **values)
        except BrigadeError as error:  # the state of the fleet is reported all the same
            outcome.reason = outcome.reason or str(error)
            outcome.exit_code = outcome.exit_code or error.exit_code
        return outcome

    def _all(self) -> None:
        facts = self.world.look()
        self.watch.begin(facts)
        while any(turn.phase is not Phase.DONE for turn in self.turns):
            facts = self.world.look()
            try:
                self._round(facts)
            except (Stop, BrigadeError):
                self._await_commands()
                raise
            self.on_progress(self.turns)
            self.world.wait(POLL_SECONDS)

    def _round(self, facts: FleetFacts) -> None:
        if self.interrupted:
            raise Stop("interrupted", ExitCode.INTERRUPTED)
        working = [t.name for t in self.turns if t.phase not in (Phase.WAITING, Phase.DONE)]
        if reason := self.watch.observe(facts, working, self.clock()):
            raise Stop(reason)
        for turn in self.turns:
            if turn.phase not in (Phase.WAITING, Phase.DONE):
                self._advance(turn, facts)
        self._begin_next(facts)

    def _advance(self, turn: Turn, facts: FleetFacts) -> None:
        now, found = self.clock(), facts.servers.get(turn.name, ServerFacts(None))
        match turn.phase:
            case Phase.DRAINING:
                if found.held and found.request == turn.request and found.state in SERVING:
                    self._held_back(turn, found)
                elif self._may(turn, drained(turn, found, now, self.limits)):
                    self._start_command(turn, found)
            case Phase.COMMAND:
                if (code := self.world.ended(turn.name)) is not None:
                    self._end_command(turn, code)
            case Phase.RETURNING:
                self._observe(turn, found, now)
                if self._may(turn, returned(turn, found, now, self.limits)):
                    self._note(journal.UNDRAIN, server=turn.name)
                    self.world.undrain(turn.name, turn.request)
                    turn.enter(Phase.JOINING, now)
            case Phase.JOINING:
                self._observe(turn, found, now)
                if self._may(turn, joined(turn, found, facts, now, self.limits)):
                    turn.enter(Phase.DONE, now)
                    self._note(journal.DONE, server=turn.name)

    def _observe(self, turn: Turn, found: ServerFacts, now: float) -> None:
        turn.observe(found, now)
        if turn.probed != "":
            turn.probed = self.world.probe(turn.name)

    def _may(self, turn: Turn, verdict: Verdict) -> bool:
        """Return whether a turn goes on. Raises ``Stop``."""
        turn.text = verdict.text
        if verdict.answer is Answer.STOP:
            raise Stop(verdict.text, verdict.exit_code)
        return verdict.answer is Answer.GO

    def _begin_next(self, facts: FleetFacts) -> None:
        """Drain the next servers, if the guards allow it; else wait for what ends by itself."""
        for turn in self.turns:
            working = [t for t in self.turns if t.phase not in (Phase.WAITING, Phase.DONE)]
            if len(working) >= self.at_once:
                return
            if turn.phase is Phase.WAITING and not self._drain(turn, facts):
                return

    def _drain(self, turn: Turn, facts: FleetFacts) -> bool:
        """Request a server's drain; return whether it was requested. Raises ``Stop``."""
        now = self.clock()
        if not turn.text:
            turn.since = now
        elif now < turn.since + GUARD_SECONDS * turn.refusals:
            return False  # the facts may still have the request that was cancelled
        found = facts.servers.get(turn.name, ServerFacts(None))
        if found.request is not None:
            raise Stop(f"{turn.name} is drained by somebody else: leave it out by --servers")
        if found.state not in SERVING:
            raise Stop(f"{turn.name} is {found.state or 'not in the cluster any more'}")
        guard = self.world.guard(turn.name)
        if guard.lacking or guard.full:
            self._await_guard(turn, guard, now)
            return False
        turn.request = self.world.request(turn.name)
        self._note(journal.DRAIN, server=turn.name, request=journal.request_of(turn.request))
        self.world.drain(turn.name, turn.request)
        turn.enter(Phase.DRAINING, now)
        return True

    def _await_guard(self, turn: Turn, guard: Guard, now: float) -> None:
        turn.text = "; ".join([*guard.lacking, *guard.full])
        turn.refusals += 1
        seconds = CAPACITY_SECONDS if guard.lacking else self.limits.share_seconds
        if now - turn.since >= seconds:
            raise Stop(f"{turn.name} is not drained: {turn.text}", ExitCode.REFUSED)

    def _held_back(self, turn: Turn, found: ServerFacts) -> None:
        """Cancel a drain that the controller holds back: it must not begin when nobody looks.

        The guards are asked again then: their numbers here may have been older than its own.
        """
        self._note(journal.HELD, server=turn.name, reasons=list(found.held))
        self.world.undrain(turn.name, turn.request)
        turn.enter(Phase.WAITING, self.clock())
        turn.text, turn.request = "; ".join(found.held), None
        turn.refusals += 1
        turn.held += 1
        if turn.held >= MOST_HELD:
            raise Stop(f"{turn.name} is not drained: {turn.text}", ExitCode.REFUSED)

    def _start_command(self, turn: Turn, found: ServerFacts) -> None:
        turn.before, turn.left = found.mark, found.drain.connections
        values = {"connections": turn.left, "report": list(turn.before)}
        self._note(journal.COMMAND, server=turn.name, **values)
        self.world.start(turn)
        turn.enter(Phase.COMMAND, self.clock())

    def _end_command(self, turn: Turn, code: int) -> None:
        # After its end: what was reported until now may be from before.
        found = self.world.look().servers.get(turn.name, ServerFacts(None))
        seconds = round(self.clock() - turn.since, 1)
        self._note(
            journal.ENDED, server=turn.name, code=code, seconds=seconds, report=list(found.mark)
        )
        turn.code = code
        turn.command_ended(self.clock(), found.mark)
        if code:
            raise Stop(f"{turn.name}: {failure(code)}")

    def _await_commands(self) -> None:
        """Wait for the commands that run, so that the journal has how they ended."""
        while running := [turn for turn in self.turns if turn.phase is Phase.COMMAND]:
            for turn in running:
                if (code := self.world.ended(turn.name)) is not None:
                    with suppress(Stop):  # it stops already
                        self._end_command(turn, code)
            self.on_progress(self.turns)
            self.world.wait(POLL_SECONDS)

    def _note(self, event: str, **values: Any) -> None:
        self.on_event(self.journal.write(event, **values))
