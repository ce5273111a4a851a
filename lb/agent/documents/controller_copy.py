"""A copy of the controller's state on this server's disk, for ``lbctl control --seed``.

The agent itself never acts on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from controlplane.documents.check import decode_cluster
from controlplane.documents.controller import decode_controller
from controlplane.documents.fields import DocumentError
from controlplane.domain.controller_state import CONTROLLER, ControllerState
from controlplane.domain.objects import CLUSTER
from controlplane.store.contract import AgentStore, StoreCorrupt, StoreError
from controlplane.store.state_dir import StateDir

FETCH_SECONDS = 15.0
FETCH_AGAIN_SECONDS = 300.0
"""After a controller of an earlier version, which logs each request for what it does not have."""
SAVE_TIME_SECONDS = 600.0
"""A copy that differs only in the fleet time is replaced this often: each save is flushed."""


class ControllerCopy:
    """Fetches the controller's state now and then, and saves it if it is good. For one thread."""

    def __init__(
        self, store: AgentStore, files: StateDir, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._due_at = clock()
        self._saved: ControllerState | None = None
        self._logged = ""
        self._newest = 0
        """The newest generation of the cluster document that the store had, or this server has."""

    def refresh(self) -> None:
        """Fetch and save it, if that is due. What fails is logged, and tried again later."""
        now = self._clock()
        if now < self._due_at:
            return
        self._due_at = now + FETCH_SECONDS
        try:
            version = self._store.latest(CONTROLLER)
            if version is None:
                return
            state = decode_controller(version.data)
            if self._is_news(state) and not self._began_anew():
                self._files.save_document(CONTROLLER, version.data)
                self._saved = state
        except (StoreError, DocumentError) as error:
            if isinstance(error, StoreCorrupt):
                self._due_at = now + FETCH_AGAIN_SECONDS
            self._log_once(str(error))

    def _began_anew(self) -> bool:
        """Whether the store is behind this server's documents: somebody put an empty one there.

        Its controller knows no requests and no shares. The copy is what ``--seed`` needs then.
        """
        self._newest = self._newest or self._saved_generation()
        now = self._store.kinds().get(CLUSTER, 0)
        if now < self._newest:
            self._log_once("the store has begun anew: its state of the controller is not copied")
            return True
        self._newest = now
        return False

    def _saved_generation(self) -> int:
        saved = self._files.load_document(CLUSTER)
        try:
            return decode_cluster(saved).generation if saved else 0
        except DocumentError:
            return 0

    def _log_once(self, reason: str) -> None:
        if reason != self._logged:
            self._logged = reason
            structlog.get_logger().info("no copy of the controller's state", reason=reason)

    def _is_news(self, state: ControllerState) -> bool:
        if self._saved is None:
            return True
        if replace(state, fleet_seconds=self._saved.fleet_seconds) != self._saved:
            return True
        return abs(state.fleet_seconds - self._saved.fleet_seconds) >= SAVE_TIME_SECONDS
