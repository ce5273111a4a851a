"""Keeps the ``controller`` document: reads it when a controller begins, and stores what changed.

Nothing waits for it: if it cannot be stored, that is logged, and the controller goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import structlog

from controlplane.documents.controller import decode_controller, encode_controller
from controlplane.documents.fields import DocumentError
from controlplane.domain.controller_state import (
    CONTROLLER,
    MAX_SHARE,
    MIN_SHARE,
    ControllerState,
)
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.fleet_time import FleetTime
from controlplane.store.contract import (
    ControllerStore,
    StoreConflict,
    StoreCorrupt,
    StoreError,
    Version,
)

STORE_SECONDS = 5.0
"""How often fleet time is stored. A restart makes ages this much too low, at most."""
NOT_STORED = "the controller's state is not stored: a successor begins with an older one"


class StateKeeper:
    """The stored state of one controller. For one thread.

    ``known`` is the state that this controller goes on from.
    """

    def __init__(self, store: ControllerStore, conditions: ConditionLog) -> None:
        self._store = store
        self._conditions = conditions
        self._log = structlog.get_logger()
        self._generation = 0
        self._stored: ControllerState | None = None
        self._published: Mapping[str, int] = {}
        self._due_at = 0.0
        self.known = ControllerState()
        self._time: FleetTime | None = None

    def begin(self, facts: Mapping[str, TableFacts], now: float) -> FleetTime:
        """Go on from the stored state and from these tables. Raises ``StoreError``."""
        found = self._read(begun=bool(facts))
        if found is not None:
            self.known = found
        # without anything that has a time, any origin will do
        origin = 0.0 if found or _last_moved_at(facts) else time.time()
        self._time = FleetTime(max(self.known.fleet_seconds, origin), now)
        return self._time

    def seconds(self, facts: Mapping[str, TableFacts], now: float) -> float:
        """Return the fleet time. Raises ``StoreError``: it is not known yet.

        ``facts``: of the newest tables, which another controller may have published.
        """
        fleet_time = self._time or self.begin(facts, now)
        fleet_time.reach(_last_moved_at(facts), now)
        return fleet_time.at(now)

    def keep(self, state: ControllerState, published: Mapping[str, int], now: float) -> None:
        """Store the state if documents or requests changed since, else every few seconds."""
        changed = self._stored is None or state.requests != self._stored.requests
        if not changed and published == self._published and now < self._due_at:
            return
        self._due_at = now + STORE_SECONDS
        try:
            data = encode_controller(state, self._generation + 1)
            self._store.publish(Version(CONTROLLER, self._generation + 1, data))
        except StoreConflict:
            self._follow(now)
        except (StoreError, DocumentError) as error:
            self._conditions.set(NOT_STORED, CONTROLLER, str(error), level="error")
        else:
            self._generation += 1
            self._stored, self._published = state, dict(published)
            self._conditions.set(NOT_STORED, CONTROLLER, None)

    def _read(self, *, begun: bool) -> ControllerState | None:
        """Return what is stored. ``begun``: there are tables, so there should be a state."""
        try:
            version = self._store.latest(CONTROLLER)
            if version is not None:
                self._generation = version.generation
                return decode_controller(version.data)
        except (StoreCorrupt, DocumentError) as error:
            reason = str(error)
        else:
            reason = "the store does not have it"
        if begun:
            self._log.warning(
                "no state of an earlier controller: shares begin equal, slow starts begin anew",
                every_time=True,
                reason=reason,
                remedy="none is needed: shares follow load again",
            )
        return None

    def _follow(self, now: float) -> None:
        """Go on after the state that another controller stored, or that an error kept from us."""
        try:
            version = self._store.latest(CONTROLLER)
            if version is None or self._time is None:
                return
            self._generation = version.generation
            self._time.reach(decode_controller(version.data).fleet_seconds, now)
        except (StoreError, DocumentError) as error:
            self._conditions.set(NOT_STORED, CONTROLLER, str(error), level="error")


def _last_moved_at(facts: Mapping[str, TableFacts]) -> int:
    return max((found.last_moved_at for found in facts.values()), default=0)


def rounded(state: ControllerState) -> ControllerState:
    """Return the state as it is stored: short numbers, and no share that is the mean anyway."""
    shares = {
        pool: {name: short for name, share in given.items() if (short := _short(share)) != 1.0}
        for pool, given in state.shares.items()
    }
    return replace(
        state,
        fleet_seconds=round(state.fleet_seconds, 3),
        slow_start={name: round(part, 4) for name, part in state.slow_start.items()},
        shares={pool: given for pool, given in shares.items() if given},
    )


def _short(share: float) -> float:
    return min(max(float(f"{share:.4g}"), MIN_SHARE), MAX_SHARE)
