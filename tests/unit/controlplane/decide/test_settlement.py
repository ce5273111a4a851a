"""Who counts, what is settled, who holds it back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import counts
from controlplane.decide.views import FleetView
from controlplane.domain.objects import CLUSTER, Cluster, Server, ServerState

ALIVE = ServerView("a", known=True, heard=True)
SILENT = ServerView("a", known=True, silent=True, silent_seconds=29.9)
NEVER = ServerView("a")


def server(name: str, state: ServerState = ServerState.ACTIVE, index: int = 1) -> Server:
    return Server(name, IPv4Address("10.1.0.0") + index, index, state)


@pytest.mark.parametrize(
    ("state", "view", "counted"),
    [
        (ServerState.REGISTERED, ALIVE, True),
        (ServerState.REGISTERED, SILENT, True),
        (ServerState.REGISTERED, NEVER, False),
        (ServerState.JOINING, NEVER, True),
        (ServerState.ACTIVE, NEVER, True),
        (ServerState.DRAINING, NEVER, True),
        (ServerState.ACTIVE, SILENT, True),
        (ServerState.DRAINING, ALIVE, True),
        (ServerState.DOWN, ALIVE, False),
        (ServerState.DOWN, SILENT, False),
        (ServerState.ACTIVE, replace(ALIVE, stopped=True), False),
        (ServerState.DRAINING, replace(ALIVE, leaving=True), True),
        (ServerState.DRAINING, replace(ALIVE, leaving=True, withdrawn=True), False),
    ],
)
def test_who_counts(state: ServerState, view: ServerView, counted: bool) -> None:
    assert counts(server("a", state), view) is counted


def settle(
    views: dict[str, ServerView], acknowledged: dict[str, int], generation: int = 5
) -> tuple[bool, bool, tuple[str, ...]]:
    servers = tuple(server(name, index=i) for i, name in enumerate(views, 1))
    taken = {name: {CLUSTER: generation} for name, generation in acknowledged.items()}
    fleet = FleetView(Cluster(generation, servers=servers), views, {}, taken, 30.0)
    found = fleet.settlement(CLUSTER, generation)
    return found.settled, found.passable, found.waiting_for


def test_all_have_it_or_a_newer_one() -> None:
    assert settle({"a": ALIVE, "b": ALIVE}, {"a": 5, "b": 6}) == (True, True, ())


def refusal(*servers: tuple[str, ServerView], taken: str = "") -> tuple[bool, tuple[str, ...]]:
    """Generation 5: whether it is refused for good, and by whom."""
    known = tuple(server(name, index=i) for i, (name, _) in enumerate(servers, 1))
    cluster = Cluster(5, servers=known)
    fleet = FleetView(cluster, dict(servers), {}, {taken: {CLUSTER: 5}}, 30.0)
    found = fleet.settlement(CLUSTER, 5)
    assert not found.passable
    return found.refused, found.refusing


def test_a_generation_is_refused_when_all_say_so_who_could_still_take_it() -> None:
    no = replace(ALIVE, refused_cluster=5)
    old = replace(ALIVE, refused_cluster=4)
    long_silent = replace(SILENT, silent_seconds=30.0)
    assert refusal(("a", no), ("b", no)) == (True, ("a", "b"))
    assert refusal(("a", no), ("b", ALIVE), taken="b") == (True, ("a",))
    assert refusal(("a", no), ("b", long_silent)) == (True, ("a",))
    assert refusal(("a", no), ("b", ALIVE)) == (False, ("a",))
    assert refusal(("a", no), ("b", SILENT)) == (False, ("a",))
    assert refusal(("a", no), ("b", old)) == (False, ("a",))
    assert refusal(("a", old)) == (False, ())


def test_what_an_agent_says_of_the_cluster_document_is_not_about_tables() -> None:
    cluster = Cluster(5, servers=(server("a"),))
    no = {"a": replace(ALIVE, refused_cluster=5)}
    fleet = FleetView(cluster, no, {}, {}, 30.0)
    assert fleet.settlement("table/web", 5).refusing == ()
    assert fleet.settlement(CLUSTER, 5).refusing == ("a",)


def test_one_lags() -> None:
    assert settle({"a": ALIVE, "b": ALIVE}, {"a": 5, "b": 4}) == (False, False, ("b",))
    assert settle({"a": ALIVE, "b": ALIVE}, {"a": 5}) == (False, False, ("b",))


def test_a_silent_agent_counts_until_joins_and_drains_have_waited() -> None:
    assert settle({"a": ALIVE, "b": SILENT}, {"a": 5}) == (False, False, ("b",))
    long_silent = replace(SILENT, silent_seconds=30.0)
    assert settle({"a": ALIVE, "b": long_silent}, {"a": 5}) == (False, True, ("b",))


def test_one_who_speaks_and_lags_is_always_waited_for() -> None:
    long_silent = replace(SILENT, silent_seconds=300.0)
    views = {"a": ALIVE, "b": long_silent}
    assert settle(views, {}) == (False, False, ("a", "b"))


def test_a_silent_agent_that_acknowledged_holds_nobody_back() -> None:
    assert settle({"a": ALIVE, "b": SILENT}, {"a": 5, "b": 5}) == (True, True, ())


def test_another_kinds_acknowledgement_is_none() -> None:
    cluster = Cluster(1, servers=(server("a"),))
    fleet = FleetView(cluster, {"a": ALIVE}, {}, {"a": {CLUSTER: 9, "table/dns": 9}}, 30.0)
    assert fleet.settlement("table/web", 1).waiting_for == ("a",)
