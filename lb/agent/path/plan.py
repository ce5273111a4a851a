"""Which peer is probed when: a rotation, so that each pair has its turn. Pure.

In the slot of the same number, no two servers probe the same peer. Servers number their slots from
their own start, so their turns are spread in any case.
"""

from __future__ import annotations

PROBES_A_SECOND = 8
MOST_A_SECOND = 4
"""Probes of one peer, where there are few."""


def slots_a_second(servers: int) -> int:
    """Return how many probes a server sends in a second, in a fleet of so many servers."""
    return min(PROBES_A_SECOND, MOST_A_SECOND * (servers - 1))


def pair_seconds(servers: int) -> float:
    """Return the time between two probes of the same pair: at most servers / 8, or 0.25 s."""
    return (servers - 1) / slots_a_second(servers)


def peer_at(slot: int, own: int, servers: int) -> int:
    """Return the position of the peer that the server at position ``own`` probes in this slot.

    ``servers`` is how many there are, 2 or more; positions are from 0.
    """
    return (own + 1 + slot % (servers - 1)) % servers
