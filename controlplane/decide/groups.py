"""Which servers reach each other, from the paths that agents report as lost. Pure.

A loss counts only if it cannot be one agent's invention against another: if both ends report it, if
at least two servers report losing the same one, or if the reporting server loses more than half of
the others, which speaks against itself. Unknown counts as reached, and so does every path that no
fresh report is about.

The group is found by removing the server with the most losses, again and again, until all that are
left reach each other. If they are more than half of the servers in use, the others are outside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from controlplane.domain.objects import Report

WITNESSES = 2
"""Servers that have to report losing a server if that one does not report losing them."""
FEW = 0.1
"""Up to this part of the servers (at least one) is surely outside as soon as witnesses report it.
Of more servers, only those to which most of the group has no path: while a split of the fleet is
being discovered, the first losses look like many single ones."""

Losses = Mapping[str, frozenset[str]]
"""Server -> servers."""


@dataclass(frozen=True)
class Groups:
    """``outside``: servers that are not in the group of the majority -> those they do not reach.

    ``unsure``: those of them that are only outside if no more losses are discovered. ``split``: no
    group has more than half of the servers in use, so nobody is outside. ``losses``: the losses
    that count, both ways.
    """

    outside: Losses = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()
    split: bool = False
    losses: Losses = field(default_factory=dict)


def reported_losses(reports: Mapping[str, Report], fresh: Collection[str]) -> Losses:
    """Return what each server reports as lost, from fresh reports only.

    A server whose agent does not probe does not answer probes either: it is lost by nobody.
    """
    probing = {name for name, report in reports.items() if report.paths is not None}
    found = {}
    for name in fresh:
        report = reports.get(name)
        if report is not None and report.paths is not None and report.paths.lost:
            found[name] = frozenset(report.paths.lost) & probing - {name}
    return found


def counted_losses(claims: Losses, servers: Collection[str]) -> Losses:
    """Return the losses between these servers that count, each in both directions."""
    known = frozenset(servers)
    claimed = {name: lost & known for name, lost in claims.items() if name in known}
    witnesses: dict[str, int] = {}
    for lost in claimed.values():
        for name in lost:
            witnesses[name] = witnesses.get(name, 0) + 1
    counted: dict[str, set[str]] = {}
    for name, lost in claimed.items():
        most = 2 * len(lost) > len(known) - 1
        for other in lost:
            both = name in claimed.get(other, ())
            if most or both or witnesses[other] >= WITNESSES:
                counted.setdefault(name, set()).add(other)
                counted.setdefault(other, set()).add(name)
    return {name: frozenset(lost) for name, lost in counted.items()}


def find_groups(
    in_use: Mapping[str, int],
    newcomers: Collection[str],
    claims: Losses,
    already_out: Collection[str] = (),
) -> Groups:
    """Judge the servers in use, by name -> DIP index, and newcomers that want to join them.

    What newcomers report does not count against servers in use: it only keeps them out. Of two
    servers that only do not reach each other, one that is ``already_out`` is removed, else a
    newcomer, else the one with the higher index.
    """
    servers = {*in_use, *newcomers}
    among = counted_losses(claims, in_use)
    losses = _joined(counted_losses(claims, servers), among)
    if not losses:
        return Groups()

    def preference(name: str) -> tuple[bool, bool, int, str]:
        return name in already_out, name not in in_use, in_use.get(name, 0), name

    members = in_use.keys() - _removed(among, preference)
    group = members | {n for n in newcomers if not losses.get(n, frozenset()) & members}
    group -= _removed(_between(losses, group - members), preference)
    if 2 * len(members) <= len(in_use):
        return Groups(split=True, losses=losses)
    outside = sorted(servers - group)
    few = len(in_use.keys() - members) <= max(1, FEW * len(in_use))
    unsure = [n for n in outside if not few and 2 * len(losses[n] & group) < len(group)]
    return Groups({name: losses[name] for name in outside}, frozenset(unsure), losses=losses)


def _joined(one: Losses, other: Losses) -> Losses:
    empty: frozenset[str] = frozenset()
    return {name: one.get(name, empty) | other.get(name, empty) for name in {*one, *other}}


def _between(losses: Losses, servers: Collection[str]) -> Losses:
    """Return the losses between these servers alone."""
    found = {name: losses.get(name, frozenset()) & frozenset(servers) for name in servers}
    return {name: lost for name, lost in found.items() if lost}


def _removed(losses: Losses, preference: Callable[[str], tuple[bool, bool, int, str]]) -> set[str]:
    """Return the servers without which no loss is left, none of them without need.

    Of those with equally many losses, the one with the highest ``preference`` is removed.
    """
    left = {name: len(lost) for name, lost in losses.items()}
    removed = []
    while any(left.values()):
        worst = max(left, key=lambda name: (left[name], preference(name)))
        del left[worst]
        removed.append(worst)
        for other in losses[worst] & left.keys():
            left[other] -= 1
    needed = set(removed)
    for name in reversed(removed):
        if losses[name] <= needed:
            needed.remove(name)
    return needed
