"""Two servers whose things are changed under the agents: server 1 forwards, server 2 answers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from controlplane.domain.objects import TCP, ServerState, Service
from lb.agent.watch.history import BURST
from netns import brigade
from netns.build import build_route
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process
from netns.topology import AnyNetwork
from tests.netns import talk
from tests.netns.agent_helpers import POOL, PORT, VIP, Fleet, cluster, table
from tests.netns.talk import Place, TcpClient

VIP6 = IPv6Network("2001:db8::10/128")
PREFIX = IPv4Network("192.0.2.128/25")
VIPS: tuple[AnyNetwork, ...] = (IPv4Network(VIP), VIP6, PREFIX)
PLACES = {
    "v4": Place(VIP, PORT),
    "v6": Place(VIP6[0], PORT),
    "prefix": Place(PREFIX[77], PORT),
}
ACTIVE = [ServerState.ACTIVE] * 2
START_SECONDS = 60.0
SOON_SECONDS = 3.0
"""What somebody changed is put back, or reported, within this time."""


def services() -> list[Service]:
    """One TCP service for each VIP."""
    return [Service(f"web-{n}", vip, TCP, PORT, POOL) for n, vip in enumerate(VIPS)]


class Watched:
    """Both agents run, with hooks that write a line each. Every bucket belongs to server 2."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.fleet = Fleet(network)
        self.agents: dict[int, Process] = {}

    @property
    def server(self) -> Host:
        """The one whose things are changed."""
        return self.fleet.host(2)

    @property
    def router(self) -> Host:
        return self.network[brigade.ROUTER]

    @property
    def pins(self) -> Path:
        return self.server.bpffs / brigade.INTERFACE

    def start(self) -> None:
        """Start services and agents; packets for VIPs enter by server 1."""
        self.fleet.publish(cluster(1, ACTIVE, services()))
        self.fleet.publish(table(1, [2, 0]))
        for number in (1, 2):
            self.serve(number)
            self.agents[number] = self.up(number)
        for number in (1, 2):
            wait_until(partial(self.fleet.ready, number), f"{number} is ready", START_SECONDS)
        self.enter_by_server_1()
        for name in PLACES:
            self.answers(name, START_SECONDS)

    def enter_by_server_1(self) -> None:
        """Have the router send what is for the VIPs to server 1."""
        for vip in VIPS:
            build_route(brigade.vip_route(vip, [1]), self.router)

    def up(self, number: int) -> Process:
        """Start an agent with hooks."""
        log = self.fleet.host(number).base / "hooks.log"
        hooks = {n: ["sh", "-c", f"echo $0 >> {log}", n] for n in ("on_ready", "on_withdraw")}
        return self.fleet.up(number, **hooks)

    def rest(self) -> None:
        """Have the watched server ready, and its agent not suspect that somebody works against it.

        Tests change the same things one after the other: a new agent begins to count anew.
        """
        repairs = self.fleet.status(2).get("repairs", {})
        if max(repairs.values(), default=0) > BURST // 2 or not self.ready():
            self.agents[2].signal(signal.SIGTERM)
            assert self.agents[2].wait(20) == 0, self.fleet.log(2)[-1000:]
            self.agents[2] = self.up(2)
            pid = self.agents[2].id.pid
            wait_until(lambda: self.fleet.status(2)["pid"] == pid, "a new agent", START_SECONDS)
            wait_until(self._has_announced, "on_ready has run again", START_SECONDS)
        wait_until(lambda: self.ready() and self.trouble() == "", "at rest", START_SECONDS)

    def _has_announced(self) -> bool:
        runs = self.fleet.status(2).get("hooks", [])
        return any(run["hook"] == "on_ready" for run in runs)

    def serve(self, number: int) -> Process:
        """Start the service of a server, on the wildcard address."""
        return talk.serve_tcp(self.fleet.host(number), [PORT])

    def hooks(self) -> list[str]:
        """The hooks that the watched server has run."""
        return (self.server.base / "hooks.log").read_text().split()

    def run(self, *words: str) -> str:
        """Run a program on the watched server; return what it prints."""
        return self.server.run(list(words)).stdout

    def status(self) -> dict[str, object]:
        return self.fleet.status(2)

    def trouble(self) -> str:
        """All lines of trouble of the watched server."""
        troubles = self.fleet.status(2).get("troubles", {})
        return "\n".join(line for topic, line in troubles.items() if topic.startswith("watch "))

    def repairs(self, what: str) -> int:
        """How often the watched server has put something back."""
        return int(self.fleet.status(2).get("repairs", {}).get(what, 0))

    def answers(self, name: str = "v4", seconds: float = SOON_SECONDS) -> None:
        """Wait until a connection through server 1 is answered by server 2."""
        wait_until(partial(self._asks, PLACES[name]), f"an answer of {name}", seconds)

    def _asks(self, place: Place) -> bool:
        def quick(sock: object) -> None:
            sock.settimeout(0.5)  # type: ignore[attr-defined] # a socket

        try:
            client = self.network[brigade.client_name(1)]
            with TcpClient(client, place, prepare=quick) as tcp:
                return tcp.name() == "server2"
        except (OSError, AssertionError):
            return False

    def ready(self) -> bool:
        return self.fleet.ready(2) and bool(self.fleet.status(2)["ready"])

    @contextmanager
    def put_back(self, what: str, times: int = 1) -> Iterator[None]:
        """Expect that what the block changes is put back and counted soon, without a withdrawal."""
        before, hooks = self.repairs(what), self.hooks()
        yield
        wait_until(lambda: self.repairs(what) >= before + times, f"{what} put back", SOON_SECONDS)
        assert self.ready()
        assert self.hooks() == hooks, "routes stay"
        trouble = self.trouble()
        assert trouble == ""

    @contextmanager
    def withdrawn(self, what: str, line: str) -> Iterator[None]:
        """Expect that what was changed before withdraws the server soon, and that this names it.

        The block undoes the change; then the server is ready again.
        """
        hooks = self.hooks()
        wait_until(
            lambda: not self.fleet.ready(2) and line in self.trouble(),
            f"withdrawn for {line!r}: {self.trouble()!r}",
            SOON_SECONDS,
        )
        assert self.hooks() == [*hooks, "on_withdraw"]
        assert what in self.status()["missing"]  # type: ignore[operator] # a list
        assert self.fleet.store.reports()["server2"].missing or self._reported(what)
        yield
        wait_until(self.ready, "ready again", 15.0)
        wait_until(lambda: self.hooks() == [*hooks, "on_withdraw", "on_ready"], "announced again")
        wait_until(lambda: self.trouble() == "", "no trouble any more", SOON_SECONDS)
        assert self.agents[2].poll() is None

    def _reported(self, what: str) -> bool:
        def seen() -> bool:
            return what in self.fleet.store.reports()["server2"].missing

        wait_until(seen, f"{what} is in the report", SOON_SECONDS)
        return True


@contextmanager
def watched_servers(**changes: int) -> Iterator[Watched]:
    """Two servers in a network of their own, as long as the block runs."""
    topology = brigade.brigade(2, 1, [*VIPS], dual_stack=True, **changes)
    with Network(topology) as network:
        made = Watched(network)
        made.start()
        yield made
