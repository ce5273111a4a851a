"""From groups of frames that belong together to one stream in which groups overlap."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

Group = list[bytes]
Maker = Callable[[], Group]

SPREAD = 20
"""About so many frames of others come between two of a group."""


def draw(rng: random.Random, makers: Sequence[tuple[int, Maker]], count: int) -> list[Group]:
    """Groups by weighted makers until there are so many frames."""
    weights = [weight for weight, _ in makers]
    made: list[Group] = []
    while count > 0:
        ((_, maker),) = rng.choices(makers, weights)
        group = maker()
        made.append(group)
        count -= len(group)
    return made


def interleave(rng: random.Random, groups: Iterable[Group]) -> Group:
    """All frames; those of a group stay in their order."""
    placed: list[tuple[float, int, bytes]] = []
    at = 0.0
    for group in groups:
        place = at
        for number, frame in enumerate(group):
            placed.append((place, len(placed), frame))
            # large groups are sweeps and bursts: they stay together
            place += rng.random() * SPREAD if len(group) <= SPREAD else number / 1e6
        at += 1 if len(group) <= SPREAD else len(group)
    return [frame for _, _, frame in sorted(placed)]
