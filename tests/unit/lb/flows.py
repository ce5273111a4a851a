"""Flows as columns, for tests of what is done with thousands at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lb.flow_hash import Address, Flow
from lb.flow_hashes import FlowColumns


def columns(flows: Sequence[Flow]) -> FlowColumns:
    """Return flows as a dump of sockets would have them."""
    ports = [swapped(f.source_port) | swapped(f.destination_port) << 16 for f in flows]
    return FlowColumns(
        np.array([words(flow.source) for flow in flows], np.uint64).reshape(-1, 2),
        np.array([words(flow.destination) for flow in flows], np.uint64).reshape(-1, 2),
        np.array(ports, np.uint64),
        np.array([flow.source.version == 4 for flow in flows], np.bool_),
    )


def words(address: Address) -> list[int]:
    """Return an address as two little-endian words."""
    raw = address.packed.ljust(16, b"\0")
    return [int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")]


def swapped(port: int) -> int:
    """Return a port's two bytes, in network order, as a little-endian number."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")
