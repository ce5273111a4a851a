"""What the probes of all peers mean: facts, TROUBLE lines, the MTU to use. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from controlplane.domain.objects import PathReport
from controlplane.domain.overhead import LEAST_MTU
from lb.agent.facts import PathFacts
from lb.agent.path.peer import PeerPath, Reach

NAMED = 8
"""Peers that a TROUBLE line names; the metrics have all."""

Paths = Mapping[str, PeerPath]


@dataclass(frozen=True)
class Peers:
    """Names of other servers by their state in the cluster document."""

    in_use: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()


def with_reach(paths: Paths, reach: Reach) -> list[str]:
    """Return the names of the peers of which this is known, in order."""
    return sorted(name for name, path in paths.items() if path.reach is reach)


def path_report(paths: Paths) -> PathReport:
    """Return what goes to the controller."""
    return PathReport(
        probed=sum(path.reach is not Reach.NEW for path in paths.values()),
        lost=tuple(with_reach(paths, Reach.LOST)),
        unknown=tuple(with_reach(paths, Reach.UNKNOWN)),
    )


def path_facts(paths: Paths) -> dict[str, PathFacts]:
    """Return what metrics show of each peer."""
    reachable = {Reach.REACHED: True, Reach.LOST: False}
    return {
        name: PathFacts(path.probes, path.losses, reachable.get(path.reach), path.mtu.known)
        for name, path in sorted(paths.items())
    }


@dataclass(frozen=True)
class Link:
    """This server's address, the MTU of its interface, and the least MTU that it lowers to.

    The programs have one MTU, and a VIP one MSS, for all peers: a path that is narrower than the
    least one is not followed, so that one server cannot lower both for everybody without a bound.
    """

    own: IPv4Address
    mtu: int
    least_mtu: int = LEAST_MTU


def mtu_in_use(paths: Paths, peers: Peers, least_mtu: int = LEAST_MTU) -> int | None:
    """Return the smallest MTU found on paths to peers in use, ``None``: none is narrower.

    Paths that do not carry ``least_mtu`` are left out.
    """
    known = [p.mtu.known for name, p in paths.items() if name in peers.in_use]
    return min((mtu for mtu in known if mtu and mtu >= least_mtu), default=None)


def troubles(paths: Paths, peers: Peers, link: Link) -> dict[str, str | None]:
    """Return a TROUBLE line for each topic, ``None``: all is well.

    A server that never ran is not a trouble, nor is one that is down: the controller shows both.
    """
    lost = [name for name in with_reach(paths, Reach.LOST) if name not in peers.down]
    in_use = {name: path for name, path in paths.items() if name in peers.in_use}
    return {
        "paths": _lost(lost, link.own),
        "paths_unknown": _unknown(with_reach(in_use, Reach.UNKNOWN)),
        "path_mtu": _narrow(in_use, link),
        "path_mtu_least": _too_narrow(in_use, link),
    }


def _lost(names: Sequence[str], own: IPv4Address) -> str | None:
    if not names:
        return None
    return (
        f"encapsulated packets to {named(names)} are lost: 3 probes in a row were not answered, "
        f"earlier ones were. Look for filters of UDP port 6080 and of ICMP echo between {own} and "
        "these servers, and at the links between them"
    )


def _unknown(names: Sequence[str]) -> str | None:
    if not names:
        return None
    return (
        f"the paths to {named(names)} cannot be tested: no probe was ever answered. Echo replies "
        "may be filtered: allow ICMP echo between servers, and look for filters of UDP port 6080"
    )


def _too_narrow(paths: Paths, link: Link) -> str | None:
    narrow = {n: p.mtu.known for n, p in paths.items() if p.mtu.known}
    names = [name for name, mtu in narrow.items() if mtu < link.least_mtu]
    if not names:
        return None
    return (
        f"packets of {link.least_mtu} bytes (least_path_mtu) do not reach {named(names)}: those "
        f"above {min(narrow[name] for name in names)} bytes are lost there, and the MTU and MSS "
        "for the other servers stay. Make the MTU of all server links equal, or drain them"
    )


def _narrow(paths: Paths, link: Link) -> str | None:
    link_mtu = link.mtu
    stuck = [name for name, path in paths.items() if path.mtu.stuck]
    if stuck:
        return (
            f"packets of the interface's MTU of {link_mtu} do not reach {named(stuck)}, nor do "
            f"those of {LEAST_MTU} bytes, but small ones do: correct the MTU of the links between"
        )
    known = {name: path.mtu.known for name, path in paths.items() if path.mtu.known}
    narrow = {name: mtu for name, mtu in known.items() if mtu >= link.least_mtu}
    if not narrow:
        return None
    return (
        f"packets of the interface's MTU of {link_mtu} do not reach {named(list(narrow))}: this "
        f"server encapsulates packets for an MTU of {min(narrow.values())}, and lowers the MSS of "
        "VIPs accordingly. Make the MTU of all server links equal"
    )


def unsent(errors: Mapping[str, str]) -> str | None:
    """Return the TROUBLE line about probes that this machine could not send, by peer."""
    if not errors:
        return None
    peer = min(errors)
    return (
        f"this machine could not send probes of the paths to {named(list(errors))}: "
        f"{errors[peer]}. Look at its routes, and at its filters of outgoing UDP port 6080"
    )


def named(names: Sequence[str]) -> str:
    """Return the first of these names, and how many more there are."""
    more = len(names) - NAMED
    listed = ", ".join(sorted(names)[:NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
