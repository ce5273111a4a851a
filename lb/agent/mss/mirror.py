"""A routing table that mirrors the main one for replies from VIPs, reconciled by comparing.

Nothing is derived from notifications: each time both tables are read and what differs is changed,
so that a lost message, a flushed interface or somebody else's change costs one more reading. With
10,000 routes that is some hundredths of a second.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.domain.objects import Vip
from lb.agent.mss.lowering import lowered, thrown
from lb.agent.mss.rules import ANY_SOURCE, RULE_PRIORITY, change_rule, our_rule, rules_wanted
from lb.agent.netlink.messages import FAMILY
from lb.agent.netlink.route_socket import ADD_OR_APPEND, ADD_OR_REPLACE, Request, RouteSocket
from lb.agent.netlink.routes import (
    OUR_PROTOCOL,
    RT_TABLE_MAIN,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    Route,
    build,
    is_mirrored,
    parse,
    protocol_of,
    read_table,
)
from lb.agent.netlink.rules import RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, dump_request

ROUNDS = 4
"""Readings until both tables have to agree; main may change in between."""
HARMLESS = frozenset({errno.ESRCH, errno.ENOENT, errno.EEXIST})
"""It is as requested, or the next reading will show that it is not."""


@dataclass(frozen=True)
class Goal:
    """How replies from VIPs are to be routed. Without VIPs: by nothing of ours.

    ``overhead`` is the size of the encapsulation, ``underlay_mtu`` the MTU of the interface for
    encapsulated packets, both in bytes.
    """

    table: int
    vips: frozenset[Vip] = frozenset()
    overhead: int = 0
    underlay_mtu: int = 0

    @property
    def covers_all_tcp(self) -> bool:
        """Whether there are so many VIPs that a family has one rule for all TCP of this host."""
        return any(ANY_SOURCE[version] in rules_wanted(self.vips, version) for version in FAMILY)


@dataclass(frozen=True)
class Outcome:
    """The result: routes in our table, changes made, a line for each that was refused.

    ``put_back`` counts changes that nothing but somebody's change to what is ours has caused.
    """

    routes: int = 0
    changes: int = 0
    refused: tuple[str, ...] = ()
    put_back: int = 0


def _total(*parts: Outcome) -> Outcome:
    return Outcome(
        sum(part.routes for part in parts),
        sum(part.changes for part in parts),
        tuple(line for part in parts for line in part.refused),
        sum(part.put_back for part in parts),
    )


def foreign_routes(netlink: RouteSocket, table: int) -> int:
    """Count the routes in our table that are not ours."""
    bodies = [body for family in FAMILY.values() for body in read_table(netlink, family, table)]
    return sum(protocol_of(body) != OUR_PROTOCOL for body in bodies)


def clear(netlink: RouteSocket, table: int) -> Outcome:
    """Remove our rules and our routes from a table; what others have there stays."""
    return Mirror(netlink).synchronise(Goal(table), {})


class Copy(NamedTuple):
    """A route as our table should have it, or has it: its key, and the body of its request."""

    key: bytes
    body: bytes


def copy_of(route: Route, table: int) -> Copy:
    """Return the copy that is this route."""
    return Copy(route.key, build(route, table))


def changes_to(wanted: frozenset[Copy], present: frozenset[Copy]) -> list[Request]:
    """Return the requests that lead from the copies present to those wanted.

    A route that changes is replaced in one step where the kernel can (one of its key before and
    after); where several share a key, as link-local prefixes do, they are deleted and added.
    """
    touched = {copy.key for copy in wanted ^ present}
    groups: dict[bytes, tuple[list[Copy], list[Copy]]] = {key: ([], []) for key in touched}
    for side, copies in enumerate((wanted, present)):
        for copy in copies:
            if copy.key in touched:
                groups[copy.key][side].append(copy)
    removals: list[Request] = []
    additions: list[Request] = []
    for new, old in groups.values():
        if len(new) == len(old) == 1:
            additions.append(Request(RTM_NEWROUTE, new[0].body, ADD_OR_REPLACE))
            continue
        gone = [Request(RTM_DELROUTE, copy.body) for copy in old if copy not in wanted]
        fresh = [copy for copy in new if copy not in present]
        (additions if fresh else removals).extend(gone)
        additions += [Request(RTM_NEWROUTE, copy.body, ADD_OR_APPEND) for copy in fresh]
    return [*additions, *removals]


class Mirror:
    """Reconciles a table, and the rules that lead to it, with a goal. For one thread."""

    def __init__(self, netlink: RouteSocket) -> None:
        self._netlink = netlink
        self._goal = Goal(0)
        self._mtus: Mapping[int, int] = {}
        self._known: dict[tuple[int, int], dict[bytes, Copy]] = {}
        self._in_place: dict[int, frozenset[Copy]] = {}
        self._has_rules = False
        self._refused: set[Copy] = set()
        self._prefixes = dict.fromkeys(FAMILY, frozenset[Vip]())

    def synchronise(self, goal: Goal, mtus: Mapping[int, int]) -> Outcome:
        """Make rules and routes match the goal: routes are added before rules, removed after.

        New rules are added before old ones are removed: replies from VIPs are lowered all the time.

        ``mtus`` are those of interfaces by index (``link_mtus``).

        A route that the kernel refuses in our table stays in main alone: in ours an entry of the
        type ``throw`` sends the look-up there.

        Raises:
            OSError: the kernel does not let us read, or does not support rules.

        """
        self._refused.clear()
        if (goal, mtus) != (self._goal, self._mtus):
            self._known.clear()
            self._in_place.clear()
            self._has_rules = False
            self._goal, self._mtus = goal, mtus
            self._prefixes = {version: rules_wanted(goal.vips, version) for version in FAMILY}
        outcome = _total(*[self._synchronise(version) for version in FAMILY])
        self._has_rules = True
        return outcome

    def _synchronise(self, version: int) -> Outcome:
        table, family = self._goal.table, FAMILY[version]
        wanted = {(prefix, RULE_PRIORITY) for prefix in self._prefixes[version]}
        bodies = [
            b for b in self._netlink.dump(RTM_GETRULE, dump_request(family)) if b[0] == family
        ]
        if wanted and not bodies:
            # our routes would end up in main
            raise OSError(errno.EOPNOTSUPP, "this kernel does not route by rules")
        rules = {rule for body in bodies if (rule := our_rule(body, table)) is not None}
        if not wanted:
            removed = self._change_rules(RTM_DELRULE, rules, table)
            return _total(removed, self._mirror(family, wanted=False))
        routes = self._mirror(family, wanted=True)
        added = self._change_rules(RTM_NEWRULE, wanted - rules, table)
        extra = frozenset[tuple[Vip, int]]() if added.refused else rules - wanted
        put_back = Outcome(put_back=added.changes if self._has_rules else 0)
        return _total(routes, added, put_back, self._change_rules(RTM_DELRULE, extra, table))

    def _mirror(self, family: int, *, wanted: bool) -> Outcome:
        """Read both tables and change ours until they agree."""
        made = put_back = 0
        errors: dict[Copy, str] = {}
        for _ in range(ROUNDS):
            expected = self._expected(family) if wanted else frozenset[Copy]()
            requests = changes_to(expected, self._present(family))
            if not requests:
                self._in_place[family] = expected
                break
            codes = self._netlink.change(requests)
            done = sum(not code for code in codes)
            made += done
            put_back += done if expected == self._in_place.get(family) else 0
            errors |= self._note_refused(requests, codes)
            self._in_place[family] = expected
        return Outcome(len(expected), made, tuple(errors.values()), put_back)

    def _note_refused(self, requests: Iterable[Request], codes: Iterable[int]) -> dict[Copy, str]:
        """Remember which routes the kernel refused; return a line for each."""
        lines: dict[Copy, str] = {}
        for request, code in zip(requests, codes, strict=True):
            if not code or code in HARMLESS:
                continue
            route = parse(request.body)
            copy = copy_of(route, self._goal.table)
            lines[copy] = f"{route}: {os.strerror(code)}"
            if request.kind == RTM_NEWROUTE:
                self._refused.add(copy)
        return lines

    def _expected(self, family: int) -> frozenset[Copy]:
        """Return the copies of what is in the main table now."""
        goal = self._goal

        def copy(body: bytes) -> Copy:
            route = lowered(parse(body), self._mtus, goal.underlay_mtu, goal.overhead)
            return copy_of(route, goal.table)

        bodies = read_table(self._netlink, family, RT_TABLE_MAIN)
        copies = self._copies((family, RT_TABLE_MAIN), filter(is_mirrored, bodies), copy)
        if not self._refused:
            return copies
        return frozenset(
            copy_of(thrown(parse(copy.body)), goal.table) if copy in self._refused else copy
            for copy in copies
        )

    def _present(self, family: int) -> frozenset[Copy]:
        """Return the copies that our table has."""
        table = self._goal.table
        read = read_table(self._netlink, family, table)
        bodies = [body for body in read if protocol_of(body) == OUR_PROTOCOL]
        return self._copies((family, table), bodies, lambda body: copy_of(parse(body), table))

    def _copies(
        self, source: tuple[int, int], bodies: Iterable[bytes], make: Callable[[bytes], Copy]
    ) -> frozenset[Copy]:
        """Make copies of messages; those that were there the last time are cached."""
        known = self._known.get(source, {})
        now = {body: known.get(body) or make(body) for body in bodies}
        self._known[source] = now
        return frozenset(now.values())

    def _change_rules(self, kind: int, rules: Iterable[tuple[Vip, int]], table: int) -> Outcome:
        requests = [change_rule(kind, prefix, table, priority) for prefix, priority in rules]
        codes = self._netlink.change(requests)
        wrong = tuple(f"a rule: {os.strerror(c)}" for c in codes if c and c not in HARMLESS)
        return Outcome(0, codes.count(0), wrong)
