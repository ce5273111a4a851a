"""When `lbctl drain --wait` may report that a drain is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np

from controlplane.decide.server_state import ServerView
from controlplane.decide.views import FleetView
from controlplane.documents.presence import Dump, PoolPresence
from controlplane.domain.objects import CLUSTER, Cluster, Report, Server, ServerState, Strays
from controlplane.domain.table_facts import TableFacts
from controlplane.operator.drain import DrainProgress, occupied_buckets, progress

ALIVE = ServerView("", known=True, heard=True)
SILENT = replace(ALIVE, heard=False, silent=True, silent_seconds=60.0)
GENERATIONS = {CLUSTER: 4, "table/web": 7}
NOWHERE = {"web": TableFacts(named=frozenset({1, 2}), current={2: 256})}
ALL = {"s1": GENERATIONS, "s2": GENERATIONS}
DRAINING = ServerState.DRAINING


def ask(
    state: ServerState = DRAINING,
    facts: Mapping[str, TableFacts] = NOWHERE,
    acknowledged: Mapping[str, Mapping[str, int]] = ALL,
    connections: int = 0,
    **views: ServerView,
) -> DrainProgress:
    servers = (
        Server("s1", IPv4Address("10.1.0.1"), 1, state),
        Server("s2", IPv4Address("10.1.0.2"), 2, ServerState.ACTIVE),
    )
    seen = {name: replace(views.get(name, ALIVE), name=name) for name in ("s1", "s2")}
    cut_off = (Strays("web", "forced", connections // 2),)
    reports = {"s1": Report("s1", "boot", 1, 0.0, connections=connections, strays=cut_off)}
    fleet = FleetView(Cluster(4, servers), seen, reports, acknowledged, 30.0)
    return progress("s1", facts, GENERATIONS, fleet)


def test_current_nowhere_settled_and_without_connections_it_is_done() -> None:
    assert ask().done


def test_a_bucket_a_connection_or_a_request_not_seen_yet_holds_it_back() -> None:
    some = {**NOWHERE, "mail": TableFacts(named=frozenset({1}), current={1: 3})}
    assert (ask(facts=some).done, ask(facts=some).buckets) == (False, 3)
    assert not ask(connections=1).done
    assert not ask(ServerState.ACTIVE).done
    assert "has not acted yet" in str(ask(ServerState.ACTIVE))


def test_somebody_who_forwards_by_an_older_table_holds_it_back() -> None:
    behind = {**ALL, "s2": {CLUSTER: 4, "table/web": 6}}
    found = ask(acknowledged=behind)
    assert (found.done, found.waiting_for) == (False, ("s2",))
    assert ask(acknowledged=behind, s2=SILENT).done, "one silent for long is not waited for"
    assert ask(acknowledged={**ALL, "s2": {CLUSTER: 1, "table/web": 7}}).done


def test_connections_that_nobody_tells_of_are_not_none() -> None:
    found = ask(s1=SILENT)
    assert (found.done, found.connections) == (False, None)


def test_connections_that_are_cut_off_are_shown_and_waited_for() -> None:
    """The number of those is older than that of all: some of them may be gone."""
    assert str(ask(connections=12)) == "has 12 connections (6 of them cut off already)"
    assert not ask(connections=12).done


def test_one_that_is_gone_is_not_waited_for() -> None:
    assert ask(ServerState.DOWN, connections=5).done
    assert ask(connections=5, s1=replace(ALIVE, stopped=True)).done


def test_it_shows_in_how_many_buckets_connections_are_left() -> None:
    occupied = np.arange(256) < 3
    pools = {name: PoolPresence("0" * 16, 256, 7, occupied) for name in ("web", "mail")}
    older = Dump(1, None, 1, None, {})
    assert occupied_buckets([]) is None
    left = occupied_buckets([older, Dump(2, None, 1, None, pools)])
    assert str(DrainProgress(0, (), 14, in_buckets=left)) == "has 14 connections, in 6 buckets"
    assert str(DrainProgress(0, (), 14)) == "has 14 connections"
