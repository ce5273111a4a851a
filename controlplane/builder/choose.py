"""Choosing buckets and receivers: ranks, even mixing, and matching under two limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controlplane.builder.request import PerServer

Buckets = NDArray[np.intp]
"""Numbers of buckets."""
Indices = NDArray[np.uint16]
"""DIP indices."""
POSITIONS = 1 << 16


def rank_within(groups: Indices) -> Buckets:
    """Return each entry's rank among the entries of its group, in order of appearance."""
    order: Buckets = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.ones(ordered.size, dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(first)
    rank: Buckets = np.arange(ordered.size) - starts[np.cumsum(first) - 1]
    ranks: Buckets = np.empty_like(rank)
    ranks[order] = rank
    return ranks


def mix(amounts: PerServer) -> Indices:
    """Return each index ``amounts[index]`` times, evenly mixed.

    Any part of the result has every index in about its proportion. So the buckets that one server
    gives up go to many servers, and the buckets that it gets come from many.
    """
    indices = np.flatnonzero(amounts)
    each = amounts[indices]
    repeated = np.repeat(indices, each)
    nth = np.arange(repeated.size) - np.repeat(np.cumsum(each) - each, each)
    position = (nth + 0.5) / np.repeat(each, each)
    # 16 bits are fine enough, and numpy sorts them in linear time.
    order = np.argsort((position * POSITIONS).astype(np.uint16), kind="stable")
    return repeated[order].astype(np.uint16)


def match(givers: Indices, takers: Indices, give: PerServer, take: PerServer) -> Buckets:
    """Choose pairs (giver, taker) until no more fit, in order; return their positions.

    ``give`` and ``take`` are how many each server may still give and take; they are lowered in
    place. The result is maximal: no pair that is left out could be added.
    """
    chosen = []
    left = np.arange(givers.size)
    undecided = np.ones(givers.size, dtype=np.bool_)
    while True:
        left = left[(give[givers[left]] > 0) & (take[takers[left]] > 0)]
        if left.size == 0:
            break
        fits = left[rank_within(givers[left]) < give[givers[left]]]
        fits = fits[rank_within(takers[fits]) < take[takers[fits]]]
        give -= np.bincount(givers[fits], minlength=give.size)
        take -= np.bincount(takers[fits], minlength=take.size)
        chosen.append(fits)
        undecided[fits] = False
        left = left[undecided[left]]
    return np.concatenate(chosen) if chosen else left
