"""What comes in is acknowledged if in use, saved if it was good, counted if it was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from controlplane.store.contract import StoreUnavailable
from controlplane.store.state_dir import StateDir
from lb.agent.documents.follower import Batch
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.documents.intake import Intake
from lb.agent.documents.last_good import read_last_good
from lb.agent.facts import SharedFacts
from tests.unit.lb.agent.fakes import KEYS, FakeDataplane, FakeVips, a_cluster, a_table, encoded


class World:
    def __init__(self, state_dir: Path) -> None:
        self.log: list[str] = []
        self.acknowledged: list[dict[str, int]] = []
        self.facts = SharedFacts(0.0)
        self.state_dir = StateDir(state_dir)
        self.in_use = DocumentsInUse(FakeDataplane(self.log), FakeVips(self.log))
        self.intake = Intake(self.in_use, self.state_dir, self.facts, self._acknowledge)
        self.intake.attached = True
        self.on_acknowledge: Callable[[], object] = lambda: None

    def _acknowledge(self, in_use: Mapping[str, int]) -> None:
        self.acknowledged.append(dict(in_use))
        self.on_acknowledge()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


def good_batch() -> Batch:
    return Batch(encoded(a_cluster(1)), {"web": encoded(a_table(1, [1, 2]))}, KEYS)


def test_what_was_taken_is_acknowledged_reported_and_can_be_read_back(world: World) -> None:
    world.intake.take(good_batch())
    assert world.acknowledged[-1] == {"cluster": 1, "table/web": 1}
    assert world.facts.current.generations == {"cluster": 1, "table/web": 1}
    assert read_last_good(world.state_dir) == good_batch()


def test_nothing_is_acknowledged_or_saved_before_the_programs_are_attached(world: World) -> None:
    world.intake.attached = False
    world.intake.take(good_batch())
    assert world.acknowledged == []
    assert read_last_good(world.state_dir) == Batch()
    before = world.facts.current
    assert before.steering is None, "no packet goes by it yet"
    world.intake.attached = True
    world.intake.publish()
    assert world.facts.current.steering is world.in_use.steering is not None
    assert world.acknowledged == [{"cluster": 1, "table/web": 1}]
    assert read_last_good(world.state_dir) == good_batch()


@pytest.mark.parametrize(
    ("batch", "kind", "reason"),
    [
        (Batch(b"nonsense"), "cluster", "malformed"),
        (Batch(encoded(a_cluster(2))[:-9]), "cluster", "malformed"),
        (Batch(encoded(a_cluster(1))), "cluster", "stale_generation"),
        (
            Batch(encoded(a_cluster(2)).replace(b'"version":1', b'"version":9')),
            "cluster",
            "future_version",
        ),
        (Batch(None, {"web": encoded(a_table(2, [1, 7]))}, KEYS), "table/web", "unknown_index"),
        (
            Batch(None, {"web": encoded(a_table(2, [2, 1])).replace(b"sha256", b"sha257")}, KEYS),
            "table/web",
            None,
        ),
    ],
)
def test_a_refused_document_is_counted_and_the_old_one_stays(
    world: World, batch: Batch, kind: str, reason: str | None
) -> None:
    world.intake.take(good_batch())
    world.intake.take(batch)
    ((refused_kind, refused_reason), count) = next(iter(world.facts.current.refused.items()))
    assert (refused_kind, count) == (kind, 1)
    assert reason in (None, refused_reason)
    assert kind in world.facts.current.troubles
    assert world.acknowledged[-1] == {"cluster": 1, "table/web": 1}
    assert read_last_good(world.state_dir) == good_batch()


def test_a_good_successor_ends_the_trouble(world: World) -> None:
    world.intake.take(good_batch())
    world.intake.take(Batch(None, {"web": b"{}"}, KEYS))
    assert world.intake.refused_pools == {"web"}
    world.intake.take(Batch(None, {"web": encoded(a_table(3, [2, 1]))}, KEYS))
    assert world.facts.current.troubles == {}
    assert world.intake.refused_pools == set()
    assert world.acknowledged[-1]["table/web"] == 3


def test_a_table_and_the_cluster_it_needs_may_come_in_any_order(world: World) -> None:
    world.intake.take(good_batch())
    world.intake.take(Batch(None, {"web": encoded(a_table(2, [2, 1], 2))}, KEYS))
    assert world.acknowledged[-1] == {"cluster": 1, "table/web": 1}
    assert world.facts.current.refused == {}
    world.intake.take(Batch(encoded(a_cluster(2))))
    assert world.acknowledged[-1] == {"cluster": 2, "table/web": 2}


def test_the_saved_document_of_a_removed_pool_is_forgotten(world: World) -> None:
    both = a_cluster(1, pools=("web", "dns"))
    dns = a_table(1, [1, 0], pool="dns")
    world.intake.take(Batch(encoded(both), {"dns": encoded(dns)}, KEYS))
    assert set(read_last_good(world.state_dir).tables) == {"dns"}
    world.intake.take(Batch(encoded(a_cluster(2, pools=("web",)))))
    assert set(read_last_good(world.state_dir).tables) == set()


def test_what_is_acknowledged_is_saved_before(world: World) -> None:
    """Whenever the server loses its memory, it starts with what it acknowledged, or newer."""
    saved: list[Batch] = []
    world.on_acknowledge = lambda: saved.append(read_last_good(world.state_dir))
    world.intake.take(good_batch())
    newer = Batch(encoded(a_cluster(2)), {"web": encoded(a_table(2, [2, 1], 2))}, KEYS)
    world.intake.take(newer)
    assert saved == [good_batch(), newer]


def test_the_cluster_document_is_saved_before_the_tables_built_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    save = world.state_dir.save_document

    def note(kind: str, data: bytes) -> None:
        order.append(kind)
        save(kind, data)

    monkeypatch.setattr(world.state_dir, "save_document", note)
    world.intake.take(good_batch())
    assert order == ["cluster", "table/web"]


def full(*_: object) -> None:
    raise StoreUnavailable("no space left")


def test_on_a_full_disk_older_documents_are_removed_before_newer_ones_are_acknowledged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.intake.take(good_batch())
    with monkeypatch.context() as patched:
        patched.setattr(world.state_dir, "save_document", full)
        world.intake.take(Batch(None, {"web": encoded(a_table(2, [2, 1]))}, KEYS))
        assert world.acknowledged[-1] == {"cluster": 1, "table/web": 2}
        assert read_last_good(world.state_dir).cluster is None, "nothing older to start from"
        assert "no space left" in world.facts.current.troubles["state_dir"]
        world.intake.save_again()
    world.intake.save_again()
    assert world.facts.current.troubles == {}
    assert read_last_good(world.state_dir) == Batch(
        encoded(a_cluster(1)), {"web": encoded(a_table(2, [2, 1]))}, KEYS
    )


def test_what_can_be_neither_saved_nor_removed_is_not_acknowledged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.intake.take(good_batch())
    with monkeypatch.context() as patched:
        patched.setattr(world.state_dir, "save_document", full)
        patched.setattr(world.state_dir, "forget_document", full)
        world.intake.take(Batch(None, {"web": encoded(a_table(2, [2, 1]))}, KEYS))
        assert world.in_use.generations()["table/web"] == 2, "it is used nevertheless"
        assert world.acknowledged[-1] == {"cluster": 1, "table/web": 1}
        assert "not acknowledged" in world.facts.current.troubles["state_dir"]
    world.intake.save_again()
    assert world.acknowledged[-1] == {"cluster": 1, "table/web": 2}


def test_a_refused_cluster_document_is_reported_until_a_newer_one_is_taken(world: World) -> None:
    """The controller replaces what is refused; the last good one, taken again, changes nothing."""
    world.intake.take(Batch(b"nonsense", cluster_generation=4))
    assert world.facts.current.refused_cluster == 4
    world.intake.take(good_batch())
    assert world.facts.current.refused_cluster == 4
    world.intake.take(Batch(encoded(a_cluster(5)), cluster_generation=5))
    assert world.facts.current.refused_cluster == 0
