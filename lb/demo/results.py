"""Results of the steps, and whether each promise was kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

NOT_IN_JSON = frozenset({"more", "shown", "fatal"})
"""Fields of a result that are only for the demo itself."""


@dataclass
class StepResult:
    """One step, or one control.

    ``tcp_open`` and ``udp_open`` are the flows open and well just before the event,
    ``tcp_after`` and ``udp_after`` those at the end, before they were finished. ``broken``
    includes ``broken_expected``. ``failures`` lists the promises that were not kept. ``fatal``: the
    step was not completed, so the steps after it would not be valid.
    """

    name: str
    control: bool = False
    tcp_open: int = 0
    udp_open: int = 0
    broken: int = 0
    broken_expected: int = 0
    daisy_chained: int = 0
    seconds: float = 0.0
    tcp_after: int = 0
    udp_after: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    shown: str = ""
    fatal: bool = False

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.failures

    def promise(self, kept: bool, otherwise: str) -> None:  # noqa: FBT001 (a call reads as a sentence)
        """Record a failure, unless the promise was kept."""
        if not kept:
            self.failures.append(otherwise)

    def as_json(self) -> dict[str, Any]:
        """Return the result as values for JSON."""
        values = asdict(self) | {"seconds": round(self.seconds, 3), "ok": self.ok} | self.more
        return {name: value for name, value in values.items() if name not in NOT_IN_JSON}


@dataclass
class Findings:
    """All results, the final balance by server, and the commands to try in a kept network."""

    steps: list[StepResult] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    utilisation: dict[str, float] = field(default_factory=dict)
    frozen_utilisation: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    to_try: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise of every step was kept, and there was a step."""
        return bool(self.steps) and all(step.ok for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """Return all results as values for JSON (docs/demo.md)."""
        return {
            "ok": self.ok,
            "steps": [step.as_json() for step in self.steps],
            "shares": self.shares,
            "utilisation": self.utilisation,
            "frozen_utilisation": self.frozen_utilisation,
            "seconds": round(self.seconds, 1),
        }
