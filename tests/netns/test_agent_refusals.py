"""What `lbctl up` refuses in one line, and what of others it leaves alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import XDP_FLAGS_DRV_MODE

from controlplane.domain.objects import ServerState
from lb.agent.machine.lock import interface_lock
from netns import bpf, brigade
from netns.network import Network
from netns.offload import switch_merging
from netns.polling import wait_until
from tests.netns.agent_helpers import VIP, Fleet, cluster, service, table

ACTIVE = [ServerState.ACTIVE] * 2


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Network(brigade.brigade(2, 1, [VIP])) as network:
        yield Fleet(network)


def xdp_of(fleet: Fleet, number: int) -> str:
    host = fleet.host(number)
    return host.run(["ip", "-d", "link", "show", "dev", brigade.INTERFACE]).stdout


def refused(fleet: Fleet, *words: str, **changes: object) -> tuple[int, str]:
    fleet.config(1, **changes)
    done = fleet.lbctl(1, "up", *words, check=False)
    assert done.stderr.count("\n") == 1, f"more than a line: {done.stderr}"
    return done.returncode, done.stderr


def test_wrong_settings_and_a_wrong_machine_are_one_line(fleet: Fleet) -> None:
    """`lbctl up` itself waits for what the machine does not have yet."""
    code, line = refused(fleet, colour="red")
    assert (code, "colour: unknown key" in line) == (2, True)
    code, line = refused(fleet, "--dry-run", interface="eth7")
    assert (code, "no interface eth7" in line) == (1, True)
    code, line = refused(fleet, "--dry-run", dip="10.0.9.9")
    assert (code, "eth0 does not have the DIP 10.0.9.9, but 10.0.1.2" in line) == (1, True)
    host = fleet.host(1)
    host.run(["ip", "link", "set", "dev", "eth0", "down"])
    code, line = refused(fleet, "--dry-run")
    assert (code, "eth0 is down" in line) == (1, True)
    host.run(["ip", "link", "set", "dev", "eth0", "up", "mtu", "600"])
    code, line = refused(fleet, "--dry-run")
    assert (code, "too little for the encapsulation" in line) == (1, True)
    assert not (host.state_dir / "record.json").exists()


def test_a_foreign_xdp_program_is_named_and_left_alone(fleet: Fleet) -> None:
    host = fleet.host(1)
    host.netlink(attach_foreign)
    before = xdp_of(fleet, 1)
    assert "prog/xdp" in before
    code, line = refused(fleet)
    assert code == 3
    assert "another XDP program" in line
    assert "xdp off" in line
    assert xdp_of(fleet, 1) == before
    assert fleet.lbctl(1, "down").returncode == 0
    assert xdp_of(fleet, 1) == before


def attach_foreign(netlink: Any) -> None:
    descriptor = bpf.load_pass_all()
    (index,) = netlink.link_lookup(ifname=brigade.INTERFACE)
    attributes = [("IFLA_XDP_FD", descriptor), ("IFLA_XDP_FLAGS", XDP_FLAGS_DRV_MODE)]
    netlink.link("set", index=index, xdp={"attrs": attributes})
    os.close(descriptor)


def test_a_dry_run_tells_and_changes_nothing(fleet: Fleet) -> None:
    near = replace(service(), name="near", vip=IPv4Network("10.0.1.0/31"))
    fleet.publish(cluster(1, ACTIVE, [service(), near]))
    fleet.config(1)
    before = xdp_of(fleet, 1)
    lines = fleet.lbctl(1, "up", "--dry-run").stdout
    for part in ("pin programs", "attach the forwarder", f"add {VIP}/32", "arp_ignore to 1"):
        assert part in lines
    assert "warn: VIP 10.0.1.0/31 covers the gateway 10.0.1.1: not put up" in lines
    assert "add 10.0.1.0/31" not in lines
    assert "gro off" not in lines
    fleet.config(1, xdp_mode="generic")
    fleet.host(1).call(switch_merging, brigade.INTERFACE, on=True)
    assert "ethtool -K eth0 gro off" in fleet.lbctl(1, "up", "--dry-run").stdout
    assert xdp_of(fleet, 1) == before
    host = fleet.host(1)
    assert not (host.state_dir / "record.json").exists()
    assert host.sysctl("net.ipv4.conf.eth0.arp_ignore") == "0"


def test_a_port_in_use_for_metrics_is_one_line(fleet: Fleet) -> None:
    host = fleet.host(1)
    host.popen(["python3", "-m", "http.server", "9109", "--bind", str(brigade.dip(1))], "squatter")
    wait_until(lambda: ":9109" in host.run(["ss", "-tln"]).stdout, "the squatter")
    code, line = refused(fleet)
    assert (code, "cannot serve metrics on 10.0.1.2:9109" in line) == (1, True)


def test_one_lock_for_each_interface_and_namespace(fleet: Fleet) -> None:
    """The same interface name in another namespace is another interface."""

    def hold() -> int:
        with interface_lock(brigade.INTERFACE):
            return os.getpid()

    with fleet.host(2).entered(), interface_lock(brigade.INTERFACE):
        assert fleet.host(1).call(hold) == os.getpid()
        with pytest.raises(Exception, match=f"process {os.getpid()}"):
            fleet.host(2).call(hold)
    assert fleet.host(2).call(hold) == os.getpid()


def test_a_changed_neighbour_is_followed(fleet: Fleet) -> None:
    """The gateway gets another MAC: the forwarder's entry of every DIP behind it follows."""
    from lb.dataplane.pinned import PinnedDataplane

    fleet.publish(cluster(1, ACTIVE))
    fleet.publish(table(1, [2, 0]))
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    pins = fleet.host(1).bpffs / brigade.INTERFACE

    def mac_of_server_2() -> bytes | None:
        with PinnedDataplane(pins) as dataplane:
            address, mac = dataplane.dips()[2]
            assert address == IPv4Address(brigade.dip(2))
            return mac

    wait_until(lambda: mac_of_server_2() is not None, "resolved by the agent itself")
    gateway = str(brigade.router_address(1))
    words = ["ip", "neigh", "replace", gateway, "dev", "eth0", "lladdr"]
    fleet.host(1).run([*words, "02:00:00:00:00:07", "nud", "permanent"])
    new = bytes.fromhex("020000000007")
    wait_until(lambda: mac_of_server_2() == new, "the new MAC")
    fleet.host(1).run(["ip", "link", "set", "dev", "eth0", "address", "02:00:00:00:00:99"])
    wait_until(lambda: fleet.status(1)["attached"], "still attached")


def test_down_works_without_the_interface(fleet: Fleet) -> None:
    fleet.publish(cluster(1, ACTIVE))
    fleet.publish(table(1, [2, 0]))
    agent = fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    host = fleet.host(1)
    host.run(["ip", "link", "delete", "dev", "eth0"])
    wait_until(lambda: not fleet.ready(1), "withdrawn")
    assert "Traceback" not in fleet.log(1)
    assert fleet.lbctl(1, "down", "--force").returncode == 0
    assert agent.wait(10) == 0
    assert str(VIP) not in host.run(["ip", "address", "show", "dev", "lo"]).stdout
    assert list(host.bpffs.iterdir()) == []
    assert host.sysctl("net.ipv4.conf.all.arp_ignore") == "0"
