"""What keeps a trial from being made at all."""

from __future__ import annotations

from controlplane.domain.errors import BrigadeError


class TrialError(BrigadeError):
    """Packages, a root file system or a virtual machine could not be had."""
