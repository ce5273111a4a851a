"""The wait for an interface at the start: reported now and then, and nothing stays announced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lb.agent.config import AgentConfig
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import Journal, Record
from lb.agent.netlink.links import LinkInfo
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.report.status_file import read_status
from lb.agent.watch import start as module
from lb.agent.watch.start import Start

DIP = IPv4Address("10.0.0.1")
GOOD = LinkInfo(3, "eth0", bytes(6), 1548, True, frozenset({DIP}))


class World:
    """An interface that changes as time passes; each pause is half a second."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, announced: bool, hook: str = "true"
    ) -> None:
        self.now = 100.0
        self.link: LinkInfo | None = None
        self.then: Callable[[], None] = lambda: None
        monkeypatch.setattr(module, "find_link", lambda *_: self.link)
        monkeypatch.setattr(module, "is_up", lambda *_: True)
        monkeypatch.setattr("lb.agent.watch.start.time.monotonic", lambda: self.now)
        self.log = folder / "log"
        self.config = AgentConfig(
            name="s1",
            interface="eth0",
            dip=DIP,
            run_dir=folder / "run",
            on_withdraw=("sh", "-c", f"echo on_withdraw >> {self.log}; {hook}"),
        )
        (folder / "run").mkdir()
        self.ready_file = folder / "run" / "ready"
        self.ready_file.touch()
        record = Record(NamespaceId("b", "n"), "eth0", "/b", announced=announced)
        self.journal = Journal(folder, record)
        self.facts = SharedFacts(0.0)
        self.start = Start(self.config, self.journal, self.facts, self.pause)

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.then()

    def hooks(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def test_an_interface_that_is_there_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, announced=True)
    world.link = GOOD
    with capture_logs() as logs:
        assert world.start.await_interface(RouteSocket()) == GOOD
    assert (logs, world.hooks()) == ([], 0)
    assert world.ready_file.exists(), "an agent's restart withdraws nothing"


def test_a_missing_one_is_reported_every_ten_seconds_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, announced=False)

    def come_later() -> None:
        shown = read_status(world.config.run_dir)
        assert shown is not None
        assert "there is no interface eth0: see `ip link`" in shown["troubles"]["start"]
        if world.now >= 125:
            world.link = GOOD

    world.then = come_later
    with capture_logs() as logs:
        assert world.start.await_interface(RouteSocket()) == GOOD
    waits = [line for line in logs if line["event"] == "waiting for the interface"]
    assert [line["seconds"] for line in waits] == [0.0, 10.0, 20.0]
    assert all(line["every_time"] and line["remedy"] for line in waits)
    assert logs[-1]["event"] == "the interface is ready"
    assert "start" not in world.facts.current.troubles


def test_another_fault_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, announced=False)
    links = iter([replace(GOOD, up=False), replace(GOOD, addresses=frozenset()), GOOD])

    def next_link() -> None:
        world.link = next(links)

    world.then = next_link
    with capture_logs() as logs:
        world.start.await_interface(RouteSocket())
    reasons = [line["reason"] for line in logs if line["event"] == "waiting for the interface"]
    assert reasons == [
        "there is no interface eth0",
        "interface eth0 is down",
        "eth0 does not have the DIP 10.0.0.1, but no IPv4 address",
    ]


def test_what_is_announced_is_withdrawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, announced=True)
    world.then = lambda: setattr(world, "link", GOOD if world.now > 105 else None)
    world.start.await_interface(RouteSocket())
    assert world.hooks() == 1
    assert not world.ready_file.exists()
    assert not world.journal.record.announced


def test_a_hook_that_fails_is_run_again_and_the_routes_count_as_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, announced=True, hook="exit 1")
    world.then = lambda: setattr(world, "link", GOOD if world.now > 111 else None)
    world.start.await_interface(RouteSocket())
    assert world.hooks() == 3, "every 5 s"
    assert world.journal.record.announced
    assert world.ready_file.exists()


@pytest.mark.parametrize(
    ("attached", "announced", "withdrawn"),
    [(True, True, False), (False, True, True), (False, False, False)],
)
def test_routes_without_programs_are_withdrawn_before_all_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attached: bool,
    announced: bool,
    withdrawn: bool,
) -> None:
    world = World(tmp_path, monkeypatch, announced=announced)
    attachment: Any = world
    attachment.is_attached = lambda: attached
    world.start.withdraw_unless_attached(attachment)
    assert world.hooks() == withdrawn
