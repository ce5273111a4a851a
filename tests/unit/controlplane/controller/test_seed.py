"""An empty store begun from what one server has."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.controller.loop import MOST_PASSED_A_ROUND
from controlplane.controller.seed import seed_store
from controlplane.documents.check import decode_cluster, decode_table, encode_table
from controlplane.documents.controller import decode_controller, encode_controller
from controlplane.domain.controller_state import CONTROLLER, ControllerState, DrainRequest
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, Report, Table, table_kind
from controlplane.operator.overview import overview
from controlplane.store.file.store import FileStore
from controlplane.store.state_dir import StateDir
from lb.agent.documents.controller_copy import ControllerCopy
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.fleet import dip


@pytest.fixture
def state_dir(fleet: Fleet, tmp_path: Path) -> Path:
    """What a server of a running fleet has saved; the controller and its store are gone."""
    fleet.up(3)
    saved = StateDir(tmp_path / "state")
    ControllerCopy(fleet.store, saved).refresh()
    for kind in fleet.store.kinds():
        version = fleet.store.latest(kind)
        assert version
        saved.save_document(kind, version.data)
        if kind == CLUSTER:
            for pool in decode_cluster(version.data).pools:
                saved.save_key(pool.key_id, fleet.store.key(pool.key_id))
    fleet.stop_control()
    return tmp_path / "state"


def test_a_seeded_store_goes_on_where_the_lost_one_was(
    fleet: Fleet, state_dir: Path, tmp_path: Path
) -> None:
    agents, before = fleet.agents, dict(fleet.published.generations())
    key_id = fleet.cluster().pools[0].key_id
    config = fleet.config(3)
    for agent in agents.values():
        agent.end()
    successor = Fleet(tmp_path / "new")
    try:
        seed_store(successor.store, state_dir)
        assert successor.store.kinds() == before
        assert successor.store.key(key_id) == fleet.store.key(key_id)
        successor.control(config)
        for name, old in agents.items():
            # before its first report: a server's acknowledgements come from one process
            for kind, generation in before.items():
                successor.store.acknowledge(name, kind, generation)
            successor.agent(name, tables=dict(old.tables), cluster=old.cluster)
        wait_until(successor.calm, "settled")
        assert successor.published.generations() == before, "nothing changes"
        successor.store.request_drain("s2", requested=True)
        wait_until(lambda: "s2" not in successor.current(), "drained")
        assert successor.published.generations()["table/web"] == before["table/web"] + 2
    finally:
        successor.close()


def test_servers_that_had_newer_tables_are_overtaken(
    fleet: Fleet, state_dir: Path, tmp_path: Path
) -> None:
    before = dict(fleet.published.generations())
    config = fleet.config(3)
    successor = Fleet(tmp_path / "new")
    try:
        seed_store(successor.store, state_dir)
        successor.store.acknowledge("s1", "table/web", before["table/web"] + 7)
        successor.control(config)
        wanted = before["table/web"] + 8
        wait_until(lambda: (t := successor.table()) is not None and t.generation == wanted, "ahead")
        table = successor.table()
        old = fleet.table()
        assert table
        assert old
        assert (table.chains == old.chains).all()
    finally:
        successor.close()


def test_an_acknowledgement_far_ahead_does_not_stop_the_controller(fleet: Fleet) -> None:
    """One server could claim any generation; it is passed a few at a time, and deaths are seen."""
    fleet.up(3)
    fleet.agents["s1"].end()
    fleet.store.acknowledge("s1", "table/web", 9_000)
    wait_until(lambda: generation(fleet) > 2 * MOST_PASSED_A_ROUND, "some are passed")
    fleet.agents["s3"].end()
    fleet.prober.dead.add(dip(3))
    wait_until(lambda: fleet.states()["s3"] == "down", "its death is seen")
    assert generation(fleet) < 9_000


def generation(fleet: Fleet) -> int:
    fleet.published.refresh()
    return fleet.published.generations()["table/web"]


def test_a_store_that_is_not_empty_is_refused(fleet: Fleet, state_dir: Path) -> None:
    before = dict(fleet.store.kinds())
    with pytest.raises(BrigadeError, match="fills an empty store; this one has cluster"):
        seed_store(fleet.store, state_dir)
    assert fleet.store.kinds() == before


def test_a_seeding_that_was_cut_off_is_no_beginning(
    fleet: Fleet, state_dir: Path, tmp_path: Path
) -> None:
    """A controller would give the pool a new key beside its old table, under a running fleet."""
    version = fleet.store.latest("table/web")
    assert version
    successor = Fleet(tmp_path / "new")
    successor.store.seed(version)
    with pytest.raises(BrigadeError, match="empty the store and begin it with --seed"):
        seed_store(successor.store, state_dir)
    with pytest.raises(BrigadeError, match="no cluster document, so a seeding was interrupted"):
        successor.published.refresh()
    assert set(successor.store.kinds()) == {"table/web"}
    successor.close()


def test_a_directory_without_documents_is_refused(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    (tmp_path / "state").mkdir()
    with pytest.raises(BrigadeError, match="no documents"):
        seed_store(store, tmp_path / "state")
    assert store.kinds() == {}


def test_what_is_damaged_or_missing_seeds_nothing(state_dir: Path, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "empty")
    keys = list((state_dir / "keys").iterdir())
    key = keys[0].read_bytes()
    keys[0].unlink()
    with pytest.raises(BrigadeError, match="does not have the keys"):
        seed_store(store, state_dir)
    StateDir(state_dir).save_key(keys[0].name, key)
    document = state_dir / "documents" / "table.web.json"
    document.write_bytes(document.read_bytes().replace(b'"generation":', b'"generation":1'))
    with pytest.raises(BrigadeError):
        seed_store(store, state_dir)
    assert store.kinds() == {}


def test_the_tables_of_pools_long_gone_are_left_out(state_dir: Path, tmp_path: Path) -> None:
    state = StateDir(state_dir)
    data = state.load_document("table/web")
    assert data
    web = decode_table(data)
    old = Table("old", 3, 1, web.chains, web.moved_at)
    state.save_document(table_kind("old"), encode_table(old))
    store = FileStore(tmp_path / "empty")
    seed_store(store, state_dir)
    assert set(store.kinds()) == {CLUSTER, "table/web"}


def test_a_store_begun_anew_under_a_running_fleet_publishes_nothing_and_says_so(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.control(fleet.config(2))
    wait_until(lambda: fleet.cluster().generation == 1, "a first document")
    for name in ("s1", "s2"):
        fleet.store.acknowledge(name, CLUSTER, 50)
        fleet.store.acknowledge(name, "table/web", 70)
        fleet.store.report(Report(name, "boot", 1, 0.0))
    fleet.go_on(1.2, failing=True)  # longer than the first servers wait for each other
    assert fleet.store.kinds() == {CLUSTER: 1}
    capsys.readouterr()
    print_servers(overview(fleet.store, fleet.config(2), 0.2))
    line = "cluster generation 1: THE STORE IS BEHIND, servers use generation 50."
    assert line in capsys.readouterr().out


def state_of(store: FileStore) -> ControllerState:
    version = store.latest(CONTROLLER)
    assert version
    return decode_controller(version.data)


def test_drain_requests_and_shares_are_seeded_too(state_dir: Path, tmp_path: Path) -> None:
    request = DrainRequest("ann@ctl", 5.0, "a new kernel")
    state = ControllerState(7.0, {}, {"web": {"s1": 1.5}}, {"s2": request})
    StateDir(state_dir).save_document(CONTROLLER, encode_controller(state, 41))
    store = FileStore(tmp_path / "empty")
    with capture_logs() as logs:
        seed_store(store, state_dir)
    assert store.drain_requests() == {"s2": request}
    assert state_of(store) == state
    assert any("lbctl undrain s2" in line.get("remedy", "") for line in logs)
    version = store.latest(CONTROLLER)
    assert version
    assert version.generation == 41


@pytest.mark.parametrize("damage", [True, False])
def test_a_seed_without_a_good_state_logs_what_is_lost(
    state_dir: Path, tmp_path: Path, damage: bool
) -> None:
    path = state_dir / "documents/controller.json"
    if damage:
        path.write_bytes(b"{}")
    else:
        path.unlink()
    store = FileStore(tmp_path / "empty")
    with capture_logs() as logs:
        seed_store(store, state_dir)
    (lost,) = [line for line in logs if "no controller's state to seed" in line["event"]]
    assert "repeat lbctl drain" in lost["remedy"]
    assert store.latest(CONTROLLER) is None
    assert CLUSTER in store.kinds()
