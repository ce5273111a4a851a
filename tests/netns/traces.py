"""Comparing the machine before with the machine after, also where other people are at work."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from netns.polling import NotInTimeError, wait_until
from netns.process import processes
from netns.record import records
from tests.netns import snapshot

GONE_SECONDS = 10.0
RUN = re.compile(
    r"bb-([0-9a-f]{6})-|bucket-brigade-netns/(?:\.new-\d+-)?([0-9a-f]{6})|run '([0-9a-f]{6})'"
)
NOBODYS = re.compile(r"[-+] (programs|maps|processes): ")
AT_WORK = ("pytest", "lbctl", "tests.mutants")


def differs_in_nothing(before: snapshot.Snapshot) -> list[str]:
    """Return what differs for longer than the kernel needs to clean up after itself.

    Other people's networks on a shared machine come and go meanwhile: their lines are left out.
    BPF ids and some processes do not tell whose they are: lines of such are left out if they went
    (nothing of ours was there before), and while somebody else is at work.
    """
    difference: list[str] = []
    strangers: set[str] = set()

    def is_same() -> bool:
        strangers.update(living_runs())
        lines = before.difference(snapshot.take())
        others = strangers | {r for line in lines if line.startswith("-") for r in runs_in(line)}
        lines = [line for line in lines if not runs_in(line) & others]
        lines = [line for line in lines if not (line[0] == "-" and NOBODYS.match(line))]
        if lines and (others or others_at_work()):
            lines = [line for line in lines if not NOBODYS.match(line)]
        difference[:] = lines
        return not lines

    with suppress(NotInTimeError):
        wait_until(is_same, "no difference", GONE_SECONDS)
    return difference


def living_runs() -> set[str]:
    """Return the runs whose owner lives; called when our own have ended."""
    return {r.run for r in records() if (owner := r.owner()) is not None and owner.alive}


def runs_in(line: str) -> set[str]:
    """Return the runs that a line speaks of."""
    return {run for found in RUN.findall(line) for run in found if run}


def others_at_work() -> bool:
    """Say whether tests or commands run here in other sessions than ours."""
    here = os.getsid(0)
    for process in processes():
        try:
            words = Path(f"/proc/{process.id.pid}/cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if process.session != here and any(word in words for word in AT_WORK):
            return True
    return False
