"""Two machines under one name are logged once, shown, counted, and forgotten in the end."""

from __future__ import annotations

import pytest

from controlplane.domain.objects import Origin, Report
from controlplane.operator.overview import overview
from controlplane.publish import twins as module
from controlplane.store.contract import StoreConflict
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet

STRANGER = Origin("10.9.9.9", "boot-b")


def claim(fleet: Fleet, sequence: int, *, stopped: bool = False) -> None:
    report = Report("s3", "twin", sequence, 0.0, stopped=stopped, **vars(STRANGER))
    with pytest.raises(StoreConflict):
        fleet.store.report(report)


def test_a_twin_changes_nothing_and_is_named_everywhere(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fleet.up(3)
    before = fleet.table()
    assert before
    for sequence in range(1, 9):
        claim(fleet, sequence, stopped=sequence == 8)
    fleet.go_on(0.5)
    after = fleet.table()
    assert after
    assert after.generation == before.generation
    assert fleet.states()["s3"] == "active"
    assert fleet.metric("claims_refused_total", server="s3") == 8.0
    assert fleet.metric("claims_refused_total", server="s1") == 0.0
    output = capsys.readouterr().out
    assert output.count(module.TWO_MACHINES) == 1
    assert "DIP 10.9.9.9, boot id boot-b" in output
    print_servers(overview(fleet.store, config, 0.2))
    shown = capsys.readouterr().out
    assert "TWO MACHINES are called s3" in shown
    assert "agent.toml" in shown
    monkeypatch.setattr(module, "REMEMBERED_SECONDS", 0.1)
    wait_until(lambda: fleet.store.twins() == {}, "forgotten")
    wait_until(lambda: f"{module.TWO_MACHINES}: over" in capsys.readouterr().out, "logged")


def test_the_store_learns_every_servers_dip(fleet: Fleet) -> None:
    fleet.up(2)
    for name in ("s1", "s2"):
        with pytest.raises(StoreConflict):
            fleet.store.acknowledge(name, "cluster", 99, STRANGER)
