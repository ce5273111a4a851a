"""The life of a server, every state against every situation."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from controlplane.decide.server_state import ServerView, next_state
from controlplane.domain.objects import ServerState

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
ALIVE = ServerView("a", known=True, heard=True)
SILENT = ServerView("a", known=True, silent=True, silent_seconds=100.0, probes_failed=2)
NEVER = ServerView("a")
STOPPED = replace(ALIVE, stopped=True)
REQUESTED = replace(ALIVE, drain_requested=True)
REMOVED = replace(ALIVE, configured=False)
LEAVING = replace(ALIVE, leaving=True)


def follow(
    state: ServerState, view: ServerView, may_join: bool = True, full_share: bool = False
) -> ServerState:
    return next_state(state, view, may_join=may_join, full_share=full_share)


@pytest.mark.parametrize(
    ("state", "view", "following"),
    [
        (REGISTERED, ALIVE, JOINING),
        (REGISTERED, NEVER, REGISTERED),
        (REGISTERED, SILENT, REGISTERED),
        (REGISTERED, STOPPED, REGISTERED),
        (REGISTERED, REQUESTED, REGISTERED),
        (REGISTERED, REMOVED, REGISTERED),
        (JOINING, ALIVE, JOINING),
        (JOINING, SILENT, JOINING),
        (JOINING, REQUESTED, DRAINING),
        (JOINING, REMOVED, DRAINING),
        (ACTIVE, ALIVE, ACTIVE),
        (ACTIVE, SILENT, ACTIVE),
        (ACTIVE, NEVER, ACTIVE),
        (ACTIVE, REQUESTED, DRAINING),
        (ACTIVE, REMOVED, DRAINING),
        (DRAINING, REQUESTED, DRAINING),
        (DRAINING, REMOVED, DRAINING),
        (DRAINING, ALIVE, JOINING),
        (DRAINING, SILENT, DRAINING),
        (DRAINING, STOPPED, DRAINING),
        (DOWN, ALIVE, REGISTERED),
        (DOWN, SILENT, DOWN),
        (DOWN, STOPPED, DOWN),
        (DOWN, REMOVED, DOWN),
        (DOWN, REQUESTED, REGISTERED),
        (REGISTERED, LEAVING, REGISTERED),
        (JOINING, LEAVING, DRAINING),
        (ACTIVE, LEAVING, DRAINING),
        (DRAINING, LEAVING, DRAINING),
        (DOWN, LEAVING, DOWN),
    ],
)
def test_steps_of_a_life(state: ServerState, view: ServerView, following: ServerState) -> None:
    assert follow(state, view) is following


@pytest.mark.parametrize("state", ServerState)
def test_a_server_that_leaves_is_down_once_no_table_in_use_names_it(state: ServerState) -> None:
    assert next_state(state, LEAVING, may_join=True, full_share=True, unused=True) is DOWN
    follows = next_state(state, ALIVE, may_join=True, full_share=True, unused=True)
    assert follows is not DOWN, "it did not ask"


def test_newcomers_wait_until_they_may_join() -> None:
    assert follow(REGISTERED, ALIVE, may_join=False) is REGISTERED


def test_a_full_share_makes_a_joining_server_active() -> None:
    assert follow(JOINING, ALIVE, full_share=True) is ACTIVE
    assert follow(DRAINING, ALIVE, full_share=True) is JOINING


def test_nothing_but_a_death_makes_a_server_down() -> None:
    views = (ALIVE, SILENT, NEVER, STOPPED, REQUESTED, REMOVED)
    for state, view, may, full in itertools.product(ServerState, views, (0, 1), (0, 1)):
        if state is not DOWN:
            assert follow(state, view, bool(may), bool(full)) is not DOWN


@pytest.mark.parametrize(
    ("view", "dead"),
    [
        (replace(SILENT, probes_failed=3), True),
        (SILENT, False),
        (replace(SILENT, probes_failed=0), False),
        (replace(SILENT, probes_failed=3, known=False), False),
        (replace(ALIVE, probes_failed=3), False),
        (STOPPED, True),
        (replace(SILENT, stopped=True, probes_failed=0), True),
        # A fresh controller finds an old last word in the store: it waits for the silence rule.
        (replace(NEVER, known=True, stopped=True), False),
    ],
)
def test_a_death_needs_silence_and_failing_probes_or_the_servers_own_word(
    view: ServerView, dead: bool
) -> None:
    assert view.dead(probe_count=3) is dead
