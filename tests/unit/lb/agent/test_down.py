"""`lbctl down` before anything is detached: what counts as in use, and how routes are withdrawn."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import CLUSTER
from controlplane.store.state_dir import StateDir
from lb.agent import down
from lb.agent.config import AgentConfig
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.undo_record import FILE, Record, encode, read_record
from tests.unit.lb.agent.fakes import a_cluster, a_table, dip, encoded


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig.model_validate(
        {
            "name": "s1",
            "interface": f"t{uuid.uuid4().hex[:12]}",
            "dip": "10.0.0.1",
            "state_dir": tmp_path,
            "run_dir": tmp_path / "run",
            "bpffs": tmp_path / "bpf",
            "on_withdraw": ["touch", str(tmp_path / "withdrawn")],
            "withdraw_settle_seconds": 7,
        }
    )


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    clock = SimpleNamespace(sleep=found.append, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr(down, "time", clock)  # of that module alone: hooks are waited for, too
    return found


def announce(config: AgentConfig) -> Record:
    """Leave what an agent leaves that announced this server and was killed."""
    bpffs, interface = str(config.bpffs), config.interface
    record = Record(current_namespace(), interface, bpffs, announced=True)
    (config.state_dir / FILE).write_text(encode(record))
    config.run_dir.mkdir()
    (config.run_dir / "ready").touch()
    return record


def test_routes_are_withdrawn_then_routers_get_their_time(
    config: AgentConfig, slept: list[float]
) -> None:
    announce(config)
    shown: list[str] = []
    down._withdraw(config, shown.append, force=False)
    assert (config.state_dir / "withdrawn").exists()
    assert not (config.run_dir / "ready").exists()
    assert slept == [7]
    assert "waiting 7 s until routers send nothing here" in shown
    record = read_record(config.state_dir)
    assert record is not None
    assert not record.announced
    down._withdraw(config, shown.append, force=False)
    assert slept == [7], "it is done"


def test_a_hook_that_fails_changes_nothing_unless_forced(
    config: AgentConfig, slept: list[float]
) -> None:
    before = announce(config)
    failing = config.model_copy(update={"on_withdraw": ("false",)})
    shown: list[str] = []
    with pytest.raises(BrigadeError, match="nothing was changed: repair it, or use --force"):
        down._withdraw(failing, shown.append, force=False)
    assert read_record(config.state_dir) == before
    assert (config.run_dir / "ready").exists()
    down._withdraw(failing, shown.append, force=True)
    assert not (config.run_dir / "ready").exists()
    assert slept == [7]


def test_what_cannot_be_counted_is_in_use(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError("no udp_diag")

    record = announce(config)
    StateDir(config.state_dir).save_document(CLUSTER, encoded(a_cluster(1)))
    monkeypatch.setattr(down, "count_open", fail)
    with pytest.raises(BrigadeError, match=r"no udp_diag.*modprobe.*--force") as caught:
        down.connections(config, record)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_buckets_of_another_machine_with_this_name_are_not_this_ones(config: AgentConfig) -> None:
    saved = StateDir(config.state_dir)
    saved.save_document(CLUSTER, encoded(a_cluster(1)))
    saved.save_document("table/web", encoded(a_table(1, [2, 1])))
    twin = config.model_copy(update={"name": "s2"})
    right = twin.model_copy(update={"dip": dip(2)})
    assert down.current_buckets(right) == {"web": 256}
    assert down.current_buckets(twin) == {}
    assert down._known_by_another_dip(twin) == "10.0.0.2"
    assert down._known_by_another_dip(config) == ""


@pytest.mark.parametrize("kind", ["cluster", "table/web", "table/dns"])
def test_damaged_documents_do_not_make_a_server_unused(config: AgentConfig, kind: str) -> None:
    saved = StateDir(config.state_dir)
    assert down.current_buckets(config) == {}, "it never had any"
    saved.save_document(CLUSTER, encoded(a_cluster(1)))
    saved.save_document("table/web", encoded(a_table(1, [1, 2])))
    assert down.current_buckets(config) == {"web": 256}
    saved.save_document(kind, b"{")
    with pytest.raises(BrigadeError, match=r"has buckets is not known .*--force") as caught:
        down.current_buckets(config)
    assert caught.value.exit_code == ExitCode.REFUSED
    saved.forget_document(CLUSTER)
    with pytest.raises(BrigadeError, match="the cluster document is missing"):
        down.current_buckets(config)
