"""What a rolling run prints for people: durations, the last line, how to go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.operator.rolling.facts import Phase, Turn
from controlplane.operator.rolling.run import Outcome
from controlplane.operator.rolling.session import undrain_text

MINUTE, HOUR = 60, 3600


def duration_text(seconds: float) -> str:
    """Return a duration: ``85 s``, ``41 min``, ``3 h 10 min``."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return f"{minutes} min" if seconds < 2 * HOUR else f"{minutes // 60} h {minutes % 60} min"


def summary(outcome: Outcome, seconds: float, *, resumed: bool = False) -> str:
    """Return the last line of a run that is complete.

    ``resumed``: nobody has watched the fleet between the run's parts.
    """
    count = len(outcome.turns)
    measured = "broken connections not measured"
    if outcome.broken is not None:
        measured = f"{outcome.broken} broken{' since it was resumed' if resumed else ''}"
    text = f"{count} server{'' if count == 1 else 's'}, {measured}, {duration_text(seconds)}"
    left = sum(turn.left or 0 for turn in outcome.turns)
    if left:
        text += f"; {left} connections were still open when their server's command began"
    return text


def stopped(outcome: Outcome, go_on: str) -> str:
    """Return, in one line, why a run stopped, how it leaves the fleet, and how to go on.

    ``go_on``: the command that resumes it.
    """
    turns = outcome.turns
    done = sum(turn.phase is Phase.DONE for turn in turns)
    waiting = sum(turn.phase is Phase.WAITING for turn in turns)
    states = "".join(f"{turn.name} {state_text(turn)}, " for turn in outcome.open_turns)
    choice = " --rerun (or --skip)" if needs_choice(outcome.open_turns) else ""
    text = f"{outcome.reason}. Now: {states}{done} done, {waiting} not begun. "
    text += f"To go on: {go_on}{choice}"
    drained = drained_names(outcome)
    return f"{text}; to end it: {undrain_text(drained)}" if drained else text


def drained_names(outcome: Outcome) -> list[str]:
    """Return the servers that a stopped run leaves drained."""
    return [turn.name for turn in outcome.open_turns if turn.phase is not Phase.JOINING]


def needs_choice(turns: Iterable[Turn]) -> bool:
    """Whether a command of these has failed or was not seen to end."""
    return any(turn.phase is Phase.COMMAND or turn.code for turn in turns)


def state_text(turn: Turn) -> str:
    """Return how far a server is, in words that follow its name."""
    match turn.phase:
        case Phase.DRAINING:
            return "is drained, its command has not begun"
        case Phase.COMMAND:
            return "is drained, its command has begun"
        case Phase.RETURNING:
            how = "failed" if turn.code else "has succeeded"
            return f"is drained, its command {how}"
        case Phase.JOINING:
            return "is back, and does not have its share yet"
    return f"is {turn.phase.value}"


def progress_line(turn: Turn, now: float) -> str:
    """Return the line of a server whose turn it is."""
    text = f": {turn.text}" if turn.text else ""
    return f"{turn.name} {turn.phase.value} {duration_text(now - turn.since)}{text}"


def begin_line(turns: Sequence[Turn]) -> str:
    """Return the order of a run."""
    return f"{len(turns)} servers: {' '.join(turn.name for turn in turns)}"
