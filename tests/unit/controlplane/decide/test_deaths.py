"""Who is declared down, and when that would be too many at once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from controlplane.decide.deaths import Deaths, find_deaths
from controlplane.decide.server_state import ServerView
from controlplane.domain.objects import Cluster, Server, ServerState

ALIVE = ServerView("", known=True, heard=True)
DEAD = ServerView("", known=True, silent=True, silent_seconds=2, probes_failed=3)
SUSPECT = replace(DEAD, probes_failed=1)
SILENT = replace(DEAD, probes_failed=0)
STOPPED = replace(ALIVE, stopped=True)


def deaths(
    *views: ServerView,
    states: dict[int, ServerState] | None = None,
    recently: set[str] | None = None,
    threshold: float = 0.5,
) -> Deaths:
    servers = tuple(
        Server(f"s{i}", IPv4Address(i), i, (states or {}).get(i, ServerState.ACTIVE))
        for i in range(1, len(views) + 1)
    )
    return find_deaths(
        Cluster(1, servers=servers),
        {f"s{i}": view for i, view in enumerate(views, 1)},
        probe_count=3,
        panic_threshold=threshold,
        recently_down=recently or set(),
    )


def test_one_of_four() -> None:
    assert deaths(ALIVE, DEAD, ALIVE, ALIVE) == Deaths(frozenset({"s2"}))


def test_one_of_two_is_no_majority() -> None:
    assert deaths(ALIVE, DEAD).dead == {"s2"}


def test_silence_alone_kills_nobody() -> None:
    assert deaths(SILENT, SILENT, SILENT) == Deaths()


def test_a_majority_at_once_is_not_believed() -> None:
    assert deaths(DEAD, DEAD, ALIVE) == Deaths(withheld=frozenset({"s1", "s2"}))


def test_those_with_one_failed_probe_count_already() -> None:
    found = deaths(DEAD, SUSPECT, SUSPECT, ALIVE)
    assert found == Deaths(withheld=frozenset({"s1"}))


def test_those_just_declared_down_count_still() -> None:
    states = {1: ServerState.DOWN, 2: ServerState.DOWN}
    found = deaths(SILENT, SILENT, DEAD, ALIVE, states=states, recently={"s1", "s2"})
    assert found.withheld == {"s3"}
    later = deaths(SILENT, SILENT, DEAD, ALIVE, states=states)
    assert later.dead == {"s3"}


def test_the_threshold_is_a_setting() -> None:
    assert deaths(DEAD, DEAD, DEAD, threshold=1.0).dead == {"s1", "s2", "s3"}
    assert deaths(DEAD, ALIVE, ALIVE, threshold=0.3).withheld == {"s1"}


def test_what_agents_say_themselves_is_believed() -> None:
    assert deaths(STOPPED, STOPPED, STOPPED) == Deaths(frozenset({"s1", "s2", "s3"}))
    mixed = deaths(STOPPED, DEAD, ALIVE, ALIVE)
    assert mixed.dead == {"s1", "s2"}


def test_registered_servers_die_without_counting() -> None:
    states = {1: ServerState.REGISTERED, 2: ServerState.REGISTERED}
    assert deaths(DEAD, DEAD, ALIVE, states=states).dead == {"s1", "s2"}


def test_the_dead_die_once() -> None:
    assert deaths(DEAD, ALIVE, states={1: ServerState.DOWN}) == Deaths()
