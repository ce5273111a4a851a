"""What an agent that refused a cluster document does with those that come after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.objects import Cluster
from controlplane.store.state_dir import StateDir
from lb.agent.documents.follower import Batch, Follower, StoreTrouble
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.documents.intake import Intake
from lb.agent.facts import SharedFacts
from tests.unit.lb.agent.fakes import KEY, FakeDataplane, FakeStore, FakeVips, a_cluster, a_table

BOTH = ("web", "api")


class World:
    """A store, and the agent's way from there to the data plane; ``web`` is in use."""

    def __init__(self, state_dir: Path) -> None:
        self.store = FakeStore()
        self.facts = SharedFacts(0.0)
        self.dataplane = FakeDataplane([])
        self.in_use = DocumentsInUse(self.dataplane, FakeVips([]))
        self.intake = Intake(self.in_use, StateDir(state_dir), self.facts, lambda _: None)
        self.follower = Follower(self.store, self.facts, self._deliver)
        self.store.put(a_table(1, [1, 2]))
        self.step(a_cluster(1))
        assert self.in_use.generations() == {"cluster": 1, "table/web": 1}

    def _deliver(self, what: Batch | StoreTrouble) -> None:
        assert isinstance(what, Batch)
        self.intake.take(what)

    def step(self, cluster: Cluster, *, refuse: bool = False) -> None:
        """Publish a cluster document and follow it."""
        self.dataplane.fail_on = "set_cluster" if refuse else ""
        self.store.put(cluster)
        self.follower.step()
        assert self.facts.current.refused_cluster == (cluster.generation if refuse else 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


def test_the_table_of_a_pool_that_a_refused_document_added_is_there_when_the_pool_is(
    world: World,
) -> None:
    """It was built on the last settled document, and is fetched once."""
    world.store.put(a_table(1, [2, 1], 1, pool="api"))
    world.step(a_cluster(2, pools=BOTH), refuse=True)
    world.step(a_cluster(3, pools=BOTH, vips=()), refuse=True)
    assert world.in_use.generations() == {"cluster": 1, "table/web": 1}
    assert world.facts.current.troubles.keys() == {"cluster"}, "the table waits, it is not refused"
    world.step(a_cluster(4, pools=BOTH))
    assert world.in_use.generations() == {"cluster": 4, "table/web": 1, "table/api": 1}
    assert world.dataplane.tables["api"] == (2, 1)
    assert world.facts.current.troubles == {}


def test_a_table_that_waits_is_loaded_with_the_key_that_its_pool_has_by_then(world: World) -> None:
    world.store.keys |= {"spoilt": bytes(16), "k2": KEY}
    world.store.put(a_table(1, [2, 1], 1, pool="api"))
    api = a_cluster(2, pools=("api",), key_id="spoilt").pools[0]
    for generation, key_id, refuse in ((2, "spoilt", True), (3, "k2", False)):
        basis = a_cluster(generation, pools=BOTH)
        pools = (basis.pools[0], api.__class__("api", api.buckets, api.depth, key_id=key_id))
        world.step(Cluster(generation, basis.servers, basis.services, pools), refuse=refuse)
    assert world.in_use.generations()["table/api"] == 1


def test_a_table_waits_no_longer_than_until_the_settings_do_without_its_pool(world: World) -> None:
    world.store.put(a_table(1, [2, 1], 1, pool="api"))
    world.step(a_cluster(2, pools=BOTH), refuse=True)
    assert world.in_use.waiting == {"api"}
    world.step(a_cluster(3))
    assert world.in_use.waiting == frozenset()
    world.step(a_cluster(4, pools=BOTH))
    assert world.in_use.generations()["table/api"] == 1, "the follower brings it again"


def test_a_pool_that_was_never_let_go_goes_on_with_its_table(world: World) -> None:
    """The table comes a second time with the pool: it is no stale one, it is the one in use."""
    world.step(a_cluster(2, pools=("api",)), refuse=True)
    world.step(a_cluster(3))
    assert world.in_use.generations() == {"cluster": 3, "table/web": 1}
    assert world.facts.current.troubles == {}
    assert world.intake.refused_pools == set()
