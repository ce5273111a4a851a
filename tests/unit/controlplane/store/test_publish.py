"""The contract of publication: compare-and-set, whole or not at all, whatever happens."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from controlplane.store.contract import ControllerStore, StoreConflict, StoreCorrupt, Version
from netns.polling import wait_until
from tests.unit.controlplane.store.conftest import Backing
from tests.unit.controlplane.store.helpers import Worker, document, race, read_document

KIND = "table/web"


def publish_to(store: ControllerStore, newest: int, kind: str = KIND) -> None:
    for generation in range(store.kinds().get(kind, 0) + 1, newest + 1):
        store.publish(Version(kind, generation, document(generation, "me", 100)))


def test_an_empty_store_has_nothing(controller: ControllerStore) -> None:
    assert controller.latest("cluster") is None
    assert controller.kinds() == {}


def test_what_was_published_is_read_to_the_byte(backing: Backing) -> None:
    data = bytes(range(256)) * 1000
    backing.controller().publish(Version(KIND, 1, data))
    assert backing.controller().latest(KIND) == Version(KIND, 1, data)


@pytest.mark.parametrize("stale", [1, 2, 3, 5, 1000])
def test_only_the_newest_plus_one_is_taken(controller: ControllerStore, stale: int) -> None:
    publish_to(controller, 3)
    before = controller.latest(KIND)
    with pytest.raises(StoreConflict, match="3 is the newest"):
        controller.publish(Version(KIND, stale, b"stale"))
    assert controller.latest(KIND) == before
    controller.publish(Version(KIND, 4, b"next"))
    assert controller.kinds() == {KIND: 4}


def test_the_first_generation_is_one(controller: ControllerStore) -> None:
    with pytest.raises(StoreConflict):
        controller.publish(Version("cluster", 2, b"too far"))
    assert controller.kinds() == {}


@pytest.mark.parametrize("generation", [0, -1, 1 << 63, True])
def test_a_generation_is_a_number_from_one_on(controller: ControllerStore, generation: int) -> None:
    with pytest.raises(StoreCorrupt):
        controller.publish(Version("cluster", generation, b""))
    with pytest.raises(StoreCorrupt):
        controller.seed(Version("cluster", generation, b""))


def test_kinds_count_on_their_own(controller: ControllerStore) -> None:
    publish_to(controller, 2, "cluster")
    publish_to(controller, 5, "table/a")
    publish_to(controller, 1, "table/cluster")
    publish_to(controller, 40, "table/a.b-c_d")
    kinds = {"cluster": 2, "table/a": 5, "table/cluster": 1, "table/a.b-c_d": 40}
    assert controller.kinds() == kinds


def test_a_seed_begins_an_empty_store_anywhere(controller: ControllerStore) -> None:
    controller.seed(Version(KIND, 417, b"seed"))
    assert controller.latest(KIND) == Version(KIND, 417, b"seed")
    controller.publish(Version(KIND, 418, b"next"))
    assert controller.kinds() == {KIND: 418}


@pytest.mark.parametrize("generation", [1, 2, 3, 90])
def test_a_seed_is_refused_by_a_store_in_use(controller: ControllerStore, generation: int) -> None:
    publish_to(controller, 2)
    with pytest.raises(StoreConflict):
        controller.seed(Version(KIND, generation, b"seed"))
    assert controller.kinds() == {KIND: 2}


def test_of_many_seeds_one_wins(backing: Backing) -> None:
    stores = [backing.controller() for _ in range(8)]
    start = threading.Barrier(len(stores))

    def seed(number: int) -> bool:
        start.wait()
        try:
            stores[number].seed(Version(KIND, 10 + number, b"%d" % number))
        except StoreConflict:
            return False
        return True

    with ThreadPoolExecutor(len(stores)) as pool:
        won = list(pool.map(seed, range(len(stores))))
    assert won.count(True) == 1
    winner = won.index(True)
    assert stores[0].latest(KIND) == Version(KIND, 10 + winner, b"%d" % winner)


def assert_fair(won: dict[str, list[int]], until: int) -> None:
    """Each generation was won once, by one author, and another lost (or there was no race)."""
    assert sorted(chain.from_iterable(won.values())) == list(range(1, until + 1))
    assert sum(bool(generations) for generations in won.values()) > 1


def test_threads_race_and_each_generation_has_one_winner(backing: Backing) -> None:
    until, authors = 80, ["a", "b", "c", "d", "e", "f"]
    start = threading.Barrier(len(authors))

    def run(author: str) -> list[int]:
        store = backing.controller()
        start.wait()
        return race(store, KIND, author, until, size=2000)

    with ThreadPoolExecutor(len(authors)) as pool:
        won = dict(zip(authors, pool.map(run, authors), strict=True))
    assert_fair(won, until)
    last = backing.controller().latest(KIND)
    assert last is not None
    assert until in won[read_document(last)]


def test_processes_race_and_each_generation_has_one_winner(backing: Backing) -> None:
    until, authors = 80, ["a", "b", "c", "d"]
    workers = [Worker("race", backing.url, author, until) for author in authors]
    for worker in workers:
        worker.expect("ready")
    for worker in workers:
        worker.go()
    won = {a: worker.result() for a, worker in zip(authors, workers, strict=True)}
    assert_fair(won, until)
    last = backing.controller().latest(KIND)
    assert last is not None
    assert until in won[read_document(last)]


def test_readers_see_whole_documents_in_order_while_publishers_are_killed(agents: Backing) -> None:
    """Publishers are killed by SIGKILL at random moments; no confirmed publication is lost."""
    stop = threading.Event()
    readers = [agents.agent() for _ in range(2)]
    moments = random.Random(5)
    accepted = 0

    def read(number: int) -> int:
        seen, reads = 0, 0
        while not stop.is_set():
            version = readers[number].latest(KIND)
            if version is not None:
                read_document(version)
                assert version.generation >= seen
                assert readers[number].kinds()[KIND] >= version.generation
                seen = version.generation
                reads += 1
        return reads

    with ThreadPoolExecutor(len(readers)) as pool:
        results = [pool.submit(read, number) for number in range(len(readers))]
        for _ in range(6):
            with Worker("publish", agents.url, "victim") as worker:
                worker.expect("ready")
                time.sleep(moments.uniform(0.01, 0.2))  # the moment of the kill is the test's point
                worker.process.send_signal(signal.SIGKILL)
                out, _ = worker.process.communicate()
            lines = [line for line in out.splitlines(keepends=True) if line.endswith("\n")]
            accepted = max([accepted, *(int(line) for line in lines)])
        stop.set()
        assert all(result.result() > 0 for result in results)

    store = agents.controller()
    newest = store.kinds()[KIND]
    assert accepted <= newest
    store.publish(Version(KIND, newest + 1, document(newest + 1, "successor")))
    last = store.latest(KIND)
    assert last is not None
    assert read_document(last) == "successor"


def test_a_publisher_wakes_readers_of_other_processes(backing: Backing) -> None:
    store = backing.controller()
    with Worker("publish", backing.url, "other") as worker:
        worker.expect("ready")
        wait_until(lambda: store.wait({}, 1.0).get(KIND, 0) > 3, "a fourth generation")
