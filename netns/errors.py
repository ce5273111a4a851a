"""What can go wrong with a simulated network."""

from __future__ import annotations


class NetworkError(Exception):
    """A topology that cannot be, or a network that could not be built; one line says why."""
