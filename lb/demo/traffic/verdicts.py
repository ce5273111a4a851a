"""When a connection counts as broken: pure state machines, fed with events and times.

A TCP connection is broken if it was reset or refused, received wrong content, or made no progress
for `PATIENCE_SECONDS` while data was due; an idle one also if it cannot be used again at the end. A
UDP flow is broken if another server answers than before, or nobody for `PATIENCE_SECONDS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

PATIENCE_SECONDS = 5.0
"""With the backoff of TCP, an outage of 2 s becomes a pause of 3.1 s; this is longer."""


class Outcome(StrEnum):
    """The outcome of a flow."""

    GOOD = "good"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed early"
    SILENT = "no progress"
    WRONG_CONTENT = "wrong content"
    OTHER_SERVER = "answered by another server"


@dataclass
class Patience:
    """Measures how long data has been due, up to a limit."""

    limit_seconds: float = PATIENCE_SECONDS
    _since: float | None = None

    @property
    def waiting(self) -> bool:
        """Whether data is due."""
        return self._since is not None

    def due(self, now: float) -> None:
        """Data is due from now on, unless it was due already."""
        if self._since is None:
            self._since = now

    def progress(self, now: float) -> None:
        """Some data was received; more is due."""
        self._since = now

    def done(self) -> None:
        """Nothing is due any more."""
        self._since = None

    def is_over(self, now: float) -> bool:
        """Return whether data has been due for longer than the limit."""
        return self._since is not None and now - self._since > self.limit_seconds


@dataclass
class UdpVerdict:
    """Judges a UDP flow, which sends queries all the time: an answer is always due."""

    server: str = ""
    outcome: Outcome = Outcome.GOOD
    answers: int = 0
    _patience: Patience = field(default_factory=Patience)

    def query_sent(self, now: float) -> None:
        """Record that a query was sent."""
        self._patience.due(now)
        self.tick(now)

    def answered(self, server: str, now: float) -> None:
        """Record an answer of this server."""
        self.tick(now)
        self.answers += 1
        self._patience.progress(now)
        if not self.server:
            self.server = server
        elif server != self.server and self.outcome is Outcome.GOOD:
            self.outcome = Outcome.OTHER_SERVER

    def garbled(self) -> None:
        """Record an answer that does not match a query."""
        if self.outcome is Outcome.GOOD:
            self.outcome = Outcome.WRONG_CONTENT

    def tick(self, now: float) -> None:
        """Check whether an answer has been due for too long."""
        if self.outcome is Outcome.GOOD and self._patience.is_over(now):
            self.outcome = Outcome.SILENT


def max_over_mean(values: list[float]) -> float:
    """Return the largest value divided by the mean; 1.0 is perfect balance.

    Raises:
        ValueError: there are no values, or all are zero.

    """
    if not values or sum(values) <= 0:
        raise ValueError("no utilisation was measured")
    return max(values) / (sum(values) / len(values))


SPREAD_DEVIATIONS = 4.0


def deviations(count: int, total: int, share: float) -> float:
    """Return how many standard deviations a binomial count is away from its expectation.

    Each of `total` independent connections reaches this server with probability `share`. With a
    share of 0 or 1 there is no variance: 0.0 if the count is right, infinity otherwise.
    """
    expected = total * share
    variance = expected * (1.0 - share)
    if variance <= 0:
        return 0.0 if count == round(expected) else float("inf")
    return float(abs(count - expected) / variance**0.5)
