"""Operations on chains: rows of DIP indices, newest first, zeros only at the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.choose import Indices

Chains = NDArray[np.uint16]
"""Shape (rows, depth)."""


def compact(chains: Chains) -> Chains:
    """Return the chains without holes, in the same order."""
    closed = chains.copy()
    depth = closed.shape[1]
    for last in range(depth - 1, 0, -1):
        # Each pass moves every hole one position towards the end and makes one more final.
        for position in range(last):
            here, behind = closed[:, position], closed[:, position + 1]
            hole = (here == 0) & (behind != 0)
            here[hole] = behind[hole]
            behind[hole] = 0
    return closed


def put_first(chains: Chains, servers: Indices) -> Chains:
    """Return the chains with these servers as current, the others one position later.

    A server that is in the chain already only changes its position. Otherwise the last hop of a
    full chain falls off.
    """
    others = compact(np.where(chains == servers[:, None], 0, chains))
    return np.column_stack((servers, others[:, : chains.shape[1] - 1]))


def put_second(chains: Chains, servers: Indices) -> Chains:
    """Return the chains with these newcomers behind the current server.

    The last hop of a full chain falls off. Depth is at least 2.
    """
    return np.column_stack((chains[:, 0], servers, chains[:, 1 : chains.shape[1] - 1]))
