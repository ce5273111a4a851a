"""The keyed flow hash over thousands of flows at once, in numpy (docs/wire.md, section 1).

Same hash as `lb/flow_hash.py`, about a thousand times faster for each flow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lb.flow_hash import initial_state

Words = NDArray[np.uint64]

V4_FLOW_BYTES, V6_FLOW_BYTES = 13, 37
V4_CLIENT_BYTES, V6_CLIENT_BYTES = 4, 16
FINALIZATION = np.uint64(0xFF)


class FlowColumns(NamedTuple):
    """Flows of one protocol as columns: the bytes of each field, read as little-endian numbers.

    ``source`` is the client, ``destination`` the VIP: uint64 of shape (n, 2). An IPv4 address is in
    the low 32 bits of the first. ``ports`` is the source port, and the destination port << 16.
    """

    source: Words
    destination: Words
    ports: Words
    is_ipv4: NDArray[np.bool_]

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> FlowColumns:
        """Return some of the flows."""
        return FlowColumns(
            self.source[which], self.destination[which], self.ports[which], self.is_ipv4[which]
        )


def states_of(keys: list[bytes]) -> Words:
    """Return SipHash's state before the first block under each 16-byte key, of shape (keys, 4)."""
    states = [initial_state(key) for key in keys]
    return np.array(states, dtype=np.uint64).reshape(-1, 4)


def flow_hashes(flows: FlowColumns, states: Words, protocol: int) -> Words:
    """Return the hashes by addresses, ports and protocol. ``states``: of each flow's key."""
    found = np.empty(len(flows.ports), np.uint64)
    last = flows.ports | np.uint64(protocol << 32)
    for is_ipv4, length in ((True, V4_FLOW_BYTES), (False, V6_FLOW_BYTES)):
        which = flows.is_ipv4 == is_ipv4
        if not which.any():
            continue
        source, destination = flows.source[which], flows.destination[which]
        if is_ipv4:
            blocks = [source[:, 0] | destination[:, 0] << np.uint64(32)]
        else:
            blocks = [source[:, 0], source[:, 1], destination[:, 0], destination[:, 1]]
        found[which] = _siphashes(states[which], [*blocks, last[which] | _length(length)])
    return found


def client_hashes(flows: FlowColumns, states: Words) -> Words:
    """Return the hashes by the client's address alone. ``states``: of each flow's key."""
    found = np.empty(len(flows.ports), np.uint64)
    for is_ipv4, length in ((True, V4_CLIENT_BYTES), (False, V6_CLIENT_BYTES)):
        which = flows.is_ipv4 == is_ipv4
        if not which.any():
            continue
        source = flows.source[which]
        if is_ipv4:
            blocks = [source[:, 0] | _length(length)]
        else:
            blocks = [source[:, 0], source[:, 1], np.full(len(source), _length(length))]
        found[which] = _siphashes(states[which], blocks)
    return found


def _length(count: int) -> np.uint64:
    """Return the input's length where it stands in the last block."""
    return np.uint64(count << 56)


def _siphashes(states: Words, blocks: list[Words]) -> Words:
    """Return SipHash-1-3 of columns of blocks, the last of which has the length."""
    v0, v1, v2, v3 = states.T.copy()
    for block in blocks:
        v3 ^= block
        _round(v0, v1, v2, v3)
        v0 ^= block
    v2 ^= FINALIZATION
    for _ in range(3):
        _round(v0, v1, v2, v3)
    found: Words = v0 ^ v1 ^ v2 ^ v3
    return found


def _round(v0: Words, v1: Words, v2: Words, v3: Words) -> None:
    """Do one round of SipHash on the four columns, in place."""
    v0 += v1
    _rotate(v1, 13)
    v1 ^= v0
    _rotate(v0, 32)
    v2 += v3
    _rotate(v3, 16)
    v3 ^= v2
    v0 += v3
    _rotate(v3, 21)
    v3 ^= v0
    v2 += v1
    _rotate(v1, 17)
    v1 ^= v2
    _rotate(v2, 32)


def _rotate(words: Words, bits: int) -> None:
    """Turn 64-bit words left, in place."""
    high = words >> np.uint64(64 - bits)
    words <<= np.uint64(bits)
    words |= high
