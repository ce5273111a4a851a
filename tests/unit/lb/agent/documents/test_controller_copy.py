"""The copy of the controller's state on a server's disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.documents.controller import decode_controller, encode_controller
from controlplane.domain.controller_state import CONTROLLER, ControllerState, DrainRequest
from controlplane.domain.objects import CLUSTER
from controlplane.store.contract import StoreCorrupt, StoreUnavailable, Version
from controlplane.store.state_dir import StateDir, read_state_dir
from lb.agent.documents.controller_copy import (
    FETCH_AGAIN_SECONDS,
    FETCH_SECONDS,
    SAVE_TIME_SECONDS,
    ControllerCopy,
)
from tests.unit.lb.agent.fakes import FakeStore, a_cluster, encoded

STATE = ControllerState(5000.0, {}, {"web": {"s1": 1.5}}, {"s2": DrainRequest("a@b", 1.0, "disk")})


class World:
    """A store with a state of the controller, an agent's disk, and a clock."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.answer: Version | Exception | None = None
        self.asked = 0
        self.files = StateDir(directory)
        store = FakeStore()
        self.cluster_generation = 0
        monkeypatch.setattr(store, "latest", self._latest)
        monkeypatch.setattr(store, "kinds", lambda: {CLUSTER: self.cluster_generation})
        self._copy = ControllerCopy(store, self.files, lambda: self.now)

    def _latest(self, kind: str) -> Version | None:
        assert kind == CONTROLLER
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def poll(self, state: ControllerState | Exception | bytes | None) -> ControllerState | None:
        """Let the time to fetch pass, and return what is on the disk then."""
        self.now += FETCH_SECONDS
        if isinstance(state, ControllerState):
            self.answer = Version(CONTROLLER, 1, encode_controller(state, 1))
        elif isinstance(state, bytes):
            self.answer = Version(CONTROLLER, 1, state)
        else:
            self.answer = state
        self._copy.refresh()
        saved = self.files.load_document(CONTROLLER)
        return decode_controller(saved) if saved else None

    def refresh(self) -> None:
        self._copy.refresh()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_it_is_saved_for_a_seeding_controller(world: World) -> None:
    assert world.poll(None) is None
    assert world.poll(STATE) == STATE
    world.files.save_document("cluster", b"c")
    saved = read_state_dir(world.files.directory)
    assert saved.documents == {"cluster": b"c"}, "it is not a document that agents use"
    assert saved.controller == encode_controller(STATE, 1)


@pytest.mark.parametrize(
    "bad", [StoreCorrupt("an earlier controller"), StoreUnavailable("gone"), b"", b"{}"]
)
def test_what_is_bad_replaces_nothing(world: World, bad: Exception | bytes) -> None:
    assert world.poll(STATE) == STATE
    assert world.poll(bad) == STATE
    world.now += FETCH_AGAIN_SECONDS
    newer = replace(STATE, requests={})
    assert world.poll(newer) == newer


def test_it_is_fetched_now_and_then_not_at_every_poll(world: World) -> None:
    world.poll(STATE)
    world.refresh()
    world.now += FETCH_SECONDS - 1
    world.refresh()
    assert world.asked == 1


def test_an_earlier_controller_is_asked_less_often(world: World) -> None:
    world.poll(StoreCorrupt("'controller' is not a kind of document"))
    world.poll(STATE)
    assert world.asked == 1
    world.now += FETCH_AGAIN_SECONDS - FETCH_SECONDS
    assert world.poll(STATE) == STATE


def test_time_alone_is_saved_less_often(world: World) -> None:
    world.poll(STATE)
    soon = replace(STATE, fleet_seconds=STATE.fleet_seconds + SAVE_TIME_SECONDS - 1)
    assert world.poll(soon) == STATE
    later = replace(STATE, fleet_seconds=STATE.fleet_seconds + SAVE_TIME_SECONDS)
    assert world.poll(later) == later


def test_a_store_that_began_anew_does_not_take_what_the_seed_needs(world: World) -> None:
    """An empty store under a controller made every server lose the requests within 12 s."""
    world.files.save_document(CLUSTER, encoded(a_cluster(7)))
    world.cluster_generation = 7
    assert world.poll(STATE) == STATE
    anew = replace(STATE, requests={}, shares={})
    for generation in (0, 1, 6):
        world.cluster_generation = generation
        assert world.poll(anew) == STATE
    world.cluster_generation = 9
    newer = replace(STATE, requests={})
    assert world.poll(newer) == newer
    world.cluster_generation = 8
    assert world.poll(STATE) == newer


def test_an_agent_that_starts_beside_a_store_that_began_anew_keeps_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    world.files.save_document(CLUSTER, encoded(a_cluster(7)))
    world.files.save_document(CONTROLLER, encode_controller(STATE, 5))
    world.cluster_generation = 1
    assert world.poll(replace(STATE, requests={})) == STATE
