"""Bounds that settings, documents, reports and the data plane share: each is written once, here."""

from __future__ import annotations

MIN_BUCKETS = 1 << 8
MAX_BUCKETS = 1 << 20
MAX_DEPTH = 4
"""Longest chain that the wire can carry."""
DEFAULT_DEPTH = 4
"""A new pool's longest chain, unless its settings name another (docs/adr/0006)."""

MAX_SERVERS = 4095
"""DIP indices are 1 to this; 0 marks an empty slot."""
MAX_SERVICES = 4096
"""More do not fit in a server's look-up tables."""
MAX_CHECKED_SERVICES = 2048
"""More do not fit in a report."""
MAX_POOLS = 256
MAX_PROBERS = 64

MAX_PORT = 65535
MAX_GENERATION = (1 << 63) - 1
KEY_BYTES = 16

CHECK_SECONDS = (0.01, 3600.0)
"""Shortest and longest interval and timeout of a check."""
CHECK_STATUS = (100, 599)
"""HTTP statuses that a check can expect."""
MAX_RISE_FALL = 100
"""Most checks in a row that a change of health can take."""
