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
from controlplane.domain.objects import CLUSTER, Cluster, Server, ServerState
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
