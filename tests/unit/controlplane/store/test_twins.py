"""One name, one machine: who may report and acknowledge, and what is known of the other one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.domain.objects import Origin, Report, Twin
from controlplane.store.contract import AgentStore, ControllerStore, StoreConflict
from controlplane.store.file import twins
from controlplane.store.file.fleet import Fleet
from tests.unit.controlplane.store.conftest import Backing

RIGHT = Origin("10.0.0.3", "boot-a")
OTHER_DIP = Origin("10.0.0.5", "boot-b")
REINSTALLED = Origin("10.0.0.3", "boot-c")
OLD_AGENT = Origin()


def report(origin: Origin, sequence: int = 1, *, stopped: bool = False) -> Report:
    return Report("s3", f"run {origin.machine}", sequence, 0.0, stopped=stopped, **vars(origin))


@pytest.fixture
def agent(agents: Backing) -> AgentStore:
    return agents.agent()


@pytest.fixture
def controller(agents: Backing) -> ControllerStore:
    return agents.controller()


def believed(controller: ControllerStore) -> Origin:
    return controller.reports()["s3"].origin


def test_a_machine_with_another_dip_is_refused_and_counted(
    agent: AgentStore, controller: ControllerStore
) -> None:
    controller.know_dips({"s3": "10.0.0.3"})
    agent.report(report(RIGHT))
    agent.acknowledge("s3", "cluster", 4, RIGHT)
    for refused in (report(OTHER_DIP), report(OTHER_DIP, 2, stopped=True)):
        with pytest.raises(StoreConflict, match=r"DIP 10\.0\.0\.3.*10\.0\.0\.5.*agent\.toml"):
            agent.report(refused)
    with pytest.raises(StoreConflict):
        agent.acknowledge("s3", "cluster", 9, OTHER_DIP)
    assert believed(controller) == RIGHT
    assert not controller.reports()["s3"].stopped
    assert controller.acknowledgements()["s3"] == {"cluster": 4}
    assert controller.twins() == {"s3": Twin(OTHER_DIP, 3)}
    controller.forget_twin("s3")
    assert controller.twins() == {}


def test_a_machine_with_another_dip_is_refused_also_while_the_right_one_is_away(
    agent: AgentStore, controller: ControllerStore
) -> None:
    controller.know_dips({"s3": "10.0.0.3"})
    with pytest.raises(StoreConflict, match="is the server with DIP"):
        agent.report(report(OTHER_DIP))
    assert controller.reports() == {}


def test_the_right_one_takes_over_from_one_that_came_before_the_controller_knew(
    agent: AgentStore, controller: ControllerStore
) -> None:
    agent.report(report(OTHER_DIP))
    controller.know_dips({"s3": "10.0.0.3"})
    agent.report(report(RIGHT))
    assert believed(controller) == RIGHT
    with pytest.raises(StoreConflict):
        agent.report(report(OTHER_DIP, 2))


def test_of_two_with_the_right_dip_the_first_is_believed_while_it_reports(
    agent: AgentStore, controller: ControllerStore
) -> None:
    controller.know_dips({"s3": "10.0.0.3"})
    agent.report(report(RIGHT))
    with pytest.raises(StoreConflict, match=r"another machine reports as s3.*boot-a"):
        agent.report(report(REINSTALLED))
    agent.report(report(RIGHT, 2))
    assert believed(controller) == RIGHT
    assert controller.twins()["s3"].origin == REINSTALLED


def test_a_replacement_takes_over_by_itself_once_the_old_machine_is_silent(
    controller: ControllerStore, agent: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same name and DIP, another boot: installed again, moved, or booted."""
    controller.know_dips({"s3": "10.0.0.3"})
    agent.report(report(RIGHT))
    with pytest.raises(StoreConflict):
        agent.report(report(REINSTALLED))
    monkeypatch.setattr(twins, "LIVE_SECONDS", 0.0)
    agent.report(report(REINSTALLED))
    agent.acknowledge("s3", "cluster", 1, REINSTALLED)
    assert believed(controller) == REINSTALLED
    assert controller.twins() == {}, "it is the server now, and nothing has to be stopped"
    monkeypatch.setattr(twins, "LIVE_SECONDS", 60.0)
    with pytest.raises(StoreConflict):
        agent.report(report(RIGHT, 2))
    assert controller.twins()["s3"].origin == RIGHT


def fleet_with_clock(directory: Path, now: list[float]) -> Fleet:
    (directory / "tmp").mkdir(exist_ok=True)
    fleet = Fleet(directory, directory / "tmp")
    fleet.make_directories()
    fleet._twins._clock = lambda: now[0]
    return fleet


def test_who_served_a_machine_knows_how_long_it_is_silent(tmp_path: Path) -> None:
    """Others have to look for a while: `file:` agents, and a controller that has just begun."""
    now = [100.0]
    first, second = (fleet_with_clock(tmp_path, now) for _ in range(2))
    first.report(report(RIGHT))
    now[0] += twins.LIVE_SECONDS
    with pytest.raises(StoreConflict):
        second.report(report(REINSTALLED))
    first.report(report(REINSTALLED))
    assert first.twins() == {}


def test_silence_is_measured_from_the_last_change(tmp_path: Path) -> None:
    now = [100.0]
    fleet = fleet_with_clock(tmp_path, now)

    def accepted() -> bool:
        try:
            fleet.report(report(REINSTALLED))
        except StoreConflict:
            return False
        return True

    fleet.report(report(RIGHT, 1))
    for sequence in (1, 2):
        fleet.report(report(RIGHT, sequence))
        assert not accepted()
        now[0] += twins.LIVE_SECONDS - 0.1
        assert not accepted()
    now[0] += 0.1
    assert accepted()


def test_after_a_stop_anybody_with_the_dip_may_begin(
    agent: AgentStore, controller: ControllerStore
) -> None:
    controller.know_dips({"s3": "10.0.0.3"})
    agent.report(report(RIGHT, stopped=True))
    agent.report(report(REINSTALLED))
    assert believed(controller) == REINSTALLED


def test_agents_of_one_machine_follow_each_other_at_once(
    agent: AgentStore, controller: ControllerStore
) -> None:
    agent.report(report(RIGHT))
    agent.report(replace(report(RIGHT), boot_id="another run"))
    assert controller.reports()["s3"].boot_id == "another run"


def test_older_agents_report_as_ever_but_not_beside_a_newer_one(
    agent: AgentStore, controller: ControllerStore
) -> None:
    controller.know_dips({"s3": "10.0.0.3"})
    agent.report(report(OLD_AGENT))
    agent.acknowledge("s3", "cluster", 1)
    agent.report(report(RIGHT))
    with pytest.raises(StoreConflict):
        agent.report(report(OLD_AGENT))
    assert believed(controller) == RIGHT


def test_names_that_the_cluster_does_not_have_are_free(
    agent: AgentStore, controller: ControllerStore
) -> None:
    controller.know_dips({"s1": "10.0.0.1"})
    agent.report(report(OTHER_DIP))
    assert believed(controller) == OTHER_DIP


def test_damaged_files_refuse_nobody(agents: Backing, agent: AgentStore) -> None:
    controller = agents.controller()
    controller.know_dips({"s3": "10.0.0.3"})
    directory = Path(agents.url.removeprefix("file:"))
    (directory / "dips.json").write_text("[1")
    (directory / "twins" / "s3.json").write_text('{"refused": -1}')
    agent.report(report(OTHER_DIP))
    assert controller.twins() == {}
