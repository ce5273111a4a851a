"""What the cluster document's keeper remembers between rounds: who died just now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controlplane.decide.deaths import AT_ONCE_SECONDS
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.decide.views import FleetView
from controlplane.domain.controller_state import ControllerState
from controlplane.domain.objects import CLUSTER, Cluster, Server, ServerState
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.cluster import ClusterPublisher
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.file.store import FileStore

NAMES = ("s1", "s2", "s3", "s4")
CONFIG = ControlConfig.model_validate(
    {
        "probers": ["10.0.0.9"],
        "server": [{"name": name, "dip": f"10.1.0.{i}"} for i, name in enumerate(NAMES, 1)],
        "pool": [{"name": "web", "buckets": 256}],
    }
)
ALIVE = ServerView("", known=True, heard=True)
DEAD = ServerView("", known=True, silent=True, silent_seconds=2.0, probes_failed=3)
SILENT = replace(DEAD, probes_failed=0)
STOPPED = replace(ALIVE, stopped=True)


JOINING = ServerState.JOINING


class Keeper:
    """A cluster of four active servers, and its keeper."""

    def __init__(self, store: FileStore) -> None:
        self._published = Published(store)
        servers = tuple(
            Server(name, IPv4Address("10.1.0.0") + i, i, ServerState.ACTIVE)
            for i, name in enumerate(NAMES, 1)
        )
        self._published.publish_cluster(Cluster(1, servers, probers=frozenset(CONFIG.probers)))
        self._publisher = ClusterPublisher(store, self._published, ConditionLog())

    def look(self, now: float, **views: ServerView) -> str:
        """Do a round in which these servers are seen so; return who is down, as "s1 s2"."""
        cluster = self._published.cluster
        assert cluster is not None
        seen = {name: replace(views.get(name, ALIVE), name=name) for name in NAMES}
        settled = Settlement(CLUSTER, cluster.generation)
        self._publisher.publish_next(CONFIG, FleetView(cluster, seen), settled, now)
        cluster = self._published.cluster
        assert cluster is not None
        return " ".join(s.name for s in cluster.servers if s.state is ServerState.DOWN)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    store = FileStore(tmp_path)
    yield Keeper(store)
    store.close()


def test_deaths_soon_after_each_other_are_one_event(keeper: Keeper) -> None:
    assert keeper.look(100.0, s1=DEAD) == "s1"
    assert keeper.look(101.0, s1=SILENT, s2=DEAD) == "s1 s2"
    for now in (101.5, 105.0, 100.9 + AT_ONCE_SECONDS):
        assert keeper.look(now, s1=SILENT, s2=SILENT, s3=DEAD) == "s1 s2", "withheld"
    assert keeper.look(101.0 + AT_ONCE_SECONDS, s1=SILENT, s2=SILENT, s3=DEAD) == "s1 s2 s3"


def test_those_who_said_it_themselves_do_not_count(keeper: Keeper) -> None:
    assert keeper.look(100.0, s1=STOPPED, s2=STOPPED) == "s1 s2"
    assert keeper.look(101.0, s1=STOPPED, s2=STOPPED, s3=DEAD) == "s1 s2 s3"


def joining(store: FileStore, current: dict[int, int]) -> tuple[Published, ClusterPublisher]:
    """s4 joins by a document that this controller does not know to be settled."""
    published = Published(store)
    states = dict.fromkeys(NAMES, ServerState.ACTIVE) | {"s4": JOINING}
    servers = tuple(
        Server(name, IPv4Address("10.1.0.0") + i, i, state)
        for i, (name, state) in enumerate(states.items(), 1)
    )
    published.publish_cluster(Cluster(1, servers, probers=frozenset(CONFIG.probers)))
    published.facts["web"] = TableFacts(current=current)
    return published, ClusterPublisher(store, published, ConditionLog())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    made = FileStore(tmp_path / "store")
    yield made
    made.close()


def test_a_slow_start_that_another_controller_began_is_known_at_once(store: FileStore) -> None:
    """Without it, the server would get a full share until its document is known to be settled."""
    _, publisher = joining(store, {1: 80, 2: 80, 3: 80, 4: 16})
    publisher.resume(ControllerState(slow_start={"s4": 0.25}))
    assert publisher.ramps(CONFIG, 0.0) == {4: 0.25}
    assert publisher.slow_start(CONFIG, 0.0) == {"s4": 0.25}


@pytest.mark.parametrize(
    ("current", "shares", "ramp"),
    [
        ({1: 80, 2: 80, 3: 80, 4: 16}, {}, 0.2),
        ({1: 80, 2: 80, 3: 80}, {}, 0.0),
        ({1: 64, 2: 64, 3: 64, 4: 64}, {}, 1.0),
        ({1: 32, 2: 64, 3: 128, 4: 32}, {"s1": 0.5, "s3": 2.0, "s4": 0.5}, 1.0),
        ({4: 256}, {}, 1.0),
    ],
)
def test_who_joins_with_buckets_keeps_them(
    store: FileStore, current: dict[int, int], shares: dict[str, float], ramp: float
) -> None:
    """Its drain was cancelled before they had moved, or the stored state is lost."""
    _, publisher = joining(store, current)
    publisher.resume(ControllerState(shares={"web": shares}))
    assert publisher.ramps(CONFIG, 0.0)[4] == pytest.approx(ramp)


def test_before_the_first_table_a_join_needs_no_slow_start(store: FileStore) -> None:
    published, publisher = joining(store, {})
    published.facts.clear()
    assert publisher.ramps(CONFIG, 0.0) == {4: 1.0}
