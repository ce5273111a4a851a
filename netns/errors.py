"""Errors of simulated networks."""

from __future__ import annotations


class NetworkError(Exception):
    """A topology is wrong or a network could not be built; the message is one line."""
