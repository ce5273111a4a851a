"""What a trial printed, read: figures, steps that failed, a row for docs/platforms.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

MARK = "@@ "
NO_END = "ended before its end"
COLUMNS = (
    *("Kernel", "Userland", "bcc", "Where", "Attached natively to", "Instructions, forwarder"),
    *("redirector", "Verified, forwarder", "redirector", "Load, s", "Tests", "Result"),
)


@dataclass
class Outcome:
    """What is known of one trial; ``problems`` is empty when all went well."""

    userland: str
    emulated: bool
    facts: dict[str, Any] = field(default_factory=dict)
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ended: bool = False
    _failed_before: bool = False

    def take(self, line: str) -> None:
        """Take one line of what the guest prints."""
        if line.startswith(MARK):
            self._take_facts(json.loads(line.removeprefix(MARK)))
        elif re.fullmatch(r"[\d a-z,]+ in [\d.]+s.*", line):
            self.tests.append(line)
        elif match := re.match(r"SKIPPED \[\d+\] \S+: (.*)", line):
            self.skipped.append(match[1])

    def _take_facts(self, facts: dict[str, Any]) -> None:
        if "program" in facts:
            self.programs[facts["kind"]] = facts
        elif "attached" in facts:
            self.attached.append(facts["attached"])
        elif "end" in facts:
            self.ended = True
        elif "step" in facts:
            self._take_step(facts)
        else:
            self.facts |= facts

    def _take_step(self, facts: dict[str, Any]) -> None:
        if facts.get("exit", 0) != 0 and not self._failed_before:
            self._failed_before = True
            self.problems.append(f"{facts['step']} failed")

    def finish(self) -> None:
        """Say that nothing more will come."""
        if not self.ended:
            self.problems.append(NO_END)
        elif len(self.programs) != 2 or not self.attached:
            self.problems.append("the programs were not loaded and attached")

    def row(self) -> str:
        """Return a row of the table in docs/platforms.md."""
        forwarder, redirector = (self.programs.get(kind, {}) for kind in ("XDP", "SCHED_CLS"))
        cells = [
            self.facts.get("kernel", "?"),
            self.userland,
            self.facts.get("bcc", "?"),
            "emulated" if self.emulated else "here",
            ", ".join(self.attached),
            *(str(each.get("instructions", "?")) for each in (forwarder, redirector)),
            *(str(each.get("verified", "?")) for each in (forwarder, redirector)),
            str(self.facts.get("load_seconds", "?")),
            " + ".join(text.partition(" in ")[0] for text in self.tests) or "load and attach",
            "; ".join(self.problems) or "works",
        ]
        return f"| {' | '.join(cells)} |"
