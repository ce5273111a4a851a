"""A fleet with a controller of its own, and a client whose UDP flows count what is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from controlplane.domain.objects import CLUSTER, Cluster, ServerState
from controlplane.domain.table_facts import TableFacts
from controlplane.publish.published import Published
from netns import brigade
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process
from tests.netns.agent_helpers import LBCTL, POOL, PORT, VIP, Fleet

UDP_PORT = 5000
START_SECONDS = 60.0
CONTROL = f"""
store = "file:{{store}}"
probers = ["{brigade.controller_address()}"]
tick_seconds = 0.25
slow_start_seconds = 0.3
log_format = "json"
[metrics]
port = 0
{{servers}}
[[pool]]
name = "{POOL}"
buckets = 256
balance = "equal"
[[service]]
name = "http"
vip = "{VIP}"
protocol = "tcp"
port = {PORT}
pool = "{POOL}"
[[service]]
name = "echo"
vip = "{VIP}"
protocol = "udp"
port = {UDP_PORT}
pool = "{POOL}"
"""
FLOWS = f"""
import json, pathlib, select, socket, sys, time
count, pause, end = int(sys.argv[1]), float(sys.argv[2]), pathlib.Path(sys.argv[3])
flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
for flow in flows:
    flow.setblocking(False)
    flow.connect(("{VIP}", {UDP_PORT}))
owner, unanswered, sent, moved, refused = dict(), set(), 0, 0, 0

def hear(seconds):
    global moved, refused
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for flow in select.select(flows, [], [], left)[0]:
            try:
                name, _, number = flow.recv(100).partition(b" ")
            except ConnectionRefusedError:
                refused += 1
                continue
            unanswered.discard(int(number))
            moved += owner.setdefault(flow, name) != name

while not end.exists():
    for flow in flows:
        unanswered.add(sent)
        try:
            flow.send(b"%d" % sent)
        except ConnectionRefusedError:
            refused += 1
        sent += 1
    hear(pause)
    if len(owner) == count:
        print("open", flush=True)
hear(2.0)
print(json.dumps(dict(sent=sent, lost=len(unanswered), moved=moved, refused=refused)), flush=True)
"""


@dataclass
class Traffic:
    """UDP flows of one client that ask again and again."""

    process: Process
    end: Path

    def finish(self) -> dict[str, int]:
        """End them; return how many datagrams were sent, lost, or answered by another server."""
        self.end.touch()
        wait_until(lambda: self.process.poll() is not None, "the flows end", START_SECONDS)
        found: dict[str, int] = json.loads(self.process.output().splitlines()[-1])
        return found


class Controlled(Fleet):
    """Servers whose documents a controller publishes. All packets enter by server 1."""

    control: Process | None = None

    def start(self, servers: int = 3) -> None:
        """Start UDP services, agents and the controller; wait until all servers are active."""
        self.network[brigade.ROUTER].run(
            ["ip", "route", "replace", str(VIP), "via", str(brigade.dip(1))]
        )
        for number in range(1, servers + 1):
            host = self.host(number)
            host.sysctl("net.ipv4.ip_nonlocal_bind", "1")
            words = ["--name", host.name, "--port", str(UDP_PORT), "--address", str(VIP)]
            host.popen([sys.executable, "-m", "lb.demo.site.udp_server", *words], "echo")
            self.up(number)
        self.write_settings(range(1, servers + 1))
        self.start_controller()
        names = {brigade.server_name(number): "active" for number in range(1, servers + 1)}
        wait_until(lambda: self.states() == names, "all are active", START_SECONDS)
        wait_until(
            lambda: all(map(self.ready, range(1, servers + 1))), "all are ready", START_SECONDS
        )
        wait_until(lambda: self._even(servers), "equal shares", START_SECONDS)

    def _even(self, servers: int) -> bool:
        """Whether all servers have equal shares, and nothing is being moved."""
        buckets = self.facts().current.values()
        even = len(buckets) == servers and max(buckets) - min(buckets) <= 1
        return even and self._settled(f"table/{POOL}")

    def write_settings(self, servers: Sequence[int]) -> None:
        """Write the controller's file."""
        sections = [
            f'[[server]]\nname = "{brigade.server_name(n)}"\ndip = "{brigade.dip(n)}"'
            for n in servers
        ]
        text = CONTROL.format(store=self.network.store_dir, servers="\n".join(sections))
        self.control_file.write_text(text)

    @property
    def control_file(self) -> Path:
        """The controller's settings."""
        return self.network[brigade.CONTROLLER].base / "control.toml"

    def start_controller(self) -> None:
        """Start `lbctl control`."""
        words = [*LBCTL, "control", "--config", str(self.control_file)]
        self.control = self.network[brigade.CONTROLLER].popen(words, "control")

    def operator(self, *words: str) -> str:
        """Run `lbctl` on the controller's machine."""
        controller = self.network[brigade.CONTROLLER]
        return controller.run([*LBCTL, *words, "--config", self.control_file]).stdout

    def published(self) -> Published:
        """What the store has now."""
        found = Published(self.store)
        found.refresh()
        return found

    def cluster(self) -> Cluster:
        """The newest cluster document."""
        return self.published().cluster or Cluster(0)

    def states(self) -> dict[str, str]:
        """The state of each server in it."""
        return {server.name: server.state.value for server in self.cluster().servers}

    def facts(self) -> TableFacts:
        """The counts of the pool's newest table."""
        return self.published().facts.get(POOL, TableFacts())

    def drain(self, number: int) -> None:
        """Drain a server; it is an old hop of its former buckets afterwards."""
        name = brigade.server_name(number)
        self.operator("drain", name)
        wait_until(lambda: self.states()[name] == ServerState.DRAINING, f"{name} drains")
        own = self.cluster().server(name)
        assert own is not None
        wait_until(lambda: not self.facts().current.get(own.index), f"{name} has no bucket")
        assert own.index in self.facts().named
        for kind in (CLUSTER, f"table/{POOL}"):
            wait_until(partial(self._settled, kind), f"{kind} is settled")

    def _settled(self, kind: str) -> bool:
        newest = self.published().generations()[kind]
        acknowledged = self.store.acknowledgements().values()
        return all(taken.get(kind, 0) >= newest for taken in acknowledged)

    @contextmanager
    def traffic(self, flows: int = 100, pause_seconds: float = 0.02) -> Iterator[Traffic]:
        """Open UDP flows, which go on for the context's life."""
        client = self.network[brigade.client_name(1)]
        end = client.base / "end-of-flows"
        end.unlink(missing_ok=True)
        words = [sys.executable, "-c", FLOWS, str(flows), str(pause_seconds), str(end)]
        process = client.popen(words, "flows")
        try:
            wait_until(lambda: "open" in process.output(), "the flows are open", START_SECONDS)
            yield Traffic(process, end)
        finally:
            end.touch()


@contextmanager
def controlled(servers: int = 3, spare: int = 0) -> Iterator[Controlled]:
    """Make the network of a controlled fleet, with so many more machines, and start the fleet."""
    with Network(brigade.brigade(servers + spare, 1, [VIP])) as network:
        fleet = Controlled(network)
        fleet.start(servers)
        yield fleet
