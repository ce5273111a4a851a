"""The rows of docs/signs.md, one by one, with the real loop over a real store."""

from __future__ import annotations

import re

import pytest

from controlplane.operator.overview import overview
from lb.cli.servers import LISTEN_SECONDS, print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.fleet import EVEN, dip

THREE = {"s1", "s2", "s4"}
PROBES = 10
"""More than a service's resets in a row until it counts as failing."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act on a server that is not ready after half a second; the others' times stay."""
    monkeypatch.setattr("controlplane.observe.heartbeats.NOT_READY_SECONDS", 0.5)


def test_a_server_whose_programs_are_detached_leaves_the_tables(fleet: Fleet) -> None:
    """Its agent speaks, so nothing else would ever take it out."""
    fleet.up(4)
    fleet.agents["s3"].detached = True
    assert wait_until(lambda: "s3" not in fleet.named(), "s3 is in no chain") < 3
    assert fleet.states()["s3"] == "down"
    found = overview(fleet.store, fleet.config(4), 1.3)
    assert found["servers"][2]["agent"] == "detached"


def test_programs_that_are_attached_again_bring_the_server_back(fleet: Fleet) -> None:
    fleet.up(4)
    fleet.agents["s3"].detached = True
    wait_until(lambda: fleet.states()["s3"] == "down", "down")
    fleet.agents["s3"].detached = False
    wait_until(lambda: fleet.states()["s3"] == "active", "active again")
    wait_until(lambda: fleet.current() == EVEN, "a full share again")


def test_programs_that_are_attached_again_at_once_move_nothing(fleet: Fleet) -> None:
    fleet.up(4)
    before = fleet.cluster().generation
    fleet.agents["s3"].detached = True
    fleet.go_on(0.3)
    fleet.agents["s3"].detached = False
    fleet.go_on(1.5)
    assert fleet.cluster().generation == before


def test_a_server_that_is_not_ready_gets_no_new_connections(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays in chains: what it still can deliver, it delivers."""
    fleet.up(4)
    fleet.agents["s3"].ready = False
    wait_until(lambda: fleet.current().keys() == THREE, "s3 is current for no bucket")
    assert "s3" in fleet.named()
    assert fleet.states()["s3"] == "active"
    assert "not ready, no new connections go there" in capsys.readouterr().out
    fleet.agents["s3"].ready = True
    wait_until(lambda: fleet.current() == EVEN, "a full share again")


def test_a_moment_without_readiness_moves_nothing(fleet: Fleet) -> None:
    """A restarted agent needs some seconds."""
    fleet.up(4)
    before = fleet.table()
    fleet.agents["s3"].ready = False
    fleet.go_on(0.2)
    fleet.agents["s3"].ready = True
    fleet.go_on(1.0)
    after = fleet.table()
    assert before
    assert after
    assert (after.chains[:, 0] == before.chains[:, 0]).all()


def test_when_no_server_is_ready_the_table_stays(fleet: Fleet) -> None:
    """A hook that fails on all of them at once must not empty the table."""
    fleet.up(4)
    for agent in fleet.agents.values():
        agent.ready = False
    wait_until(lambda: fleet.rounds[-1].outcomes["web"].health.panic, "panic")
    fleet.go_on(0.5)
    assert fleet.current() == EVEN


def test_a_joining_server_gets_buckets_once_it_is_ready(fleet: Fleet) -> None:
    fleet.up(3)
    config = fleet.config(4)
    assert fleet.loop
    fleet.agent("s4", ready=False)
    fleet.loop.configure(config, fleet.prober)
    wait_until(lambda: fleet.states().get("s4") in ("joining", "active"), "s4 joins")
    fleet.go_on(0.5)
    assert "s4" not in fleet.named()
    fleet.agents["s4"].ready = True
    wait_until(lambda: fleet.current() == EVEN, "s4 has its share")


def test_a_joining_server_that_is_not_ready_gives_back_what_the_first_table_gave_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can be ready before there is a table, so the first one has every server."""
    monkeypatch.setattr("controlplane.observe.heartbeats.NOT_READY_SECONDS", 60.0)
    config = fleet.config(3)
    for server in config.server:
        fleet.agent(server.name, ready=server.name != "s3")
    fleet.control(config)
    wait_until(lambda: fleet.table() is not None, "there is a table")
    wait_until(lambda: fleet.current().keys() == {"s1", "s2"}, "s3 is current nowhere")
    fleet.agents["s3"].ready = True
    wait_until(lambda: len(fleet.current()) == 3, "s3 has buckets")


def test_a_silent_server_whose_vip_refuses_gets_no_new_connections(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Agent and service are killed, the machine answers: it is no death, and not health either."""
    fleet.up(4, silent_wait_seconds=60.0)
    fleet.prober.refusing.add(dip(3))
    fleet.agents["s3"].end()
    assert wait_until(lambda: fleet.current().keys() == THREE, "s3 is current for no bucket") < 3
    assert fleet.states()["s3"] == "active"
    assert "its services refuse connections: start its agent" in capsys.readouterr().out


def test_the_overview_shows_that_a_silent_servers_services_refuse(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot probe: it shows what the controller's probes found, and only while that is new."""
    ordinary = fleet.config(4, silent_after_seconds=1.0)
    fleet.up(4, silent_wait_seconds=60.0)
    fleet.prober.refusing.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.current().keys() == THREE, "s3 is current for no bucket")
    capsys.readouterr()
    with fleet.store.lead("c1"):
        found = overview(fleet.store, ordinary, LISTEN_SECONDS)
    (service,) = found["servers"][2]["refusing"]
    assert [server["refusing"] for server in found["servers"][:2]] == [[], []]
    print_servers(found)
    shown = capsys.readouterr().out
    assert re.search(r"s3 .* silent, services refuse ", shown)
    assert f"s3 is silent, and {service} there refuses connections: start its agent and" in shown
    fleet.prober.refusing.clear()
    wait_until(lambda: not fleet.rounds[-1].fleet.servers["s3"].refused_services, "it accepts")
    with fleet.store.lead("c1"):
        found = overview(fleet.store, ordinary, LISTEN_SECONDS)
    assert found["servers"][2]["agent"] == "silent"
    assert not found["servers"][2]["refusing"]


def test_a_server_that_refused_gets_buckets_again_when_its_agent_speaks(fleet: Fleet) -> None:
    """Not before: an agent that does not speak takes no new tables."""
    fleet.up(4, silent_wait_seconds=60.0)
    fleet.prober.refusing.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.current().keys() == THREE, "s3 is current for no bucket")
    fleet.prober.refusing.clear()
    wait_until(lambda: not fleet.rounds[-1].outcomes["web"].health.unhealthy, "it accepts")
    fleet.go_on(0.5)
    assert fleet.current().keys() == THREE
    fleet.agent("s3", boot_id="2")
    wait_until(lambda: fleet.current() == EVEN, "a full share again")


def test_a_silent_server_whose_vip_accepts_keeps_its_share(fleet: Fleet) -> None:
    """Only the agent was killed: forwarding and the service go on."""
    fleet.up(4)
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.rounds[-1].fleet.servers["s3"].silent, "silent")
    fleet.go_on(1.5)
    assert fleet.current() == EVEN


def test_a_reset_means_nothing_for_a_service_without_a_check(fleet: Fleet) -> None:
    service = {"name": "a", "vip": "192.0.2.1", "protocol": "tcp", "port": 80, "pool": "web"}
    fleet.up(4, service=[{**service, "check": {"type": "none"}}])
    fleet.prober.refusing.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: len(fleet.prober.probed) > PROBES, "it was probed often enough")
    fleet.go_on(0.5)
    assert fleet.current() == EVEN


def test_of_several_services_a_silent_servers_probes_take_turns(fleet: Fleet) -> None:
    ports = {80, 81, 82}
    fleet.up(
        3,
        service=[
            {
                "name": f"port-{port}",
                "vip": "192.0.2.1",
                "protocol": "tcp",
                "port": port,
                "pool": "web",
                "check": {"type": "tcp"},
            }
            for port in ports
        ],
    )
    fleet.agents["s3"].end()
    wait_until(lambda: {port for _, port in fleet.prober.asked} == ports, "all are probed")


def test_the_overview_shows_at_once_what_an_agent_reports(fleet: Fleet) -> None:
    """It has listened for less time than the controller waits before it acts."""
    ordinary = fleet.config(4, silent_after_seconds=1.0)
    fleet.up(4)
    fleet.agents["s2"].ready = False
    fleet.agents["s3"].detached = True

    def shown() -> list[tuple[str, bool]]:
        with fleet.store.lead("c1"):
            found = overview(fleet.store, ordinary, LISTEN_SECONDS)
        return [(server["agent"], server["not_ready"]) for server in found["servers"]]

    wait_until(lambda: shown()[1:3] == [("speaks", True), ("detached", False)], "shown", 5.0)


@pytest.mark.parametrize("source", ["Prometheus", "their agents"])
def test_loads_that_are_not_known_are_shown_and_counted(
    fleet: Fleet, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens where Prometheus should be; or one agent cannot measure its load."""
    pool: dict[str, object] = {"name": "web", "buckets": 256, "balance": "load"}
    if source == "Prometheus":
        away = {"prometheus_url": "http://127.0.0.1:1", "query": "x", "server_label": "instance"}
        pool |= {"load": "prometheus", **away}
    unknown = ["s1", "s2", "s3"] if source == "Prometheus" else ["s2"]
    config = fleet.up(3, pool=[pool])
    fleet.agents["s2"].load = None
    wait_until(
        lambda: fleet.metric("load_unknown", pool="web") == len(unknown), "counted, and only those"
    )
    fleet.go_on(0.3)
    with fleet.store.lead("c1"):
        found = overview(fleet.store, config, LISTEN_SECONDS)
    assert found["pools"][0]["load_unknown"] == unknown
    capsys.readouterr()
    print_servers(found)
    expected = f"LOAD UNKNOWN: pool web has no load of {', '.join(unknown)} from {source}"
    assert expected in capsys.readouterr().out


def test_a_pool_with_equal_shares_needs_no_load(fleet: Fleet) -> None:
    fleet.up(3)
    fleet.agents["s2"].load = None
    fleet.go_on(0.5)
    assert fleet.metric("load_unknown", pool="web") == 0
