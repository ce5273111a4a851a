"""Hooks and readiness: run once, run again if they fail, withdrawn only if announced."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import vip_text
from lb.agent.config import AgentConfig
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.ready import announcer as announce
from lb.agent.ready.announcer import Announcer
from lb.agent.ready.hooks import run_hook
from lb.agent.ready.systemd import sd_notify
from netns.polling import wait_until


def test_a_hook_finds_its_variables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_hook("on_ready", ["sh", "-c", f'echo "$COLOUR" > {out}'], 5, {"COLOUR": "red"})
    assert out.read_text() == "red\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["/no/such/program"], "cannot run /no/such/program: No such file"),
        (["sh", "-c", "echo no route >&2; exit 3"], "ended with 3: no route"),
    ],
)
def test_a_failing_hook_is_one_line(command: list[str], line: str) -> None:
    with pytest.raises(BrigadeError, match=line):
        run_hook("on_ready", command, 5, {})


def test_a_hook_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(BrigadeError, match="did not end within"):
        run_hook("on_ready", ["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], 0.5, {})
    assert time.monotonic() - started < 5
    child = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    wait_until(lambda: not child.exists() or " Z " in child.read_text(), "the child is killed", 5)


def test_a_hook_may_leave_something_running_that_holds_its_standard_error(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    run_hook("on_ready", ["sh", "-c", f"sleep 60 & echo $! > {pid_file}"], 2.0, {})
    pid = int(pid_file.read_text())
    os.kill(pid, 0)  # it lives
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("abstract", [True, False])
def test_systemd_is_notified_over_its_socket(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + path if abstract else path)
        receiver.settimeout(2)
        assert sd_notify("READY=1", {"NOTIFY_SOCKET": f"@{path}" if abstract else path})
        assert receiver.recv(100) == b"READY=1"
    assert not sd_notify("READY=1", {})


class World:
    """An announcer with hooks that write a line each; `broken` makes them fail, `slow` slow."""

    def __init__(self, folder: Path, *, announced: bool = False) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.broken = folder / "broken"
        self.slow = folder / "slow"
        script = (
            f"test -e {self.slow} && sleep 1; "
            f'test -e {self.broken} && {{ echo "$0 failed" >> {self.log}; exit 1; }}; '
            f'echo "$0" >> {self.log}'
        )
        settings: dict[str, Any] = {n: ["sh", "-c", script, n] for n in ("on_ready", "on_withdraw")}
        self.config = AgentConfig(
            name="s1",
            interface="eth0",
            dip="10.0.0.1",
            state_dir=folder / "state",
            run_dir=folder / "run",
            **settings,
        )
        self.journal = Journal(
            folder / "state", Record(NamespaceId("b", "n"), "eth0", "/b", announced=announced)
        )
        self.facts = SharedFacts(0.0)
        self.announcer = Announcer(self.config, self.journal, self.facts, lambda: None, {})

    def lines(self) -> list[str]:
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    @property
    def ready_file(self) -> bool:
        return (self.folder / "run" / "ready").exists()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    monkeypatch.setattr(announce, "RETRY_SECONDS", 0.05)
    made: list[World] = []

    def start(*, announced: bool = False) -> World:
        world = World(tmp_path, announced=announced)
        world.announcer.start()
        made.append(world)
        return world

    yield start
    for world in made:
        world.announcer.stop()
        world.announcer.join(5)
        assert not world.announcer.is_alive()


def test_ready_is_a_file_a_fact_a_record_and_one_run_of_the_hook(
    make: Callable[..., World],
) -> None:
    world = make()
    for _ in range(5):
        world.announcer.want(ready=True)
    wait_until(lambda: world.facts.current.hooks == {("on_ready", "ok"): 1}, "one run of on_ready")
    assert world.ready_file
    assert world.facts.current.ready
    record = read_record(world.folder / "state")
    assert record is not None
    assert record.announced
    assert world.lines() == ["on_ready"]


def test_other_vips_are_announced_by_another_run_of_the_hook(make: Callable[..., World]) -> None:
    world = make()
    first, second = IPv4Network("192.0.2.1/32"), IPv4Network("192.0.2.0/24")
    script = f'echo "$BUCKET_BRIGADE_VIPS" >> {world.log}'
    object.__setattr__(world.config, "on_ready", ("sh", "-c", script))
    for vips in ((first,), (first, second), (first, second), (second,)):
        world.facts.update(vips=vips)
        world.announcer.want(ready=True)
        wait_until(
            lambda: " ".join(map(vip_text, world.facts.current.vips)) in world.lines(),
            "a run with these VIPs",
        )
    assert world.lines() == ["192.0.2.1", "192.0.2.1 192.0.2.0/24", "192.0.2.0/24"]
    world.announcer.want(ready=False)
    world.facts.update(vips=(first,))
    world.announcer.want(ready=False)
    wait_until(lambda: not world.ready_file, "no ready file")
    assert world.lines()[3:] == ["on_withdraw"]


def test_other_hooks_are_run_from_the_next_time_on(make: Callable[..., World]) -> None:
    world = make()
    world.announcer.want(ready=True)
    wait_until(lambda: world.lines() == ["on_ready"], "on_ready")
    command = ("sh", "-c", f"echo another >> {world.log}")
    world.announcer.configure(
        world.config.model_copy(update={"on_ready": command, "on_withdraw": command})
    )
    world.announcer.want(ready=True)
    world.announcer.want(ready=False)
    wait_until(lambda: world.lines() == ["on_ready", "another"], "the other on_withdraw, once")
    wait_until(lambda: not world.ready_file, "no ready file")


def test_withdrawing_runs_the_hook_before_the_file_goes(make: Callable[..., World]) -> None:
    world = make()
    world.announcer.want(ready=True)
    wait_until(lambda: world.lines() == ["on_ready"], "on_ready")
    world.announcer.want(ready=False)
    wait_until(lambda: not world.ready_file, "no ready file")
    assert world.lines() == ["on_ready", "on_withdraw"]
    wait_until(lambda: not world.journal.record.announced, "no record of an announcement")


def test_what_was_never_announced_is_not_withdrawn(make: Callable[..., World]) -> None:
    world = make()
    world.announcer.want(ready=False)
    world.announcer.want(ready=True)
    wait_until(lambda: world.facts.current.hooks.get(("on_ready", "ok")) == 1, "on_ready")
    assert world.lines() == ["on_ready"]


def test_what_an_earlier_agent_announced_is_withdrawn(make: Callable[..., World]) -> None:
    world = make(announced=True)
    world.announcer.want(ready=False)
    wait_until(lambda: world.lines() == ["on_withdraw"], "on_withdraw")


def test_a_failed_hook_is_run_again_and_reported_meanwhile(make: Callable[..., World]) -> None:
    world = make()
    world.broken.touch()
    world.announcer.want(ready=True)
    wait_until(lambda: world.lines().count("on_ready failed") >= 2, "a second try")
    assert "hook" in world.facts.current.troubles
    world.broken.unlink()
    wait_until(lambda: world.lines()[-1:] == ["on_ready"], "a run that succeeds")
    wait_until(lambda: "hook" not in world.facts.current.troubles, "no trouble with the hook")


def test_a_change_of_mind_ends_the_retries(make: Callable[..., World]) -> None:
    world = make()
    world.broken.touch()
    world.announcer.want(ready=True)
    wait_until(world.lines, "a first run")
    world.announcer.want(ready=False)
    world.broken.unlink()
    wait_until(lambda: world.lines()[-1:] == ["on_withdraw"], "on_withdraw")
    assert "on_ready" not in world.lines()
    wait_until(lambda: not world.ready_file, "no ready file")


def test_a_ready_file_that_somebody_removed_is_lost_and_restored(
    make: Callable[..., World],
) -> None:
    world = make()
    assert not world.announcer.lost_ready_file(), "nothing is announced"
    world.announcer.want(ready=True)
    wait_until(lambda: world.lines() == ["on_ready"], "announced")
    wait_until(lambda: not world.announcer.lost_ready_file(), "the file is there")
    (world.folder / "run" / "ready").unlink()
    wait_until(world.announcer.lost_ready_file, "it is missed")
    world.announcer.restore_ready_file()
    assert world.ready_file
    assert world.lines() == ["on_ready"], "the routes are as they were"


def test_a_ready_file_is_not_restored_once_a_withdrawal_is_requested(
    make: Callable[..., World],
) -> None:
    world = make()
    world.announcer.want(ready=True)
    wait_until(lambda: world.lines() == ["on_ready"], "announced")
    world.slow.touch()
    world.broken.touch()
    world.announcer.want(ready=False)
    (world.folder / "run" / "ready").unlink()
    assert not world.announcer.lost_ready_file()
    world.announcer.restore_ready_file()
    assert not world.ready_file
    assert world.lines() == ["on_ready"], "the hook has not ended"
    wait_until(lambda: "on_withdraw failed" in world.lines(), "the hook fails")
    world.announcer.restore_ready_file()
    assert not world.ready_file
