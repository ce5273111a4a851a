"""What the controller remembers of tables in use, marks and dumps, from round to round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import numpy as np
import pytest

from controlplane.builder import Occupancy
from controlplane.decide.empty_hops import COOKIE_SECONDS, FLIGHT_SECONDS, OPENING_SECONDS
from controlplane.decide.settlement import Settlement
from controlplane.documents.presence import Dump, Mark, PoolPresence, key_id_of
from controlplane.domain.objects import UDP, Cluster, Pool, Server, Service, Table
from controlplane.publish import empty_hops
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.empty_hops import COST_SHARE, EmptyHops, opening_seconds
from controlplane.store.contract import StoreUnavailable
from controlplane.store.file.store import FileStore

POOL = Pool("web", buckets=256, depth=2, key_id="web-1")
KEY = bytes(16)
SERVERS = tuple(Server(f"s{i}", IPv4Address(f"10.0.0.{i}"), i) for i in (1, 2))
SETTLED = Settlement("table/web", 5)
LAGGING = Settlement("table/web", 5, waiting_for=("s1",))
DUE = 100.0 + FLIGHT_SECONDS


def table(generation: int = 5) -> Table:
    chains = np.tile(np.array([1, 2], dtype=np.uint16), (256, 1))
    return Table("web", generation, 3, chains, np.zeros(256, dtype=np.uint32))


class Term:
    """One leader's term, and an agent on s2 that has no connections."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.dumps: tuple[Dump, ...] = ()
        self.reads = 0
        self.hops = EmptyHops(store, ConditionLog(), self._last)

    def _last(self, server: str) -> tuple[Dump, ...]:
        self.reads += 1
        return self.dumps if server == "s2" else ()

    def follow(
        self, now: float, settlement: Settlement = SETTLED, *, changing: bool = True
    ) -> None:
        cluster = Cluster(7, SERVERS)
        self.hops.follow(cluster, {"web": settlement}, {"web"} if changing else (), now)

    def mark(self) -> Mark | None:
        path = self.store.directory / "mark"
        if not path.exists():
            return None
        epoch, number = path.read_text().split(".")
        return Mark(int(epoch), int(number))

    def dump(self, now: float, *, cluster: int = 7) -> None:
        """Take two dumps with the newest mark, and let the controller read them."""
        pools = {"web": PoolPresence(key_id_of(KEY), 256, 0, np.zeros(256, dtype=np.bool_))}
        mark = self.mark()
        self.dumps = tuple(Dump(n, mark, cluster, None, pools) for n in (1, 2))
        self.hops.read(SERVERS, now)

    def known(self, newest: Table | None = None) -> Occupancy | None:
        return self.hops.occupancy(POOL, newest or table(), SERVERS)

    def leaving(self, newest: Table | None = None) -> int:
        found = self.known(newest)
        assert found is not None
        return int(found.may_leave.sum())


@pytest.fixture
def term(tmp_path: Path) -> Iterator[Term]:
    store = FileStore(tmp_path / "store")
    store.put_key(POOL.key_id, KEY)
    yield Term(store)
    store.close()


def test_hops_leave_after_a_mark_and_two_dumps(term: Term) -> None:
    term.follow(100.0)
    term.follow(DUE - 0.1)
    assert term.mark() is None
    term.follow(DUE)
    first = term.mark()
    assert first is not None
    term.follow(DUE + 1)
    assert term.mark() == first, "one is enough"
    term.dump(DUE + 1)
    assert term.leaving() == 256
    term.follow(DUE + COOKIE_SECONDS)
    assert term.mark() == Mark(first.epoch, first.number + 1)


def test_a_pool_at_rest_needs_no_mark(term: Term) -> None:
    for now in (100.0, DUE, DUE + COOKIE_SECONDS):
        term.follow(now, changing=False)
    assert term.mark() is None


def test_nothing_leaves_once_the_table_is_not_settled_any_more(term: Term) -> None:
    """A server that was down comes back, and has an old table."""
    term.follow(100.0)
    term.follow(DUE)
    term.dump(DUE)
    assert term.leaving() == 256
    term.follow(DUE + 1, LAGGING)
    assert term.leaving() == 0
    term.follow(DUE + 2)
    assert term.leaving() == 0, "it begins anew"


def test_dumps_prove_nothing_about_another_table(term: Term) -> None:
    term.follow(100.0)
    term.follow(DUE)
    term.dump(DUE)
    assert term.leaving() == 256
    assert term.leaving(table(6)) == 0


def test_dumps_must_be_by_the_cluster_document_of_the_mark(term: Term) -> None:
    term.follow(100.0)
    term.follow(DUE)
    term.dump(DUE, cluster=6)
    assert term.leaving() == 0


def test_another_terms_marks_prove_nothing(term: Term) -> None:
    term.follow(100.0)
    term.follow(DUE)
    term.dump(DUE)
    successor = Term(term.store)
    successor.follow(100.0)
    successor.follow(DUE)
    successor.dumps = term.dumps
    successor.hops.read(SERVERS, DUE)
    assert successor.leaving() == 0


def test_without_the_key_nothing_is_known(term: Term) -> None:
    term.follow(100.0)
    term.dump(100.0)
    assert term.known() is not None
    other = Pool("web", buckets=256, depth=2, key_id="lost")
    assert term.hops.occupancy(other, table(), SERVERS) is None


def test_it_is_known_how_long_a_server_has_sent_no_dump(term: Term) -> None:
    """From the beginning of this term, or from its last dump on."""
    term.follow(100.0)
    for now, silent in ((100.0, [0.0, 0.0]), (160.0, [60.0, 60.0])):
        term.hops.read(SERVERS, now)
        found = term.known()
        assert found is not None
        assert not found.known.any()
        assert found.silent_seconds[1:3].tolist() == silent
    term.dump(220.0, cluster=1)
    found = term.known()
    assert found is not None
    assert not found.known.any(), "it is void"
    assert found.silent_seconds[1:3].tolist() == [120.0, 0.0]
    term.dumps = ()
    term.hops.read(SERVERS, 280.0)
    found = term.known()
    assert found is not None
    assert found.silent_seconds[1:3].tolist() == [180.0, 60.0]


def test_a_mark_that_the_store_does_not_take_is_given_out_later(
    term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_mark: Mark) -> None:
        raise StoreUnavailable("full")

    term.follow(100.0)
    with monkeypatch.context() as patch:
        patch.setattr(term.store, "put_mark", fails)
        term.follow(DUE)
    term.dump(DUE)
    assert term.leaving() == 0
    term.follow(DUE + 1)
    assert term.mark() is not None


def test_reading_dumps_leaves_the_thread_its_time(
    term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    term.dump(100.0)
    read = term.reads
    term.hops.read(SERVERS, 100.0)
    assert term.reads == read
    term.hops.read(SERVERS, 160.0)
    assert term.reads == 2 * read
    term.follow(160.0)
    monkeypatch.setattr(empty_hops, "occupancy", lambda *_: time.sleep(0.2))
    term.known()
    term.hops.read(SERVERS, 200.0)
    term.hops.read(SERVERS, 200.0 + 0.2 / COST_SHARE - 0.1)
    assert term.reads == 3 * read


def test_a_pool_with_udp_waits_for_slow_applications() -> None:
    vip = IPv4Network("192.0.2.1")
    flows, queries = Service("f", vip, UDP, 1, "web"), Service("q", vip, UDP, 2, "dns", True)
    cluster = Cluster(7, services=(flows, queries))
    assert opening_seconds(cluster, "web") == OPENING_SECONDS
    assert opening_seconds(cluster, "dns") == 0.0
