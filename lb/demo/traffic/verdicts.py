"""When a connection counts as broken: pure state machines, fed with events and times.

Broken is a connection that was reset or refused, got wrong content, or made no progress for
`PATIENCE_SECONDS` while data was due; an idle one that does not answer when spoken to at the end;
a UDP flow that is answered by another server than before, or not for `PATIENCE_SECONDS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

PATIENCE_SECONDS = 5.0
"""TCP's backoff turns an outage of 2 s into 3.1 s of silence; this leaves room for it."""


class Outcome(str, Enum):
    """How a flow fared."""

    GOOD = "good"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed early"
    SILENT = "no progress"
    WRONG_CONTENT = "wrong content"
    OTHER_SERVER = "answered by another server"


@dataclass
class Patience:
    """Waits for data that is due, and no longer than is fair."""

    limit_seconds: float = PATIENCE_SECONDS
    _since: float | None = None

    @property
    def waiting(self) -> bool:
        """Whether data is due."""
        return self._since is not None

    def due(self, now: float) -> None:
        """Data is due from now on, if it was not already."""
        if self._since is None:
            self._since = now

    def progress(self, now: float) -> None:
        """Some data came; more is due."""
        self._since = now

    def done(self) -> None:
        """Nothing is due any more."""
        self._since = None

    def is_over(self, now: float) -> bool:
        """Say whether nothing came for too long."""
        return self._since is not None and now - self._since > self.limit_seconds


@dataclass
class UdpVerdict:
    """Judges a UDP flow, which asks all the time: an answer is always due."""

    server: str = ""
    outcome: Outcome = Outcome.GOOD
    answers: int = 0
    _patience: Patience = field(default_factory=Patience)

    def asked(self, now: float) -> None:
        """Note that a query was sent."""
        self._patience.due(now)
        self.tick(now)

    def answered(self, server: str, now: float) -> None:
        """Note that this server answered."""
        self.tick(now)
        self.answers += 1
        self._patience.progress(now)
        if not self.server:
            self.server = server
        elif server != self.server and self.outcome is Outcome.GOOD:
            self.outcome = Outcome.OTHER_SERVER

    def garbled(self) -> None:
        """Note an answer to something that was not asked."""
        if self.outcome is Outcome.GOOD:
            self.outcome = Outcome.WRONG_CONTENT

    def tick(self, now: float) -> None:
        """See whether the flow has been silent for too long."""
        if self.outcome is Outcome.GOOD and self._patience.is_over(now):
            self.outcome = Outcome.SILENT


def max_over_mean(values: list[float]) -> float:
    """Return the largest value over the mean of all; 1.0 is perfect balance.

    Raises:
        ValueError: there are no values, or nothing but zeros.

    """
    if not values or sum(values) <= 0:
        raise ValueError("no utilisation was measured")
    return max(values) / (sum(values) / len(values))


SPREAD_DEVIATIONS = 4.0


def deviations(count: int, total: int, share: float) -> float:
    """Return by how many standard deviations a binomial count is off its expectation.

    `total` connections chose independently, each this server with probability `share`. A share
    of 0 or 1 leaves no room for chance: 0.0 if the count is right, infinity otherwise.
    """
    expected = total * share
    variance = expected * (1.0 - share)
    if variance <= 0:
        return 0.0 if count == round(expected) else float("inf")
    return float(abs(count - expected) / variance**0.5)
