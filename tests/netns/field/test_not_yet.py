"""An interface or a DIP that is not there yet, or not any more: the agent waits, unannounced."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from netns import brigade
from netns.build import build_link, build_route
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import Fleet, cluster, table
from tests.netns.field.watched import ACTIVE, SOON_SECONDS, START_SECONDS, watched_servers

DIP = f"{brigade.dip(1)}/30"
NAME = brigade.server_name(1)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Network(brigade.brigade(1, 1)) as network:
        made = Fleet(network)
        made.publish(cluster(1, ACTIVE[:1]))
        made.publish(table(1, [1, 0]))
        yield made


def lines(fleet: Fleet, event: str, number: int = 1) -> list[dict[str, object]]:
    """The lines of an agent's log with this event."""
    found = [json.loads(line) for line in fleet.log(number).splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def waits_for(fleet: Fleet, reason: str) -> None:
    """Wait until the agent of server 1 has logged and shown what it waits for."""

    def is_reported() -> bool:
        logged = [str(line["reason"]) for line in lines(fleet, "waiting for the interface")]
        shown = fleet.status(1).get("troubles", {}).get("start", "")
        return any(reason in line for line in logged) and reason in shown

    wait_until(is_reported, f"waiting for {reason}", START_SECONDS)


def rebuild_link(network: Network, server: str) -> None:
    """Make a server's interface and all its routes anew."""
    topology = network.topology
    (link,) = [link for link in topology.links if server in [end.host for end in link.ends]]
    build_link(link, network.hosts)
    for route in topology.routes:
        if server in (route.host, *(hop.interface for hop in route.hops)):
            build_route(route, network[route.host])


def test_an_interface_that_comes_later_is_waited_for(fleet: Fleet) -> None:
    host = fleet.host(1)
    host.run(["ip", "link", "del", "dev", "eth0"])
    agent = fleet.up(1)
    waits_for(fleet, "there is no interface eth0")
    assert not fleet.ready(1)
    rebuild_link(fleet.network, NAME)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
    assert agent.poll() is None, "the same process"
    assert len(lines(fleet, "waiting for the interface")) <= 1 + len(
        {line["reason"] for line in lines(fleet, "waiting for the interface")}
    )
    assert "start" not in fleet.status(1)["troubles"]


def test_a_dip_that_comes_later_is_waited_for(fleet: Fleet) -> None:
    host = fleet.host(1)
    host.run(["ip", "address", "del", DIP, "dev", "eth0"])
    agent = fleet.up(1)
    waits_for(fleet, f"eth0 does not have the DIP {brigade.dip(1)}")
    give_dip(host)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
    assert agent.poll() is None, "the same process"


def give_dip(host: Host) -> None:
    host.run(["ip", "address", "add", DIP, "dev", "eth0"])
    host.run(["ip", "route", "replace", "default", "via", str(brigade.router_address(1))])


def test_what_an_earlier_agent_announced_is_withdrawn_while_waiting(fleet: Fleet) -> None:
    host, log = fleet.host(1), fleet.host(1).base / "hooks.log"
    hooks = {n: ["sh", "-c", f"echo $0 >> {log}", n] for n in ("on_ready", "on_withdraw")}
    agent = fleet.up(1, **hooks)
    wait_until(lambda: log.exists() and fleet.ready(1), "ready", START_SECONDS)
    agent.signal(signal.SIGKILL)
    agent.wait(10)
    host.run(["ip", "address", "del", DIP, "dev", "eth0"])
    assert fleet.ready(1), "an agent that ends withdraws nothing"
    agent = fleet.up(1, **hooks)
    wait_until(lambda: log.read_text().split()[-1] == "on_withdraw", "withdrawn", START_SECONDS)
    wait_until(lambda: not fleet.ready(1), "no ready file", SOON_SECONDS)
    assert "prog/xdp" in host.run(["ip", "-d", "link", "show", "dev", "eth0"]).stdout
    give_dip(host)
    wait_until(lambda: log.read_text().split()[-1] == "on_ready", "announced", START_SECONDS)


def test_what_was_detached_while_no_agent_ran_is_withdrawn_first(fleet: Fleet) -> None:
    host, log = fleet.host(1), fleet.host(1).base / "hooks.log"
    hooks = {n: ["sh", "-c", f"echo $0 >> {log}", n] for n in ("on_ready", "on_withdraw")}
    agent = fleet.up(1, **hooks)
    wait_until(lambda: log.exists() and fleet.ready(1), "ready", START_SECONDS)
    agent.signal(signal.SIGKILL)
    agent.wait(10)
    host.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
    fleet.up(1, **hooks)
    wait_until(lambda: log.read_text().split()[-1] == "on_withdraw", "withdrawn", START_SECONDS)
    wait_until(lambda: log.read_text().split()[-1] == "on_ready", "announced", START_SECONDS)


def test_a_waiting_agent_ends_by_a_signal_and_takes_corrected_settings(fleet: Fleet) -> None:
    agent = fleet.up(1, interface="eth7")
    waits_for(fleet, "there is no interface eth7")
    fleet.config(1, dip="nonsense")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: lines(fleet, "settings not changed"), "refused", SOON_SECONDS)
    fleet.config(1)
    agent.signal(signal.SIGHUP)
    wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    fleet.lbctl(1, "down", "--force")
    agent = fleet.up(1, dip="10.0.9.9")
    waits_for(fleet, "eth0 does not have the DIP 10.0.9.9")
    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0


def test_an_interface_that_goes_and_comes_back_is_taken_into_use_again() -> None:
    """A driver that is loaded again: everything is attached anew, by the same process."""
    with watched_servers() as watched:
        host, agent = watched.server, watched.agents[2]
        hooks = watched.hooks()
        host.run(["ip", "link", "del", "dev", "eth0"])
        wait_until(lambda: not watched.fleet.ready(2), "withdrawn", SOON_SECONDS)
        assert watched.hooks() == [*hooks, "on_withdraw"]
        wait_until(lambda: "interface eth0 is gone" in watched.trouble(), "named", SOON_SECONDS)
        assert "192.0.2.10" in watched.run("ip", "address", "show", "dev", "lo")
        rebuild_link(watched.network, host.name)
        watched.enter_by_server_1()
        wait_until(watched.ready, "ready again", START_SECONDS)
        assert agent.poll() is None
        assert "prog/xdp" in watched.run("ip", "-d", "link", "show", "dev", "eth0")
        watched.answers(seconds=10.0)
        assert watched.fleet.lbctl(2, "down", "--force").returncode == 0
        assert "192.0.2.10" not in watched.run("ip", "address", "show", "dev", "lo")
        assert list(host.bpffs.iterdir()) == []
