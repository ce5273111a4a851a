"""The event loop: when the programs are put to work, when it is ready, what ends it."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Cluster, ServerState
from lb.agent import event_loop as module
from lb.agent.config import AgentConfig
from lb.agent.documents.follower import Batch, StoreTrouble
from lb.agent.documents.in_use import DocumentsInUse
from lb.agent.documents.intake import Intake
from lb.agent.event_loop import Agent, Event, NeighbourChange, Parts, PathMtuChange
from lb.agent.facts import SharedFacts
from lb.agent.netlink.links import LinkInfo
from lb.agent.ready import take_over
from lb.agent.ready.boot_wait import Beginning, BootWait
from lb.agent.ready.take_over import TakeOver
from lb.agent.worker import LinkChange, Reload, Stop, WorkerDeath
from lb.dataplane.objects import Identity
from netns.polling import wait_until
from tests.unit.lb.agent.fakes import (
    KEYS,
    VIP,
    FakeDataplane,
    FakeVips,
    a_cluster,
    a_table,
    dip,
    encoded,
)

LINK = LinkInfo(3, "eth0", bytes.fromhex("020000000001"), 1548, True, frozenset({dip(1)}))
MAC = bytes.fromhex("020000000099")


class Plane(FakeDataplane):
    identity: Identity | None = None

    def set_identity(self, identity: Identity) -> None:
        self.identity = identity

    def set_neighbour(self, index: int, mac: bytes | None) -> None:
        self.log.append(f"set_neighbour {index} {mac.hex() if mac else None}")


class World:
    """An agent with stand-ins for everything around it."""

    def __init__(self, folder: Path) -> None:
        self.log: list[str] = []
        self.plane = Plane(self.log)
        self.vips = FakeVips(self.log)
        self.vips.enabled = False  # type: ignore[attr-defined]
        self.facts = SharedFacts(time.time())
        self.last_good = Batch()
        self.missing: tuple[str, ...] = ()
        self.link: LinkInfo | None = LINK
        self.wanted: list[bool] = []
        self.acknowledged: list[Mapping[str, int]] = []
        self.replacing = False
        self.announced = False
        self.start = Beginning(continued=True)
        self.wait_seconds = 0.4
        self.settled = True
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.in_use = DocumentsInUse(self.plane, self.vips)
        files: Any = self
        self.intake = Intake(self.in_use, files, self.facts, self.acknowledged.append)
        self.config = AgentConfig(
            name="s1", interface="eth0", dip="10.0.0.1", run_dir=folder / "run"
        )

    # the parts that are asked, all in one
    def attach(self, _: Any) -> None:
        self.log.append("attach")

    def set_sysctls(self) -> None:
        self.log.append("sysctls")

    def look(self) -> None:
        self.facts.update(missing=self.missing, attached="forwarder" not in self.missing)

    def want(self, *, ready: bool) -> None:
        self.wanted.append(ready)

    def lower(self, vips: Iterable[object], depth: int, path_mtu: int | None) -> None:
        limit = f" for {path_mtu} bytes" if path_mtu else ""
        self.log.append(f"mss {depth}{limit} {' '.join(str(vip) for vip in vips)}")

    def follow(self, services: Mapping[str, Any] | Cluster, link_mtu: int = 0) -> None:
        if isinstance(services, Cluster):
            self.log.append(f"paths {[s.name for s in services.servers]} {link_mtu}")
        else:
            self.log.append(f"checks {sorted(services)}")

    def save_document(self, kind: str, data: bytes) -> None: ...

    def forget_document(self, kind: str) -> None: ...

    def save_key(self, key_id: str, key: bytes) -> None: ...

    def agent(self) -> Agent:
        whole: Any = self
        parts = Parts(
            config=self.config,
            link=LINK,
            dataplane=whole.plane,
            dataplane_lock=threading.Lock(),
            attachment=whole,
            in_use=self.in_use,
            vips=whole.vips,
            intake=self.intake,
            announcer=whole,
            checker=whole,
            mss=whole,
            paths=whole,
            watch=whole,
            facts=self.facts,
            track=lambda dips: self.log.append(f"track {sorted(dips)}"),
            read_last_good=lambda: self.last_good,
            reload=lambda: self.log.append("reload"),
            replacing=self.replacing,
            take_over=TakeOver(time.monotonic(), announced=self.announced),
            boot_wait=BootWait(self.start, time.monotonic(), self.wait_seconds),
            started=time.monotonic(),
        )
        return Agent(parts, self.inbox)

    def run(self, *events: Event, until: Callable[[], object] | None = None) -> int:
        """Run the loop in this thread; a helper feeds it and stops it."""

        def feed() -> None:
            for event in events:
                self.inbox.put(event)
            try:
                if until is not None:
                    wait_until(until, "what the test lets the loop run until", 3.0)
            finally:
                self.inbox.put(Stop(signal.SIGTERM))

        with ThreadPoolExecutor(1) as helper:
            feeding = helper.submit(feed)
            code = self.agent().run()
            feeding.result()
        return code


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "STORE_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(module, "NEIGHBOUR_PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    return World(tmp_path)


def documents(generation: int = 1, state: ServerState = ServerState.ACTIVE) -> Batch:
    cluster = a_cluster(generation, states={1: state})
    table = a_table(generation, [1, 2], generation)
    return Batch(encoded(cluster), {"web": encoded(table)}, KEYS)


def after(seconds: float) -> Callable[[], bool]:
    """Long enough for something that must not happen to have happened."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def attached(world: World) -> Callable[[], bool]:
    return lambda: "attach" in world.log


def test_everything_is_filled_before_it_is_attached_and_acknowledged_after(world: World) -> None:
    world.run(documents(), until=lambda: world.wanted)
    steps = [line.split()[0] for line in world.log]
    order = ["set_cluster", "set_table", "track", "attach", "sysctls", "checks"]
    assert [step for step in steps if step in order] == order
    assert world.log.index("attach") < max(
        index for index, line in enumerate(world.log) if line.startswith("extend")
    )
    assert world.acknowledged[0] == {"cluster": 1, "table/web": 1}
    assert world.wanted[-1] is True


def test_a_certificate_that_ends_within_a_week_is_a_trouble_before_it_ends(world: World) -> None:
    world.facts.update(certificates={"ca_file": time.time() + 3.5 * 86_400})
    world.run(until=lambda: "certificates" in world.facts.current.troubles)
    line = world.facts.current.troubles["certificates"]
    assert line.startswith("the certificate of ca_file ends in 3 days: replace it and reload")
    world.facts.update(certificates={"ca_file": time.time() + 8 * 86_400})
    world.run(until=lambda: "certificates" not in world.facts.current.troubles)


def test_it_waits_a_little_for_neighbours_but_not_for_ever(world: World) -> None:
    world.run(documents(), NeighbourChange({2: MAC, 9: MAC}, 1), until=attached(world))
    assert f"set_neighbour 2 {MAC.hex()}" in world.log
    assert not any(line.startswith("set_neighbour 9") for line in world.log), "9 is no DIP"
    assert world.facts.current.neighbours_unresolved == 1


def test_without_documents_nothing_is_attached(world: World) -> None:
    world.run(Batch(), StoreTrouble("gone", denied=False), until=after(0.5))
    assert world.log == []
    assert world.wanted == []


def test_a_store_that_does_not_answer_is_given_its_time_then_the_last_good_serve(
    world: World,
) -> None:
    world.last_good = documents()
    started = time.monotonic()
    world.run(StoreTrouble("gone", denied=False), until=attached(world))
    assert time.monotonic() - started >= 0.2
    assert "attach" in world.log
    assert world.facts.current.source == "last good"


def test_what_the_store_has_is_preferred_to_the_last_good(world: World) -> None:
    world.last_good = documents(7)
    world.run(documents(2), until=attached(world))
    assert world.in_use.generations() == {"cluster": 2, "table/web": 2}
    assert world.facts.current.source == "store"


def test_a_refused_table_is_replaced_by_the_last_good_one(world: World) -> None:
    world.last_good = documents(1)
    bad = Batch(encoded(a_cluster(2)), {"web": b"{}"}, KEYS)
    world.run(bad, until=attached(world))
    assert world.in_use.generations() == {"cluster": 2, "table/web": 1}
    assert sum(world.facts.current.refused.values()) == 1


def test_a_newer_document_after_a_start_from_the_last_good_is_taken(world: World) -> None:
    world.last_good = documents(1)

    def then_newer() -> bool:
        if "attach" in world.log and not newer:
            newer.append(True)
            world.inbox.put(documents(2))
        return world.in_use.generations().get("table/web") == 2

    newer: list[bool] = []
    world.run(StoreTrouble("gone", denied=False), until=then_newer)
    assert world.facts.current.source == "store"
    assert world.acknowledged[-1] == {"cluster": 2, "table/web": 2}


def test_a_wrong_token_ends_a_start_that_has_nothing_else(world: World) -> None:
    with pytest.raises(BrigadeError, match="wrong token"):
        world.run(StoreTrouble("wrong token", denied=True))


def test_a_wrong_token_does_not_stop_a_server_that_has_its_last_good_documents(
    world: World,
) -> None:
    world.last_good = documents()
    world.run(StoreTrouble("wrong token", denied=True), until=attached(world))
    assert "attach" in world.log


def test_attached_programs_are_not_replaced_by_ones_without_a_table_of_theirs(world: World) -> None:
    world.replacing = True
    bad = Batch(encoded(a_cluster(2)), {"web": b"{}"}, KEYS)
    world.run(bad, until=after(0.4))
    assert "attach" not in world.log
    assert world.acknowledged == []


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (ServerState.REGISTERED, False),
        (ServerState.JOINING, True),
        (ServerState.ACTIVE, True),
        (ServerState.DRAINING, True),
        (ServerState.DOWN, False),
    ],
)
def test_ready_follows_the_servers_state(world: World, state: ServerState, ready: bool) -> None:
    world.run(documents(1, state), until=lambda: world.wanted)
    assert world.wanted[-1] is ready
    assert world.facts.current.state == state.value


def test_a_server_that_is_out_of_use_although_its_agent_runs_is_a_trouble(world: World) -> None:
    world.run(documents(state=ServerState.DOWN), until=lambda: world.wanted)
    assert "lbctl why" in world.facts.current.troubles["state"]
    assert world.wanted[-1] is False


def test_a_server_that_leaves_is_down_without_trouble(world: World) -> None:
    world.facts.update(leaving=True)
    world.run(documents(state=ServerState.DOWN), until=lambda: world.wanted)
    assert "state" not in world.facts.current.troubles


def test_a_server_that_the_cluster_knows_by_another_dip_is_not_ready(world: World) -> None:
    world.config = AgentConfig(
        name="s2", interface="eth0", dip="10.0.0.1", run_dir=world.config.run_dir
    )
    world.run(documents(), until=lambda: world.wanted)
    assert world.wanted[-1] is False
    assert "by DIP 10.0.0.2" in world.facts.current.troubles["identity"]
    assert "agent.toml" in world.facts.current.troubles["identity"]
    assert world.facts.current.misnamed
    assert world.facts.current.listed_dip == "10.0.0.2"


def test_a_machine_that_the_store_refuses_is_not_ready(world: World) -> None:
    world.facts.update(twin=True)
    world.run(documents(), until=lambda: world.wanted)
    assert world.wanted[-1] is False


def test_a_vip_that_is_left_out_is_reported_and_not_announced(world: World) -> None:
    world.vips.left_out = {IPv4Network(VIP): "no"}
    world.vips.trouble = f"VIP {VIP} covers the gateway"
    world.run(documents(), until=lambda: world.wanted and world.wanted[-1])
    assert world.wanted[-1] is True
    assert world.facts.current.troubles["vips"] == f"VIP {VIP} covers the gateway"
    assert world.facts.current.vips == ()


def test_a_server_without_a_table_is_not_ready(world: World) -> None:
    world.run(Batch(encoded(a_cluster(1)), {}, KEYS), until=lambda: world.wanted)
    assert world.wanted[-1] is False


def test_no_traffic_is_asked_for_before_the_mss_is_lowered(world: World) -> None:
    world.settled = False
    world.run(documents(), until=after(0.3))
    assert f"mss 2 {VIP}/32" in world.log
    assert True not in world.wanted
    world.settled = True
    world.run(documents(2), until=lambda: world.wanted[-1])
    assert world.wanted[-1] is True


def test_a_restarted_agent_withdraws_nothing_before_its_mss_table_is_there(world: World) -> None:
    world.announced, world.settled = True, False
    world.run(documents(), until=after(0.3))
    assert "attach" in world.log
    assert world.wanted == []
    world.settled = True
    world.run(documents(2), until=lambda: world.wanted)
    assert set(world.wanted) == {True}


def test_it_does_not_wait_for_it_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take_over, "ADAPTING_SECONDS", 0.1)
    world.announced, world.settled = True, False
    world.run(documents(), until=lambda: world.wanted)
    assert world.wanted[-1] is False


def test_a_restarted_agent_withdraws_at_once_what_it_knows_is_not_wanted(world: World) -> None:
    world.announced, world.settled = True, False
    world.run(documents(1, ServerState.DOWN), until=lambda: world.wanted)
    assert world.wanted[-1] is False


def test_a_server_stays_ready_while_a_new_agent_takes_over_but_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.announced, world.replacing = True, True
    world.facts.update(ready=True)
    bad = Batch(encoded(a_cluster(2)), {"web": b"{}"}, KEYS)
    world.run(bad, until=after(0.3))
    assert world.facts.current.ready
    monkeypatch.setattr(take_over, "OVERDUE_SECONDS", 0.1)
    world.run(Batch(), until=lambda: not world.facts.current.ready)
    assert "as the agent before left" in world.facts.current.troubles["take-over"]
    assert world.wanted == [], "its programs forward, so nothing is withdrawn"


@pytest.mark.parametrize("start", [Beginning(), Beginning(rebooted=True)], ids=["new", "rebooted"])
def test_after_a_boot_saved_documents_wait_for_a_controller(world: World, start: Beginning) -> None:
    world.start, world.wait_seconds, world.last_good = start, 30.0, documents(1)

    def then_answered() -> bool:
        if world.wanted and "controller" in world.facts.current.troubles and not answered:
            assert world.wanted[-1] is False
            answered.append(True)
            world.inbox.put(Batch(led=True))
        return bool(world.wanted) and world.wanted[-1]

    answered: list[bool] = []
    world.run(StoreTrouble("gone", denied=False), until=then_answered)
    assert answered
    assert "controller" not in world.facts.current.troubles


def test_after_a_boot_saved_documents_serve_in_the_end_and_that_is_a_trouble(
    world: World,
) -> None:
    world.start, world.last_good = Beginning(rebooted=True), documents(1)
    world.run(StoreTrouble("gone", denied=False), until=lambda: world.wanted and world.wanted[-1])
    assert world.wanted[0] is False
    assert "READY BY SAVED DOCUMENTS" in world.facts.current.troubles["controller"]


def test_after_a_boot_a_store_without_a_controller_has_only_what_was_saved(world: World) -> None:
    world.start, world.wait_seconds = Beginning(rebooted=True), 30.0
    world.run(documents(), until=after(0.3))
    assert set(world.wanted) == {False}


def test_a_mere_restart_of_the_agent_does_not_wait_for_a_controller(world: World) -> None:
    world.wait_seconds, world.last_good = 30.0, documents(1)
    world.run(StoreTrouble("gone", denied=False), until=lambda: world.wanted)
    assert set(world.wanted) == {True}


def test_a_server_whose_routes_lbctl_down_needs_withdrawn_is_not_ready(world: World) -> None:
    def then_down() -> bool:
        if world.wanted and world.wanted[-1]:
            world.facts.update(withdrawing=True)
        return bool(world.wanted) and not world.wanted[-1]

    world.run(documents(), until=then_down)


@pytest.mark.parametrize("what", ["forwarder", "vips", "dip"])
def test_what_is_missing_makes_it_not_ready_until_it_is_back(world: World, what: str) -> None:
    seen: list[bool] = []

    def lose_and_find() -> bool:
        if world.wanted and world.wanted[-1] and not seen:
            world.missing = (what,)
            seen.append(True)
        elif seen and world.missing and not world.wanted[-1]:
            assert world.facts.current.attached is (what != "forwarder")
            world.missing = ()
        return bool(seen) and not world.missing and world.wanted[-1]

    world.run(documents(), until=lose_and_find)
    assert False in world.wanted
    assert "attach" in world.log
    assert not any("remove" in line for line in world.log), "only the routes go"


def test_a_changed_mac_and_port_reach_the_data_plane(world: World) -> None:
    world.link = replace(LINK, mac=MAC, mtu=1500)
    cluster = a_cluster(1, gue_port=7777)
    world.run(
        Batch(encoded(cluster), {"web": encoded(a_table(1, [1, 2]))}, KEYS),
        LinkChange(),
        until=lambda: world.plane.identity and world.plane.identity.mac == MAC,
    )
    assert world.plane.identity == Identity(dip(1), MAC, 1500, 3, 7777)


def test_an_interface_that_is_gone_leaves_the_data_plane_as_it_is(world: World) -> None:
    world.link = None
    world.missing = ("interface",)
    world.run(documents(), LinkChange(), until=lambda: world.wanted)
    assert world.plane.identity == Identity(dip(1), LINK.mac, LINK.mtu, 3)
    assert world.wanted[-1] is False


def test_a_narrower_path_lowers_what_is_encapsulated_and_the_mss(world: World) -> None:
    lowered = f"mss 2 for 1500 bytes {VIP}/32"
    world.run(documents(), PathMtuChange(1500), until=lambda: lowered in world.log)
    assert world.plane.identity
    assert world.plane.identity.mtu == 1500
    assert f"paths ['s1', 's2'] {LINK.mtu}" in world.log, "probes keep the interface's MTU"


def test_a_path_as_wide_as_the_interface_raises_both_again(world: World) -> None:
    changes = PathMtuChange(1500), PathMtuChange(None)
    world.run(documents(), *changes, until=lambda: f"mss 2 {VIP}/32" in world.log)
    assert world.plane.identity
    assert world.plane.identity.mtu == LINK.mtu


def test_a_part_that_dies_ends_the_agent_loudly(world: World) -> None:
    with pytest.raises(BrigadeError, match="'neighbours' failed"):
        world.run(documents(), WorkerDeath("neighbours"))


def test_a_signal_ends_it_and_changes_nothing(world: World) -> None:
    assert world.run(documents(), until=attached(world)) == signal.SIGTERM
    assert not any("remove" in line for line in world.log)
    assert False not in world.wanted


def test_a_reload_changes_nothing_for_packets_and_does_not_end_it(world: World) -> None:
    ended_by = world.run(
        documents(), Reload(), until=lambda: world.wanted and "reload" in world.log
    )
    assert ended_by == signal.SIGTERM
    assert world.log.count("reload") == 1
    assert world.log.count("attach") == 1
    assert False not in world.wanted
