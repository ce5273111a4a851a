"""A new agent takes the place of a killed one under traffic; documents are followed and refused."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from controlplane.documents.check import encode_cluster, encode_table
from controlplane.domain.objects import CLUSTER, ServerState
from controlplane.store.state_dir import StateDir
from lb.abi import Slot
from lb.agent.attach import guests
from lb.agent.attach.bpffs import pin_name
from lb.agent.attach.program_info import ProgramInfo, program_info
from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.root_array import program_in, put_program
from netns import brigade
from netns.bpf import load_pass_all
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process
from tests.netns.agent_helpers import KEY, PORT, VIP, Fleet, cluster, service, table

SERVER = f"""
import pathlib, socket, sys, time
listener = socket.create_server(("{VIP}", {PORT}))
connection, _ = listener.accept()
block = 0
while not pathlib.Path(sys.argv[1]).exists():
    connection.sendall(block.to_bytes(4, "big") * 4096)
    block += 1
    time.sleep(0.005)
"""
CLIENT = f"""
import socket
connection = socket.create_connection(("{VIP}", {PORT}), 5)
connection.settimeout(5)
stream, block = connection.makefile("rb"), 0
while data := stream.read(16384):
    assert data == block.to_bytes(4, "big") * 4096, "wrong content"
    block += 1
    print(block, flush=True)
"""
ACTIVE = [ServerState.ACTIVE] * 2


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Network(brigade.brigade(2, 1, [VIP])) as network:
        yield Fleet(network)


def programs(fleet: Fleet, number: int) -> tuple[int, int]:
    """Ids of the programs on the interface: XDP and tc."""
    host = fleet.host(number)
    link = host.run(["ip", "-d", "link", "show", "dev", brigade.INTERFACE]).stdout
    filters = host.run(["tc", "filter", "show", "dev", brigade.INTERFACE, "ingress"]).stdout
    xdp, tc = re.search(r"prog/xdp id (\d+)", link), re.search(r" id (\d+)", filters)
    assert xdp is not None
    assert tc is not None
    return int(xdp[1]), int(tc[1])


def replaced(fleet: Fleet, number: int, old: tuple[int, int]) -> bool:
    return not set(programs(fleet, number)) & set(old)


def test_a_transfer_survives_sigkill_and_the_replacement_of_both_programs(fleet: Fleet) -> None:
    fleet.publish(cluster(1, ACTIVE))
    fleet.publish(table(1, [2, 1]))
    agents = [fleet.up(1), fleet.up(2)]
    wait_until(lambda: fleet.ready(1) and fleet.ready(2), "both ready")
    server, client = fleet.host(2), fleet.network[brigade.client_name(1)]
    enough = server.base / "enough"
    server.popen([sys.executable, "-c", SERVER, enough], "server")
    wait_until(lambda: f":{PORT}" in server.run(["ss", "-tln"]).stdout, "listening")
    transfer = client.popen([sys.executable, "-c", CLIENT], "client")
    wait_until(lambda: transfer.output().count("\n") > 10, "bytes flow")

    before = [programs(fleet, number) for number in (1, 2)]
    pins = sorted(path.name for path in fleet.host(1).bpffs.rglob("*"))
    for number, agent in enumerate(agents, start=1):
        agent.kill()
        assert fleet.ready(number), "an announcement outlives the agent"
        fleet.up(number)
        wait_until(
            partial(replaced, fleet, number, before[number - 1]),
            "both programs replaced",
        )
        wait_until(lambda: not list(fleet.host(1).bpffs.glob("*:*")), "its pins")
    blocks = transfer.output().count("\n")
    wait_until(lambda: transfer.output().count("\n") > blocks + 10, "bytes flow on")
    enough.touch()
    assert transfer.wait(10) == 0, transfer.output()[-500:]
    assert sorted(path.name for path in fleet.host(1).bpffs.rglob("*")) == pins
    fleet.lbctl(1, "down", "--force")
    assert "clsact" not in fleet.host(1).run(["tc", "qdisc"]).stdout


class Array:
    """The root array of server 1, and another's program in one of its slots."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.directory = fleet.host(1).bpffs / pin_name(brigade.INTERFACE)
        self.pin = self.directory / guests.ROOT
        self.guest: ProgramInfo | None = None

    def admit(self, array: int) -> None:
        """Put a program into the slot after the forwarder."""
        descriptor = load_pass_all()
        self.guest = program_info(descriptor)
        put_program(array, Slot.AFTER, descriptor)
        os.close(descriptor)

    def info(self) -> bpf_syscall.MapInfo:
        """What is pinned."""
        descriptor = bpf_syscall.obj_get(self.pin)
        try:
            return bpf_syscall.map_info(descriptor)
        finally:
            os.close(descriptor)

    def start(self) -> Process:
        """Start an agent, and wait until its programs and pins are the only ones."""
        before = programs(self._fleet, 1)
        agent = self._fleet.up(1)
        wait_until(partial(replaced, self._fleet, 1, before), "both programs replaced")
        wait_until(lambda: not list(self.directory.parent.glob("*:*")), "its pins")
        return agent


@pytest.fixture
def array(fleet: Fleet) -> Array:
    return Array(fleet)


@pytest.fixture
def agent(fleet: Fleet) -> Process:
    fleet.publish(cluster(1, ACTIVE))
    fleet.publish(table(1, [2, 0]))
    started = fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    return started


def test_the_root_array_stays_with_whom_it_serves_until_nobody_needs_it(
    fleet: Fleet, agent: Process, array: Array
) -> None:
    """It outlives agents, one that was killed while its pins took their place, and `down`."""
    descriptor = bpf_syscall.obj_get(array.pin)
    array.admit(descriptor)
    os.close(descriptor)
    first = array.info().map_id
    agent.kill()
    array.directory.rename(array.directory.with_name(f"{array.directory.name}:0"))
    array.start()
    assert array.info().map_id == first
    assert guests.guest_programs(array.pin) == {Slot.AFTER: array.guest}

    told = fleet.lbctl(1, "down", "--force").stdout
    assert f"left {array.guest} in slot {int(Slot.AFTER)} of {array.pin}" in told
    assert list(array.directory.iterdir()) == [array.pin]
    descriptor = bpf_syscall.obj_get(array.pin)
    assert program_in(descriptor, Slot.FORWARDER) is None
    os.close(descriptor)
    assert "nothing to undo" in fleet.lbctl(1, "down").stdout

    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready again")
    assert array.info().map_id == first
    descriptor = bpf_syscall.obj_get(array.pin)
    assert program_in(descriptor, Slot.FORWARDER) is not None
    bpf_syscall.map_delete(descriptor, Slot.AFTER)
    os.close(descriptor)
    fleet.lbctl(1, "down", "--force")
    assert not array.directory.exists()


def test_an_array_of_another_version_gives_way_and_whom_it_served_is_named(
    fleet: Fleet, agent: Process, array: Array
) -> None:
    agent.kill()
    kind = bpf_syscall.MAP_TYPE_PROG_ARRAY
    descriptor = bpf_syscall.map_create(kind, 4, 4, 16, name="lb_root_slots")
    array.admit(descriptor)
    array.pin.unlink()
    bpf_syscall.obj_pin(descriptor, array.pin)
    os.close(descriptor)
    array.start()
    assert array.info().max_entries == Slot.COUNT
    assert guests.guest_programs(array.pin) == {}
    (told,) = (line for line in fleet.log(1).splitlines() if "not run any more" in line)
    assert str(array.guest) in told


def test_documents_are_followed_and_bad_ones_refused_with_a_metric(fleet: Fleet) -> None:
    fleet.publish(cluster(1, [ServerState.REGISTERED, ServerState.ACTIVE]))
    agent = fleet.up(1)
    wait_until(lambda: fleet.acknowledged(1).get(CLUSTER) == 1, "cluster 1")
    fleet.publish(table(1, [2, 0]))
    wait_until(lambda: fleet.acknowledged(1).get("table/web") == 1, "table 1")
    assert not fleet.ready(1), "a registered server gets no traffic from routers"

    fleet.publish_bytes("table/web", 2, b'{"format": "something else"}')
    wait_until(lambda: fleet.status(1)["refused"], "the refusal")
    (refusal,) = fleet.status(1)["refused"]
    assert (refusal["kind"], refusal["count"]) == ("table/web", 1)
    assert fleet.acknowledged(1)["table/web"] == 1
    port = fleet.network[brigade.client_name(1)]
    page = port.run(["curl", "-s", f"http://{brigade.dip(1)}:9109/metrics"]).stdout
    assert re.search(r'documents_refused_total\{kind="table/web",reason="\w+"\} 1\.0', page)
    assert 'document_generation{kind="table/web"} 1.0' in page
    shown = json.loads(fleet.lbctl(1, "table", "--json").stdout)["tables"][0]
    assert (shown["generation"], shown["rows"][1]["current"]) == (1, 256)

    fleet.publish(cluster(2, [ServerState.JOINING, ServerState.ACTIVE]))
    wait_until(lambda: fleet.ready(1), "ready once joining")
    fleet.publish(table(3, [1, 2], cluster_generation=2))
    wait_until(lambda: fleet.acknowledged(1).get("table/web") == 3, "table 3")
    fleet.publish(cluster(3, [ServerState.DRAINING, ServerState.ACTIVE]))
    wait_until(lambda: fleet.acknowledged(1).get(CLUSTER) == 3, "cluster 3")
    assert fleet.ready(1), "a draining server still forwards"
    fleet.publish(cluster(4, [ServerState.REGISTERED, ServerState.ACTIVE]))
    wait_until(lambda: not fleet.ready(1), "withdrawn")
    assert agent.poll() is None


def test_vips_follow_the_cluster_document(fleet: Fleet) -> None:
    host = fleet.host(1)
    fleet.publish(cluster(1, ACTIVE))
    fleet.publish(table(1, [2, 0]))
    fleet.up(1)
    wait_until(lambda: fleet.ready(1), "ready")
    more = [service(VIP), service(VIP + 5)]
    fleet.publish(cluster(2, ACTIVE, more))
    wait_until(lambda: f"{VIP + 5}/32" in host.run(["ip", "address"]).stdout, "the new VIP")
    fleet.publish(cluster(3, ACTIVE, more[1:]))
    wait_until(lambda: f"{VIP}/32" not in host.run(["ip", "address"]).stdout, "the old one gone")


def test_without_a_store_the_last_good_documents_serve_and_without_those_nothing(
    fleet: Fleet,
) -> None:
    saved = StateDir(fleet.host(1).state_dir)
    saved.save_document(CLUSTER, encode_cluster(cluster(1, ACTIVE)))
    saved.save_document("table/web", encode_table(table(1, [2, 1])))
    saved.save_key("web-key", KEY)
    for number in (1, 2):
        token = fleet.host(number).base / "token"
        token.write_text("secret-token-of-the-test\n")
        token.chmod(0o600)
        nobody_listens = f"http://{brigade.controller_address()}:1"
        settings = {"store": nobody_listens, "token_file": str(token)}
        fleet.up(number, controller_wait_seconds=1, **settings)
    wait_until(lambda: fleet.ready(1), "ready from the last good documents")
    assert "last good" in fleet.log(1)
    wait_until(lambda: fleet.status(1)["ready"], "its status")
    assert fleet.status(1)["source"] == "last good"
    assert "READY BY SAVED DOCUMENTS" in fleet.status(1)["troubles"]["controller"]
    wait_until(lambda: "no documents yet" in fleet.log(2), "server 2 looks for a store")
    assert not fleet.ready(2)
    assert str(VIP) not in fleet.host(2).run(["ip", "address", "show", "dev", "lo"]).stdout
    assert "secret-token" not in fleet.log(1) + fleet.log(2)
