"""The ready file, and the record from which `lbctl down` undoes everything."""

from __future__ import annotations

from collections.abc import Iterator

from lb.agent.machine.undo_record import Journal
from lb.agent.ready.announcer import Announcer
from lb.agent.watch.registry import Drift, Thing

READY_FILE, RECORD = "ready_file", "record"
RIVALS = "another program (systemd-tmpfiles, a clean-up script?)"


class WatchedFiles:
    """Files that only this agent writes."""

    def __init__(self, announcer: Announcer, journal: Journal) -> None:
        self._announcer = announcer
        self._journal = journal

    def things(self) -> Iterator[Thing]:
        """Yield what is watched."""
        restore = self._announcer.restore_ready_file
        yield Thing(READY_FILE, self._look_at_ready, restore, essential=False, rivals=RIVALS)
        rewrite = self._journal.rewrite
        yield Thing(RECORD, self._look_at_record, rewrite, essential=False, rivals=RIVALS)

    def _look_at_ready(self) -> Drift | None:
        return Drift("the ready file was removed") if self._announcer.lost_ready_file() else None

    def _look_at_record(self) -> Drift | None:
        if self._journal.is_on_disk():
            return None
        return Drift("the record of this machine's changes was removed: lbctl down needs it")
