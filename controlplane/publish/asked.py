"""Asks all servers for flows, in the answers to their reports."""

from __future__ import annotations

from controlplane.domain.objects import AskedFlow
from controlplane.publish.condition_log import ConditionLog
from controlplane.store.contract import ControllerStore, StoreError

NOT_ASKED = "servers cannot be asked for flows: broken connections are not proved"


class AskedWriter:
    """Writes what is asked for when it changes. For one thread."""

    def __init__(self, store: ControllerStore, conditions: ConditionLog) -> None:
        self._store = store
        self._conditions = conditions
        self._given: frozenset[AskedFlow] | None = None

    def write(self, asked: frozenset[AskedFlow]) -> None:
        """Ask for these from now on. A failure is logged, and the next call tries again."""
        if asked == self._given:
            return
        try:
            self._store.put_asked(asked)
        except StoreError as error:
            self._conditions.set(NOT_ASKED, "store", str(error))
        else:
            self._given = asked
            self._conditions.set(NOT_ASKED, "store", None)
