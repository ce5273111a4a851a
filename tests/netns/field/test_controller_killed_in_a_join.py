"""A controller that is killed in a slow start, and its successor: shares are stored, not inferred.

Before, the successor took the few buckets of a server in slow start for its full share: it became
active with 21 of 65,536 buckets and kept them for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.store.state_dir import StateDir
from lb.agent.documents.controller_copy import ControllerCopy
from netns.polling import wait_until
from tests.netns.field.controllers import Controllers
from tests.unit.controlplane.conftest import Fleet

SLOW_START_SECONDS = 8
BUCKETS = 4096
SETTINGS = f"""
tick_seconds = 0.2
silent_after_seconds = 2
silent_wait_seconds = 4
slow_start_seconds = {SLOW_START_SECONDS}
{{servers}}
[[pool]]
name = "web"
buckets = {BUCKETS}
drain_time_seconds = 1
[[service]]
name = "http"
vip = "192.0.2.1"
protocol = "tcp"
port = 80
pool = "web"
"""
SERVERS = "".join(f'[[server]]\nname = "s{n}"\ndip = "10.1.0.{n}"\n' for n in (1, 2, 3, 4))
PART = BUCKETS // 4
JUST_BEGUN = range(1, PART // 2)


@pytest.fixture
def controllers(tmp_path: Path) -> Iterator[Controllers]:
    made = Controllers(tmp_path, SETTINGS.format(servers=SERVERS))
    yield made
    made.kill()


@pytest.fixture
def fleet(controllers: Controllers) -> Iterator[Fleet]:
    """Agents of four servers, of which s4 has just begun to join."""
    made = Fleet(controllers.store)
    controllers.start()
    for name in ("s1", "s2", "s3"):
        made.agent(name)
    wait_until(lambda: len(made.current()) == 3, "a table of three", 30)
    wait_until(lambda: set(made.states().values()) == {"active", "registered"}, "active", 30)
    made.agent("s4")
    wait_until(lambda: made.current().get("s4", 0) in JUST_BEGUN, "s4 has a few buckets", 30)
    yield made
    made.close()


def even(fleet: Fleet) -> bool:
    """Whether all have their part, and s4 is active."""
    return fleet.states()["s4"] == "active" and all(
        abs(fleet.current().get(name, 0) - PART) <= PART // 20 for name in fleet.agents
    )


def await_even(fleet: Fleet, seconds: float = 60) -> None:
    wait_until(lambda: even(fleet), f"an even share for all; now {fleet.current()}", seconds)


def test_the_successor_goes_on_with_the_slow_start_and_gives_a_full_share(
    controllers: Controllers, fleet: Fleet
) -> None:
    controllers.kill()
    held = fleet.current()["s4"]
    assert held < PART
    controllers.start()
    controllers.rounds(5)
    assert fleet.states()["s4"] == "joining"
    assert held * 0.8 <= fleet.current()["s4"] < PART, "neither back nor at once"
    await_even(fleet)
    assert not controllers.lines(
        "no state of an earlier controller: shares begin equal, slow starts begin anew"
    )


def test_three_killed_one_after_the_other_are_no_worse(
    controllers: Controllers, fleet: Fleet
) -> None:
    for _ in range(3):
        controllers.kill()
        controllers.start()
        controllers.rounds(3)
    await_even(fleet)


def test_a_drain_and_an_undrain_in_slow_start_end_with_a_full_share(
    controllers: Controllers, fleet: Fleet
) -> None:
    controllers.kill()
    controllers.start()
    controllers.run("drain", "s4")
    wait_until(lambda: "s4" not in fleet.current(), "s4 is drained", 30)
    controllers.run("undrain", "s4")
    await_even(fleet)


def test_a_damaged_state_is_logged_and_shares_are_equal(
    controllers: Controllers, fleet: Fleet
) -> None:
    controllers.kill()
    newest = max((controllers.store / "documents/controller").glob("*.json"), key=_generation)
    newest.write_bytes(newest.read_bytes().replace(b'"fleet_seconds":', b'"fleet_seconds":9'))
    controllers.start()
    wait_until(
        lambda: controllers.lines(
            "no state of an earlier controller: shares begin equal, slow starts begin anew"
        ),
        "the log has it",
    )
    await_even(fleet)


def _generation(path: Path) -> int:
    return int(path.stem)


def test_requests_and_shares_survive_the_loss_of_the_controllers_machine(
    controllers: Controllers, fleet: Fleet, tmp_path: Path
) -> None:
    controllers.run("drain", "s2", "--reason", "a new kernel")
    wait_until(lambda: "s2" not in fleet.current(), "s2 is drained", 30)
    saved = StateDir(tmp_path / "state")
    ControllerCopy(fleet.store, saved).refresh()  # what every agent does
    for kind in fleet.store.kinds():
        version = fleet.store.latest(kind)
        assert version
        saved.save_document(kind, version.data)
    for pool in fleet.cluster().pools:
        saved.save_key(pool.key_id, fleet.store.key(pool.key_id))
    controllers.kill()
    generations = fleet.store.kinds()
    old = {name: (agent.cluster, dict(agent.tables)) for name, agent in fleet.agents.items()}
    fleet.close()

    lost = tmp_path / "lost"
    controllers.store.rename(lost)
    controllers.start("--seed", str(tmp_path / "state"))
    successor = Fleet(controllers.store)
    try:
        for name, (cluster, tables) in old.items():
            for kind, generation in generations.items():  # real agents repeat this every 5 s
                successor.store.acknowledge(name, kind, generation)
            successor.agent(name, cluster=cluster, tables=tables, boot_id="2")
        controllers.rounds(20)
        assert "s2" not in successor.current(), "drained still"
        shown = controllers.run("servers")
        assert "drain of s2 requested by " in shown
        assert ": a new kernel" in shown
        controllers.run("undrain", "s2")
        await_even(successor)
    finally:
        successor.close()
