"""The last dump of each server's sockets, as a controller has seen it: for plans."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SeenDump:
    """One dump. ``body``: presence, as it was reported (``controlplane.documents.presence``).

    ``at``: Unix seconds when the controller first saw it, 0: it was there at the controller's
    start, so it may be old.
    """

    at: float
    body: object
