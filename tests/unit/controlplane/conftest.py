"""A store, a real loop in a thread, and a simulated fleet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from controlplane.controller.loop import Loop, Round
from controlplane.controller.metrics import PREFIX, ControlMetrics
from controlplane.domain.objects import Address, Cluster, Table
from controlplane.domain.table_facts import TableFacts
from controlplane.observe.loads import LoadSources
from controlplane.observe.probe.packet import Probe, ProbeAnswer
from controlplane.observe.probe.sockets import Prober
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.file.store import FileStore
from netns.polling import wait_until
from tests.unit.controlplane.fleet import Agent, dip

QUICK: dict[str, Any] = {
    "tick_seconds": 0.1,
    "silent_after_seconds": 0.5,
    "probe_interval_seconds": 0.05,
    "silent_wait_seconds": 1.0,
    "slow_start_seconds": 0.3,
    "probers": ["10.0.0.9"],
    "metrics": {"port": 0},
}


class FakeProber(Prober):
    """Answers for every DIP that is not ``dead``, as a server would.

    ``refusing``: the DIPs where nothing listens, so that a reset comes back.
    """

    def __init__(self) -> None:
        self.address = IPv4Address("10.0.0.9")
        self.address6: IPv6Address | None = IPv6Address("2001:db8::9")
        self.dead: set[IPv4Address] = set()
        self.refusing: set[IPv4Address] = set()
        self.asked: set[tuple[Address, int]] = set()
        self.probed: list[IPv4Address] = []
        self._answers: list[ProbeAnswer] = []

    def source(self, vip: Address) -> Address | None:
        return self.address if vip.version == 4 else self.address6

    def send(self, dip: IPv4Address, vip: Address, vip_port: int) -> Probe:
        isn = len(self.probed)
        self.probed.append(dip)
        self.asked.add((vip, vip_port))
        if dip not in self.dead:
            reset = dip in self.refusing
            self._answers.append(ProbeAnswer(vip, vip_port, 40000, isn + 1, reset=reset))
        return Probe(dip, vip, vip_port, self.address, self.address, 40000, isn)

    def received(self) -> Sequence[ProbeAnswer]:
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        pass


class Fleet:
    """Servers ``s1`` ... with a pool ``web``, a store, agents and (one or no) controller."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = FileStore(directory)
        self.published = Published(self.store)
        self.prober = FakeProber()
        self.agents: dict[str, Agent] = {}
        self.rounds: list[Round] = []
        self.begun_at: list[float] = []
        """When the loop began each round, also those that fail; seconds of the monotonic clock."""
        self.done_at: list[float] = []
        """When it completed those that do not fail."""
        self.loop: Loop | None = None
        self.metrics = ControlMetrics()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stores: list[FileStore] = []
        self.failure: BaseException | None = None

    def config(self, servers: int, **settings: Any) -> ControlConfig:
        """Settings with this many servers, and pool ``web`` unless given."""
        basis: dict[str, Any] = {
            "server": [{"name": f"s{i}", "dip": str(dip(i))} for i in range(1, servers + 1)],
            "pool": [{"name": "web", "buckets": 256, "balance": "equal"}],
            "service": [
                {
                    "name": "http",
                    "vip": "192.0.2.1",
                    "protocol": "tcp",
                    "port": 80,
                    "pool": "web",
                    "check": {"type": "tcp"},
                }
            ],
        }
        return ControlConfig.model_validate({**QUICK, **basis, **settings})

    def write_settings(self, servers: int) -> Path:
        """Write a settings file with so many servers, for commands; return its path."""
        lines = [f'store = "file:{self.directory}"', 'probers = ["10.0.0.9"]']
        quick = {key: value for key, value in QUICK.items() if isinstance(value, float)}
        lines += [f"{key} = {value}" for key, value in quick.items()]
        for server in self.config(servers).server:
            lines += ["[[server]]", f'name = "{server.name}"', f'dip = "{server.dip}"']
        lines += ["[[pool]]", 'name = "web"', "buckets = 256", 'balance = "equal"']
        path = self.directory.parent / "control.toml"
        path.write_text("\n".join([*lines, ""]))
        return path

    def agent(self, name: str, **settings: Any) -> Agent:
        store = FileStore(self.directory)
        self._stores.append(store)
        self.agents[name] = Agent(name, store, **settings).start()
        return self.agents[name]

    def control(self, config: ControlConfig) -> Loop:
        """Start a controller in a thread."""
        store = FileStore(self.directory)
        self._stores.append(store)
        metrics = self.metrics = ControlMetrics()

        def show(done: Round) -> None:
            metrics.show(done)
            self.rounds.append(done)
            self.done_at.append(time.monotonic())

        sources = LoadSources()
        loop = Loop(store, config, self.prober, sources=sources, show=show)
        self._stop = threading.Event()

        def run() -> None:
            try:
                loop.run(self._stop, between=lambda: self.begun_at.append(time.monotonic()))
            except BaseException as error:
                self.failure = error
                raise
            finally:
                sources.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self.loop = loop
        return loop

    def stop_control(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._thread = None

    def up(self, servers: int, **settings: Any) -> ControlConfig:
        """Start so many agents and a controller; returns when all are active."""
        config = self.config(servers, **settings)
        for server in config.server:
            self.agent(server.name)
        self.control(config)
        wait_until(lambda: self.states() == {s.name: "active" for s in config.server}, "active")
        wait_until(lambda: len(self.current()) == servers, "every server is current for a bucket")
        wait_until(self.calm, "everything settled")
        return config

    def go_on(self, seconds: float, *, failing: bool = False) -> None:
        """Let the controller do rounds for this long; fail if it does not.

        For tests that something does not happen: a controller that stalls does nothing either. At
        least one round a tick is completed, and one after this time. ``failing``: rounds cannot be
        completed, and are counted when they begin.
        """
        assert self.loop
        rounds = self.begun_at if failing else self.done_at
        end, before = time.monotonic() + seconds, len(rounds)
        least = before + round(seconds / self.loop.config.tick_seconds)
        wait_until(
            lambda: len(rounds) >= least and rounds[-1] > end,
            f"the controller does rounds for {seconds} s",
            seconds + 10.0,
        )

    def cluster(self) -> Cluster:
        self.published.refresh()
        return self.published.cluster or Cluster(0)

    def states(self) -> dict[str, str]:
        return {server.name: server.state.value for server in self.cluster().servers}

    def table(self, pool: str = "web") -> Table | None:
        self.published.refresh()
        return self.published.tables.get(pool)

    def facts(self, pool: str = "web") -> TableFacts:
        self.published.refresh()
        return self.published.facts.get(pool, TableFacts())

    def current(self, pool: str = "web") -> dict[str, int]:
        """Return buckets by server, for those that are current somewhere."""
        facts = self.facts(pool)
        return {
            server.name: facts.current[server.index]
            for server in self.cluster().servers
            if server.index in facts.current
        }

    def named(self, pool: str = "web") -> set[str]:
        """Return who is in any chain."""
        named = self.facts(pool).named
        return {server.name for server in self.cluster().servers if server.index in named}

    def calm(self) -> bool:
        """Whether the controller finds its newest documents, all of them, settled."""
        self.published.refresh()
        found = self.rounds[-1].settlements if self.rounds else {}
        return dict(self.published.generations()) == {
            kind: settlement.generation for kind, settlement in found.items() if settlement.settled
        }

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the present value of one of the controller's metrics."""
        return self.metrics.registry.get_sample_value(f"{PREFIX}_{name}", labels)

    def close(self) -> None:
        self.stop_control()
        for agent in self.agents.values():
            agent.end()
        for store in [self.store, *self._stores]:
            store.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(tmp_path / "store")
    yield found
    found.close()
    assert found.failure is None
    assert {name: agent.faults for name, agent in found.agents.items() if agent.faults} == {}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server heard waits 0.6 s for the others, not 2."""
    monkeypatch.setattr("controlplane.publish.cluster.PATIENCE_SECONDS", 0.6)
