"""`lbctl up` and `down` as real processes: what they change, and that nothing of it stays."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.domain.objects import CheckType, ServerState
from netns import brigade
from netns.network import Network
from netns.polling import wait_until
from tests.netns.agent_helpers import OTHER_VIP, PORT, VIP, Fleet, cluster, service, table

LOOK = (
    "ip -d link; ip address; ip route show table all; ip rule; tc qdisc show; "
    "tc filter show dev eth0 ingress; tc filter show dev eth0 egress; "
    "grep -r . /proc/sys/net/ipv4/conf | sort"
)
BOTH = [ServerState.ACTIVE, ServerState.ACTIVE]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Network(brigade.brigade(2, 1, [VIP])) as network:
        yield Fleet(network)


def look(fleet: Fleet) -> list[str]:
    """Everything that an agent might change on server 1."""
    host = fleet.host(1)
    shown = host.run(["sh", "-c", LOOK]).stdout.splitlines()
    lines = [line.partition("valid_lft")[0] for line in shown]
    folders = (host.bpffs, host.run_dir)
    lines += sorted(str(path) for folder in folders for path in folder.rglob("*"))
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    lines += [line for line in mounts if str(fleet.network.record.path) in line]
    return lines


def hooks(fleet: Fleet) -> tuple[dict[str, list[str]], Path]:
    """Settings whose hooks write a line each, with what they find in their environment."""
    path = fleet.host(1).base / "hooks.log"
    line = f'echo "$0 $BUCKET_BRIGADE_SERVER $BUCKET_BRIGADE_VIPS" >> {path}'
    return {n: ["sh", "-c", line, n] for n in ("on_ready", "on_withdraw")}, path


def serve(fleet: Fleet, number: int) -> None:
    words = [sys.executable, "-m", "http.server", "--bind", str(VIP), str(PORT)]
    fleet.host(number).popen(words, "web")


def get(fleet: Fleet, port: int | str = PORT, host: object = VIP) -> str:
    words = ["curl", "-s", "-o", "/dev/null", "-m", "2", "-w", "%{http_code}"]
    client = fleet.network[brigade.client_name(1)]
    return client.run([*words, f"http://{host}:{port}/"], check=False).stdout


def test_up_forwards_and_down_leaves_nothing(fleet: Fleet) -> None:
    before = look(fleet)
    commands, hook_log = hooks(fleet)
    fleet.publish(cluster(1, BOTH, [service(check=CheckType.HTTP)]))
    fleet.publish(table(1, [2, 1]))
    for number in (1, 2):
        fleet.up(number, **(commands if number == 1 else {}))
    wait_until(lambda: fleet.ready(1) and fleet.ready(2), "both ready")
    assert fleet.acknowledged(1) == {"cluster": 1, "table/web": 1}
    serve(fleet, 2)
    wait_until(lambda: get(fleet) == "200", "an answer through both hops")
    wait_until(
        lambda: (
            [
                {
                    name: health.healthy
                    for name, health in fleet.store.reports()[server].checks.items()
                }
                for server in ("server1", "server2")
            ]
            == [{f"web-{VIP}": False}, {f"web-{VIP}": True}]
        ),
        "server 2 finds its listener, server 1 has none",
    )
    first = json.loads(fleet.lbctl(1, "counters", "--json").stdout)["verdicts"]
    second = json.loads(fleet.lbctl(2, "counters", "--json").stdout)["verdicts"]
    assert first["tx_forward_chain"] + second["pass_to_self"] > 0
    assert second["accept_syn"] > 0
    assert "bucket_brigade_packets_total" in get_text(fleet, f"{brigade.dip(1)}:9109/metrics")
    assert get(fleet, 9109) != "200", "metrics must not be served on a VIP"
    wait_until(hook_log.exists, "on_ready was run")
    assert hook_log.read_text() == f"on_ready server1 {VIP}\n"

    assert "nothing to undo" not in fleet.lbctl(1, "down", "--force").stdout
    assert look(fleet) == before
    assert hook_log.read_text() == f"on_ready server1 {VIP}\non_withdraw server1 {VIP}\n"
    assert fleet.store.reports()["server1"].stopped
    assert fleet.lbctl(1, "down").stdout.strip() == "nothing to undo"


def get_text(fleet: Fleet, url: str) -> str:
    client = fleet.network[brigade.client_name(1)]
    return client.run(["curl", "-s", "-m", "2", f"http://{url}"]).stdout


def test_what_was_there_before_is_there_afterwards_also_after_sigkill(fleet: Fleet) -> None:
    """A VIP on lo, a clsact qdisc with a filter, sysctls: others' things are left as they were."""
    host = fleet.host(1)
    host.run(["ip", "address", "add", f"{VIP}/32", "dev", "lo"])
    host.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    matches_nothing = ["bytecode", "1,6 0 0 0,"]
    host.run(
        ["tc", "filter", "add", "dev", "eth0", "ingress", "prio", "60", "bpf", *matches_nothing]
    )
    host.sysctl("net.ipv4.conf.all.rp_filter", "1")
    host.sysctl("net.ipv4.conf.eth0.arp_ignore", "2")
    before = look(fleet)
    fleet.publish(cluster(1, BOTH, [service(VIP), service(OTHER_VIP)]))
    fleet.publish(table(1, [2, 0]))
    agent = fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    assert str(OTHER_VIP) in host.run(["ip", "address", "show", "dev", "lo"]).stdout
    assert host.sysctl("net.ipv4.conf.eth0.rp_filter") == "2"
    agent.signal(signal.SIGKILL)
    wait_until(lambda: agent.poll() is not None, "dead")
    assert look(fleet) != before
    status = json.loads(fleet.lbctl(1, "status", "--json").stdout)
    assert (status["agent_running"], status["ready"]) == (False, True)
    assert status["attached"], "the programs outlive the agent"
    host.run(["ip", "link", "set", "eth0", "xdp", "off"])
    assert "NOT ATTACHED" in fleet.lbctl(1, "status").stdout
    fleet.lbctl(1, "down", "--force")
    assert look(fleet) == before


def test_down_refuses_a_server_in_use_and_up_a_second_agent(fleet: Fleet) -> None:
    fleet.publish(cluster(1, BOTH))
    fleet.publish(table(1, [1, 2]))
    agent = fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    refused = fleet.lbctl(1, "down", check=False)
    assert refused.returncode == 3
    assert "current for 256 buckets of pool web" in refused.stderr
    assert agent.poll() is None

    second = fleet.lbctl(1, "up", check=False)
    assert second.returncode == 3
    assert f"process {agent.id.pid}" in second.stderr

    fleet.publish(table(2, [2, 1]))
    wait_until(lambda: fleet.acknowledged(1).get("table/web") == 2, "table 2")
    hold = (
        "import socket, time\n"
        f"s = socket.create_server(('{VIP}', {PORT})); c = s.accept(); time.sleep(60)"
    )
    server = fleet.host(2)
    fleet.up(2)
    wait_until(lambda: fleet.ready(2), "server 2 ready")
    server.popen([sys.executable, "-c", hold], "hold")
    call = f"import socket,time; s=socket.create_connection(('{VIP}',{PORT}),5); time.sleep(60)"
    wait_until(lambda: f":{PORT}" in server.run(["ss", "-tln"]).stdout, "listening")
    fleet.network[brigade.client_name(1)].popen([sys.executable, "-c", call], "call")
    wait_until(
        lambda: fleet.store.reports()["server2"].connections == 1, "the connection is counted"
    )
    fleet.publish(table(3, [1, 2]))
    wait_until(lambda: fleet.acknowledged(2).get("table/web") == 3, "table 3")
    refused = fleet.lbctl(2, "down", check=False)
    assert (refused.returncode, "serving 1 connections" in refused.stderr) == (3, True)
    assert fleet.lbctl(2, "down", "--force").returncode == 0
    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert fleet.ready(1), "ending the agent withdraws nothing"
