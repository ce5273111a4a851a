"""Logs two machines under one name, and forgets a machine that does not claim it any more."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.objects import Twin
from controlplane.publish.condition_log import ConditionLog
from controlplane.store.contract import ControllerStore

TWO_MACHINES = "two machines under one name: the other one is ignored"
REMEMBERED_SECONDS = 600.0
"""For how long a claim is shown after the last attempt: an agent that knows better is silent."""


class TwinWatch:
    """Remembers when this controller saw each claim change. Times are monotonic seconds."""

    def __init__(self, store: ControllerStore, conditions: ConditionLog) -> None:
        self._store = store
        self._conditions = conditions
        self._seen: dict[str, tuple[Twin, float]] = {}

    def note(self, twins: Mapping[str, Twin], now: float) -> None:
        """Log what is new and what is over. Raises ``StoreError``."""
        for name in self._seen.keys() - twins.keys():
            del self._seen[name]
            self._conditions.set(TWO_MACHINES, name, None)
        for name, twin in twins.items():
            before, since = self._seen.get(name, (None, now))
            if twin != before:
                self._seen[name] = twin, now
            elif now - since >= REMEMBERED_SECONDS:
                self._store.forget_twin(name)
            self._conditions.set(TWO_MACHINES, name, claim_text(twin))


def claim_text(twin: Twin) -> str:
    """Name a machine that claims the name of another one, and the remedy."""
    dip, machine = twin.origin.dip or "unknown", twin.origin.machine or "unknown"
    return (
        f"DIP {dip}, boot id {machine}: stop its agent, or give it a name of its own in agent.toml"
    )
