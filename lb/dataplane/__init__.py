"""The programs and maps in the kernel: loading, filling, reading. The agent attaches them."""

from __future__ import annotations

from lb.dataplane.dataplane import Dataplane
from lb.dataplane.errors import DataplaneError
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry, Vip
from lb.dataplane.pinned import PinnedDataplane

__all__ = [
    "ClusterView",
    "Dataplane",
    "DataplaneError",
    "Identity",
    "PinnedDataplane",
    "ServiceEntry",
    "Vip",
]
