"""Writes what a controller decided into the store, for ``lbctl why``, ``servers`` and ``drain``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from controlplane.domain.decisions import Decisions
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.pool import PoolPublisher
from controlplane.store.contract import ControllerStore, StoreError

NOT_WRITTEN = "decisions are not stored: lbctl why and servers show older ones"
REFRESH_SECONDS = 10.0
"""How old the stored decisions may become while nothing changes, so that people see they go on."""


class DecisionWriter:
    """Writes decisions when they change. For one thread. Nothing waits for them."""

    def __init__(self, store: ControllerStore, conditions: ConditionLog) -> None:
        self._store = store
        self._conditions = conditions
        self._written: Decisions | None = None

    def write(
        self, servers: Decisions, publishers: Mapping[str, PoolPublisher], *, ticked: bool
    ) -> None:
        """Write if something changed: pools at ticks, the rest in every round.

        ``servers``: decisions of this round without pools. A failure is logged.
        """
        written, wall = self._written, servers.at
        if not ticked and written and servers == replace(written, at=wall, pools={}):
            return
        found = {name: publisher.decisions() for name, publisher in publishers.items()}
        new = replace(servers, pools=found)
        if written and new == replace(written, at=wall) and _fresh(written, wall):
            return
        try:
            self._store.put_decisions(new)
        except StoreError as error:
            self._conditions.set(NOT_WRITTEN, "store", str(error))
        else:
            self._written = new
            self._conditions.set(NOT_WRITTEN, "store", None)


def _fresh(written: Decisions, wall: float) -> bool:
    return 0.0 <= wall - written.at < REFRESH_SECONDS
