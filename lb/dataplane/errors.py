"""Errors of the data plane, each one line with the remedy."""

from __future__ import annotations

from controlplane.domain.errors import BrigadeError


class DataplaneError(BrigadeError):
    """The programs or maps cannot be loaded, filled or read."""
