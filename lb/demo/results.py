"""What a step found, and whether that is what was promised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class StepResult:
    """One step, or one control.

    ``tcp_open`` and ``udp_open`` are the flows open and well just before the event,
    ``tcp_after`` and ``udp_after`` those at the end, before they were finished. ``broken``
    includes ``broken_expected``. ``failures`` says which promises were not kept; none: all were.
    ``fatal``: the step came to no end, and what follows it cannot be relied on.
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

    def promise(self, kept: bool, otherwise: str) -> None:  # noqa: FBT001 (reads as a sentence)
        """Note a promise that was not kept."""
        if not kept:
            self.failures.append(otherwise)

    def as_json(self) -> dict[str, Any]:
        """Return what machines read."""
        return {
            "name": self.name,
            "control": self.control,
            "tcp_open": self.tcp_open,
            "udp_open": self.udp_open,
            "broken": self.broken,
            "broken_expected": self.broken_expected,
            "daisy_chained": self.daisy_chained,
            "seconds": round(self.seconds, 3),
            "tcp_after": self.tcp_after,
            "udp_after": self.udp_after,
            "ok": self.ok,
            "failures": self.failures,
            **self.more,
        }


@dataclass
class Findings:
    """All steps, the balance at the end by server, and what to try if the network is kept."""

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
        """Return what machines read (docs/demo.md)."""
        return {
            "ok": self.ok,
            "steps": [step.as_json() for step in self.steps],
            "shares": self.shares,
            "utilisation": self.utilisation,
            "frozen_utilisation": self.frozen_utilisation,
            "seconds": round(self.seconds, 1),
        }
