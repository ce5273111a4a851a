"""Keeps the last dumps of servers in the store, for plans: a report has each only for a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping

from controlplane.domain.seen_dumps import SeenDump
from controlplane.publish.condition_log import ConditionLog
from controlplane.store.contract import ControllerStore, StoreError

WRITE_SECONDS = 2.0
"""How often they are written, if there are new ones."""
COST_SHARE = 0.01
"""Of this thread's time, at most so much is for that."""
NOT_WRITTEN = "dumps are not stored: plans take connections for unknown, or by older dumps"


class DumpWriter:
    """Writes dumps when there are new ones. For one thread. Nothing waits for them."""

    def __init__(self, store: ControllerStore, conditions: ConditionLog) -> None:
        self._store = store
        self._conditions = conditions
        self._written: dict[str, float | None] = {}
        self._next_at = 0.0

    def write(
        self, newest: Mapping[str, tuple[float | None, object]], now: float, wall: float
    ) -> None:
        """Write, unless it is too early. ``now`` is monotonic, ``wall`` for people."""
        seen = {name: at for name, (at, _) in newest.items()}
        if now < self._next_at or seen == self._written:
            return
        began = time.monotonic()
        dumps = {
            name: SeenDump(0.0 if at is None else max(0.0, wall - (now - at)), body)
            for name, (at, body) in newest.items()
        }
        try:
            self._store.put_dumps(dumps)
        except StoreError as error:
            self._conditions.set(NOT_WRITTEN, "store", str(error))
        else:
            self._written = seen
            self._conditions.set(NOT_WRITTEN, "store", None)
        self._next_at = now + max(WRITE_SECONDS, (time.monotonic() - began) / COST_SHARE)
