"""A restart of an agent moves no routes; a boot of the machine does not trust old documents."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from controlplane.domain.objects import ServerState
from lb.agent.machine.boot import NamespaceId
from lb.agent.machine.undo_record import FILE, Record, encode
from netns import brigade
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process
from tests.netns.agent_helpers import VIP, Fleet, cluster, table

ACTIVE = [ServerState.ACTIVE] * 2
NAME = brigade.server_name(1)
START_SECONDS = 60.0
"""An agent compiles its programs first: on a busy machine that takes a while."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Links without space for the wrap: the agent lowers the MSS by a routing table."""
    with Network(brigade.brigade(2, 1, [VIP], server_mtu=brigade.CLIENT_MTU)) as network:
        made = Fleet(network)
        made.publish(cluster(1, ACTIVE))
        made.publish(table(1, [2, 1]))
        yield made


def hooks(fleet: Fleet) -> tuple[dict[str, list[str]], Path]:
    """Hooks that write their name."""
    log = fleet.host(1).base / "hooks.log"
    return {n: ["sh", "-c", f"echo $0 >> {log}", n] for n in ("on_ready", "on_withdraw")}, log


def runs(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def reports_anew(fleet: Fleet, before: str) -> bool:
    return fleet.store.reports()[NAME].boot_id != before


def end(agent: Process, number: signal.Signals) -> None:
    agent.signal(number)
    wait_until(lambda: agent.poll() is not None, "the agent ends")


def test_restarts_of_an_agent_run_on_ready_and_never_on_withdraw(fleet: Fleet) -> None:
    """The agent's table for the MSS is in place meanwhile, and so are its programs."""
    commands, log = hooks(fleet)
    agent = fleet.up(1, **commands)
    wait_until(lambda: runs(log) == ["on_ready"], "announced", START_SECONDS)
    assert "lookup 6080" in fleet.host(1).run(["ip", "rule"]).stdout
    for count, number in enumerate((signal.SIGTERM, signal.SIGKILL), start=2):
        end(agent, number)
        reported = fleet.store.reports()[NAME].boot_id
        agent = fleet.up(1, **commands)
        wait_until(partial(reports_anew, fleet, reported), "it reports", START_SECONDS)
        while len(runs(log)) < count:
            assert fleet.store.reports()[NAME].ready, "it was ready, and is"
            assert fleet.ready(1)
            assert agent.poll() is None
            time.sleep(0.02)
        assert runs(log) == ["on_ready"] * count
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        assert set(runs(log)) == {"on_ready"}
        assert fleet.store.reports()[NAME].ready


def test_a_restarted_agent_that_knows_better_withdraws(fleet: Fleet) -> None:
    commands, log = hooks(fleet)
    end_it = fleet.up(1, **commands)
    wait_until(lambda: runs(log) == ["on_ready"], "announced", START_SECONDS)
    end(end_it, signal.SIGKILL)
    fleet.publish(cluster(2, [ServerState.DOWN, ServerState.ACTIVE]))
    fleet.up(1, **commands)
    wait_until(lambda: runs(log) == ["on_ready", "on_withdraw"], "withdrawn", START_SECONDS)
    wait_until(lambda: not fleet.ready(1), "not ready")


def boot(fleet: Fleet) -> None:
    """Make the record be of another boot of the machine; nothing of that is left here."""
    fleet.lbctl(1, "down", "--force")
    another = NamespaceId("00000000-0000-0000-0000-000000000000", "cookie:1")
    record = Record(another, brigade.INTERFACE, str(fleet.host(1).bpffs), announced=True)
    (fleet.host(1).state_dir / FILE).write_text(encode(record))


def test_after_a_boot_saved_documents_alone_do_not_make_ready(fleet: Fleet) -> None:
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready: a first start", START_SECONDS)
    boot(fleet)
    agent = fleet.up(1)
    wait_until(
        lambda: "controller" in fleet.status(1).get("troubles", {}), "it says why", START_SECONDS
    )
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        assert not fleet.ready(1)
    assert "not ready before one does" in fleet.lbctl(1, "status").stdout
    with fleet.store.lead("the controller"):
        wait_until(lambda: fleet.ready(1), "a controller leads", 5.0)
    wait_until(lambda: "controller" not in fleet.status(1)["troubles"], "nothing is wrong")
    end(agent, signal.SIGKILL)
    fleet.up(1)
    wait_until(lambda: fleet.status(1)["troubles"] == {}, "a mere restart", START_SECONDS)
    assert fleet.ready(1)


def test_after_a_boot_without_any_controller_it_goes_on_and_says_so_loudly(fleet: Fleet) -> None:
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready: a first start", START_SECONDS)
    boot(fleet)
    fleet.up(1, controller_wait_seconds=3)
    wait_until(lambda: fleet.ready(1), "it goes on", START_SECONDS)
    wait_until(
        lambda: "READY BY SAVED" in fleet.status(1)["troubles"].get("controller", ""), "loudly"
    )
    shown = fleet.lbctl(1, "status").stdout
    assert "TROUBLE" in shown
    assert "lbctl control" in shown
