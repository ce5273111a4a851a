"""Following a store: everything new once, cluster before tables, trouble reported and survived."""

from __future__ import annotations

import pytest

from controlplane.store.contract import StoreCorrupt, StoreDenied, StoreUnavailable, Version
from lb.agent.documents.follower import Batch, Follower, StoreTrouble
from lb.agent.facts import SharedFacts
from tests.unit.lb.agent.fakes import KEY, FakeStore, a_cluster, a_table, encoded


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def delivered() -> list[Batch | StoreTrouble]:
    return []


@pytest.fixture
def facts() -> SharedFacts:
    return SharedFacts(0.0)


@pytest.fixture
def follower(
    store: FakeStore, facts: SharedFacts, delivered: list[Batch | StoreTrouble]
) -> Follower:
    return Follower(store, facts, delivered.append, clock=lambda: 42.0)


def test_the_first_answer_is_delivered_even_if_there_is_nothing_yet(
    follower: Follower, delivered: list[Batch | StoreTrouble], facts: SharedFacts
) -> None:
    follower.step()
    assert delivered == [Batch()]
    assert facts.current.last_contact == 42.0
    assert facts.current.heard_at is not None
    follower.step()
    assert len(delivered) == 1


def test_that_a_controller_leads_is_delivered_once_and_known_from_then_on(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    store.led = False
    store.put(a_cluster(1))
    follower.step()
    follower.step()
    assert [isinstance(batch, Batch) and batch.led for batch in delivered] == [False]
    store.led = True
    follower.step()
    store.led = False
    follower.step()
    assert [isinstance(batch, Batch) and batch.led for batch in delivered] == [False, True]


def test_one_poll_brings_cluster_tables_and_keys(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    store.put(a_table(4, [1, 0]))
    store.put(a_cluster(1))
    follower.step()
    (batch,) = delivered
    assert isinstance(batch, Batch)
    assert batch.cluster == encoded(a_cluster(1))
    assert batch.cluster_generation == 1
    assert set(batch.tables) == {"web"}
    assert batch.keys == {"web-key": KEY}
    assert store.fetched.index("cluster") < store.fetched.index("table/web")


def test_nothing_is_fetched_twice(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    store.put(a_cluster(1))
    store.put(a_table(1, [1, 0]))
    follower.step()
    store.fetched.clear()
    store.put(a_table(2, [2, 0]))
    follower.step()
    assert store.fetched == ["table/web"]
    assert isinstance(delivered[-1], Batch)
    assert delivered[-1].cluster is None
    assert set(delivered[-1].tables) == {"web"}


def test_tables_of_unknown_pools_wait_until_the_cluster_has_the_pool(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    store.put(a_cluster(1, pools=("web",)))
    store.put(a_table(1, [1, 0], pool="dns"))
    follower.step()
    assert isinstance(delivered[-1], Batch)
    assert delivered[-1].tables == {}
    store.put(a_cluster(2, pools=("web", "dns")))
    follower.step()
    assert isinstance(delivered[-1], Batch)
    assert set(delivered[-1].tables) == {"dns"}


def test_a_document_that_cannot_be_read_is_delivered_for_refusal(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    store.put(a_cluster(1), data=b"{}")
    follower.step()
    assert isinstance(delivered[-1], Batch)
    assert delivered[-1].cluster == b"{}"


def test_trouble_is_reported_backed_off_and_over(
    store: FakeStore,
    follower: Follower,
    delivered: list[Batch | StoreTrouble],
    facts: SharedFacts,
) -> None:
    store.failure = StoreUnavailable("no route")
    pauses = [follower.step() for _ in range(3)]
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert delivered[-1] == StoreTrouble("no route", denied=False)
    assert facts.current.troubles == {"store": "no route"}
    store.failure = StoreDenied("wrong token")
    follower.step()
    assert delivered[-1] == StoreTrouble("wrong token", denied=True)
    store.failure = None
    store.put(a_cluster(1))
    assert follower.step() == 0
    assert isinstance(delivered[-1], Batch)
    assert facts.current.troubles == {}


def test_a_failure_in_the_middle_of_a_poll_loses_nothing(
    store: FakeStore,
    follower: Follower,
    delivered: list[Batch | StoreTrouble],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.put(a_cluster(1))
    store.put(a_table(1, [1, 0]))
    with monkeypatch.context() as patched:
        patched.setattr(store, "key", _unavailable)
        follower.step()
    assert isinstance(delivered[-1], StoreTrouble)
    follower.step()
    assert isinstance(delivered[-1], Batch)
    assert delivered[-1].cluster is not None
    assert delivered[-1].keys


def _unavailable(_: str) -> bytes:
    raise StoreUnavailable("gone")


def test_a_missing_key_does_not_hold_the_documents_back(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    store.keys.clear()
    store.put(a_cluster(1))
    follower.step()
    assert isinstance(delivered[-1], Batch)
    assert delivered[-1].cluster is not None
    assert delivered[-1].keys == {}


def test_the_table_of_a_pool_that_went_and_came_again_is_fetched_again(
    store: FakeStore, follower: Follower, delivered: list[Batch | StoreTrouble]
) -> None:
    """The agent forgot it with the pool, and the store's may stay the newest for long."""
    store.put(a_cluster(1, pools=("web", "dns")))
    store.put(a_table(7, [1, 0], pool="dns"))
    follower.step()
    store.put(a_cluster(2, pools=("web",)))
    follower.step()
    store.put(a_cluster(3, pools=("web", "dns")))
    follower.step()
    assert isinstance(delivered[-1], Batch)
    assert set(delivered[-1].tables) == {"dns"}


def test_a_document_spoilt_in_the_store_holds_no_other_back(
    store: FakeStore,
    follower: Follower,
    delivered: list[Batch | StoreTrouble],
    facts: SharedFacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.put(a_cluster(1, pools=("web", "dns")))
    store.put(a_table(1, [1, 0], pool="dns"))
    store.put(a_table(1, [1, 0], pool="web"))
    latest = store.latest

    def spoilt(kind: str) -> Version | None:
        if kind == "table/dns":
            raise StoreCorrupt("not a regular file")
        return latest(kind)

    with monkeypatch.context() as patched:
        patched.setattr(store, "latest", spoilt)
        follower.step()
    assert isinstance(delivered[-1], Batch)
    assert set(delivered[-1].tables) == {"web"}
    assert facts.current.troubles == {"store table/dns": "not a regular file"}
    store.put(a_table(2, [2, 0], pool="web"))
    follower.step()
    assert set(delivered[-1].tables) == {"web", "dns"}
    assert facts.current.troubles == {}
