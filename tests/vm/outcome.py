"""What a trial printed, read: figures, steps that failed, a row for docs/platforms.md."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MARK = "@@ "
NO_END = "ended before its end"
NOT_LOADED = "the programs were not loaded and attached"
KINDS = {"XDP", "SCHED_CLS"}
COLUMNS = (
    *("Kernel", "Userland", "bcc", "Where", "Native XDP on"),
    *("Instructions (verified)", "Load, s", "Tests", "Result"),
)


@dataclass
class Outcome:
    """What is known of one trial; ``problems`` is empty when all went well."""

    userland: str
    emulated: bool
    steps: Sequence[str] = ("load",)
    facts: dict[str, Any] = field(default_factory=dict)
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ended: bool = False
    _done: set[str] = field(default_factory=set)

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
            self.programs[facts["program"].removeprefix("lb_")] = facts
        elif "attached" in facts:
            self.attached.append(facts["attached"])
        elif "end" in facts:
            self.ended = True
        elif "step" in facts:
            self._take_step(facts)
        else:
            self.facts |= facts

    def _take_step(self, facts: dict[str, Any]) -> None:
        if "exit" in facts:
            self._done.add(facts["step"])
            if facts["exit"] != 0:
                self.problems.append(f"{facts['step']} failed")

    def finish(self) -> None:
        """Say that nothing more will come."""
        if not self.ended:
            self.problems.append(NO_END)
            return
        self.problems += [f"{step} was left out" for step in self.steps if step not in self._done]
        if "load" in self._done and not (self._kinds() == KINDS and self.attached):
            self.problems.append(NOT_LOADED)

    def _kinds(self) -> set[str]:
        return {program["kind"] for program in self.programs.values()}

    def row(self) -> str:
        """Return a row of the table in docs/platforms.md."""
        sizes = [
            f"{name} {each['instructions']} ({each['verified']})"
            for name, each in self.programs.items()
        ]
        cells = [
            self.facts.get("kernel", "?"),
            self.userland,
            self.facts.get("bcc", "?"),
            "emulated" if self.emulated else "here",
            ", ".join(dict.fromkeys(self.attached)),
            ", ".join(sizes),
            str(self.facts.get("load_seconds", "?")),
            " + ".join(text.partition(" in ")[0] for text in self.tests) or "load and attach",
            "; ".join(self.problems) or "works",
        ]
        return f"| {' | '.join(cells)} |"
