"""The list of watched things, and one pass over it: look, put back, report.

A thing that is not as it has to be is put back, which is logged and counted. One that cannot be is
reported as a trouble with a remedy. If the server cannot do without it, it is not fit for traffic:
its routes are withdrawn, and nothing else is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from controlplane.domain.errors import BrigadeError
from lb.agent.facts import SharedFacts
from lb.agent.watch.history import BURST, PACE_SECONDS, WINDOW_SECONDS, History

UNKNOWN_LOOKS = 3
"""So many looks in a row may fail before a thing counts as missing: netlink may lose an answer."""


class InterfaceReplacedError(BrigadeError):
    """There is another interface of our name: everything has to begin anew."""


@dataclass(frozen=True)
class Drift:
    """How a thing differs from what it has to be, and what a person can do.

    ``repairable``: the agent may put it back itself.
    """

    line: str
    remedy: str = ""
    repairable: bool = True


@dataclass(frozen=True)
class Thing:
    """A watched thing. ``look`` returns ``None`` if all is well. ``OSError``: it cannot look.

    ``essential``: without it the server must not get traffic. ``rivals`` names programs that are
    known to change it. ``patience_seconds`` is for how long it may be missing.
    """

    what: str
    look: Callable[[], Drift | None]
    repair: Callable[[], None] | None = None
    essential: bool = True
    rivals: str = "another program"
    patience_seconds: float = 0.0


class Registry:
    """Owner of the things and of what was seen of each. For one thread."""

    def __init__(self, things: Iterable[Thing], facts: SharedFacts) -> None:
        self._things = tuple(things)
        self._facts = facts
        self._histories = {t.what: History(t.patience_seconds) for t in self._things}
        self._unknown = dict.fromkeys(self._histories, 0)
        self._log = structlog.get_logger()
        facts.begin_repairs(thing.what for thing in self._things if thing.repair)

    def look(self, now: float) -> tuple[str, ...]:
        """Look at all things, put back what is missing; return which essential ones are broken.

        Raises:
            InterfaceReplacedError: everything has to begin anew.

        """
        for thing in self._things:
            self._pass(thing, now)
        return tuple(
            thing.what
            for thing in self._things
            if thing.essential and self._histories[thing.what].broken
        )

    def _pass(self, thing: Thing, now: float) -> None:
        history = self._histories[thing.what]
        try:
            drift = thing.look()
            if drift is not None and drift.repairable and thing.repair is not None:
                drift = self._put_back(thing, thing.repair, drift, now)
            self._unknown[thing.what] = 0
        except InterfaceReplacedError:
            raise
        except (OSError, BrigadeError) as error:
            self._unknown[thing.what] += 1
            if self._unknown[thing.what] < UNKNOWN_LOOKS:
                return
            drift = Drift(f"cannot look at it: {error}", repairable=False)
        was_broken = history.broken
        history.observe(now, fine=drift is None)
        self._report(thing, drift, history, now, was_broken=was_broken)

    def _put_back(
        self, thing: Thing, repair: Callable[[], None], drift: Drift, now: float
    ) -> Drift | None:
        """Put a thing back, if it may be tried now; return how it still differs."""
        history = self._histories[thing.what]
        if not history.may_repair(now):
            return drift
        reason = ""
        left: Drift | None = drift
        try:
            repair()
            left = thing.look()
        except InterfaceReplacedError:
            raise
        except (OSError, BrigadeError) as error:
            reason = f": {error}"
        history.note_repair(now, done=left is None)
        if left is None:
            self._facts.count_repair(thing.what)
            self._log.warning("put back", about=thing.what, detail=drift.line)
            return None
        self._log.error("cannot be put back", about=thing.what, detail=f"{left.line}{reason}")
        return Drift(f"{left.line}{reason}", left.remedy)

    def _report(
        self, thing: Thing, drift: Drift | None, history: History, now: float, *, was_broken: bool
    ) -> None:
        """Set or clear the trouble of a thing; log when it breaks, and when it is back."""
        if history.broken and not was_broken:
            self._log.error(
                "missing" if thing.essential else "not as it has to be",
                about=thing.what,
                detail=drift.line if drift else "",
                remedy=drift.remedy if drift else "",
            )
        elif was_broken and not history.broken:
            self._log.info("in place again", about=thing.what)
        self._facts.set_trouble(f"watch {thing.what}", trouble_of(thing, drift, history, now))


def trouble_of(thing: Thing, drift: Drift | None, history: History, now: float) -> str | None:
    """Return the line for people about a thing, ``None`` if there is nothing to report."""
    contested = (
        f"{thing.what}: changed {history.repairs(now)} times within {WINDOW_SECONDS:.0f} s by "
        f"{thing.rivals}; the agent puts it back, after {BURST} times only every "
        f"{PACE_SECONDS:.0f} s: find what changes it, and stop that"
    )
    if drift is not None and history.broken:
        if history.is_contested(now):
            return contested
        line = f"{thing.what}: {drift.line}{'; ' if drift.remedy else ''}{drift.remedy}"
        return f"{line}; this server is withdrawn until then" if thing.essential else line
    if history.is_contested(now):
        return contested
    if history.broken:
        return f"{thing.what}: in place again; ready once it stays so for some seconds"
    return None
