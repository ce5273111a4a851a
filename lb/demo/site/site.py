"""The machines of the demo and their programs: what an operator starts, stops and configures.

Each program is a process in the namespace of its host. Nothing here writes a table, a BPF map or
anything in the store: only the agents and the controller do.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from controlplane.domain.errors import BrigadeError
from lb.demo import scenario
from lb.demo.site import content, nginx, router, settings, work_service
from lb.demo.site.counters import Counters
from lb.demo.site.store_reader import StoreReader
from netns.brigade import (
    CONTROLLER,
    INTERFACE,
    ROUTER,
    client_name,
    dip,
    router_address,
    server_name,
)
from netns.build import set_link
from netns.host import Host
from netns.network import Network
from netns.polling import wait_until
from netns.process import Process

CONTROLLER_METRICS = "http://127.0.0.1:9108/metrics"
START_SECONDS = 60.0
DOWN_SECONDS = 90.0
"""`lbctl down` waits for the tables without its server, for up to a minute."""
WORK_UNIT_MS = 6.0
FIRST_UDP_PORT = 10_000
"""Source ports of the client's UDP flows start here, below the kernel's ephemeral ports."""


def lbctl() -> str:
    """Return the `lbctl` that belongs to this Python."""
    beside = Path(sys.executable).with_name("lbctl")
    found = str(beside) if beside.exists() else shutil.which("lbctl")
    if not found:
        raise BrigadeError("lbctl is not installed beside this Python: run make setup")
    return found


class Site:
    """Router, controller, servers and client, with their processes.

    ``client`` is the host that all traffic comes from, ``controller`` the one that runs `lbctl
    control` with the settings in ``control_file``. The router takes announcements on the Unix
    socket ``router_socket``. ``daily`` and ``default_timing`` are for the next settings file
    (`settings.control_toml`), ``controller_environment`` for the next start of the controller.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.client = network[client_name(1)]
        self.controller = network[CONTROLLER]
        self.control_file = self.controller.base / "control.toml"
        self.router_socket = network[ROUTER].run_dir / "routes.sock"
        self.running: dict[int, dict[str, Process]] = {}
        self.known: list[int] = list(scenario.FIRST_SERVERS)
        self.work_balance = "equal"
        self.daily = False
        self.default_timing = False
        self.controller_environment: Mapping[str, str] = {}
        self.controller_process: Process | None = None
        files = network.record.path / "files"
        files.mkdir()
        self.files = content.write_files(files)
        self._files_folder = files
        self.store = StoreReader(network.store_dir)
        numbers = (*scenario.FIRST_SERVERS, scenario.NEWCOMER)
        pins = {server_name(n): network[server_name(n)].bpffs / INTERFACE for n in numbers}
        self.counters = Counters(pins)
        self._next_udp_port = FIRST_UDP_PORT

    def take_udp_ports(self, count: int) -> int:
        """Reserve source ports in a row that no UDP flow of this site had; return the first."""
        first = self._next_udp_port
        self._next_udp_port += count
        return first

    def server(self, number: int) -> Host:
        """Return the host of a server."""
        return self.network[server_name(number)]

    def alive(self) -> list[str]:
        """Return the names of the servers whose agents run."""
        return [server_name(number) for number, programs in self.running.items() if programs]

    def ended(self) -> list[str]:
        """Return the programs that have ended although nobody stopped them."""
        programs = [p for server in self.running.values() for p in server.values()]
        if self.controller_process is not None:
            programs.append(self.controller_process)
        return [program.name for program in programs if program.poll() is not None]

    # The router

    def start_router(self) -> None:
        """Start the process that maintains the ECMP routes."""
        links = [
            f"--link={dip(n)}={server_name(n)}"
            for n in (*scenario.FIRST_SERVERS, scenario.NEWCOMER)
        ]
        vips = [f"--vip={vip}" for vip in scenario.VIPS]
        command = [sys.executable, "-m", "lb.demo.site.router", "--socket", str(self.router_socket)]
        self.network[ROUTER].popen([*command, *vips, *links], "routes")
        wait_until(self.router_socket.exists, "the router process answers", START_SECONDS)

    def exclude(self, numbers: Iterable[int]) -> None:
        """Make the router send nothing to these servers, even if they are announced."""
        router.request(self.router_socket, {"exclude": [str(dip(number)) for number in numbers]})

    def routed(self) -> list[str]:
        """Return the DIPs to which the router sends."""
        return router.request(self.router_socket, {})

    # Servers

    def start_services(self, number: int) -> None:
        """Start nginx, the UDP service and, on a server with a capacity, the work service."""
        host = self.server(number)
        # Services start before the agent adds the VIPs.
        host.sysctl("net.ipv4.ip_nonlocal_bind", "1")
        web = nginx.write_configuration(
            self.nginx_base(number),
            host.name,
            (scenario.WEB_VIP, scenario.PLAIN_VIP, scenario.DAILY_VIP),
            scenario.HTTP_PORT,
            self._files_folder,
        )
        programs = self.running.setdefault(number, {})
        programs["nginx"] = host.popen(nginx.command(web), "nginx")
        programs["echo"] = host.popen(settings.echo_command(number), "echo")
        if number in scenario.CAPACITIES:
            command = settings.work_command(number, WORK_UNIT_MS)
            programs["work"] = host.popen(command, "work")

    def nginx_base(self, number: int) -> Path:
        """The folder of a server's nginx."""
        return self.server(number).base / "nginx"

    def start_agent(self, number: int) -> None:
        """Start `lbctl up`."""
        host = self.server(number)
        path = host.base / "agent.toml"
        text = settings.agent_toml(number, host, self.network.store_dir, self.router_socket)
        path.write_text(text, encoding="utf-8")
        agent = host.popen([lbctl(), "up", "--config", path], "agent")
        self.running.setdefault(number, {})["agent"] = agent

    def kill_server(self, number: int) -> None:
        """Simulate a power failure: take the link down and kill all processes."""
        host = self.server(number)
        set_link(host, INTERFACE, up=False)
        for process in self.running[number].values():
            process.kill()
        self.running[number] = {}

    def take_down(self, number: int) -> None:
        """End a server as before a reboot: `lbctl down`, then its services.

        Raises:
            NetworkError: `lbctl down` refused, or failed.

        """
        host = self.server(number)
        host.run([lbctl(), "down", "--config", host.base / "agent.toml"], DOWN_SECONDS)
        for process in self.running[number].values():
            process.stop()
        self.running[number] = {}

    def restart(self, number: int) -> None:
        """Restart a server's services and its agent; its programs in the kernel go on."""
        for process in self.running[number].values():
            process.stop()
        self.start_services(number)
        self.start_agent(number)

    def reboot(self, number: int) -> None:
        """Restart all of a server as an operator does: `lbctl down`, everything ends, and starts.

        Raises:
            NetworkError: `lbctl down` refused, or failed.

        """
        self.counters.read()  # they end with the programs
        self.take_down(number)
        self.start_services(number)
        self.start_agent(number)

    def stop_agent_and_services(self, number: int) -> None:
        """Kill a server's agent and its services; its machine and its programs continue."""
        for process in self.running[number].values():
            process.kill()
        self.running[number] = {}

    def end_connections(self) -> None:
        """End all TCP connections that services still have; to be called while no flow is open.

        Flows that broke without daisy chaining leave theirs open. A close would not be enough: the
        kernel goes on to probe a client with a full buffer, for minutes.
        """
        for number, programs in self.running.items():
            for vip in scenario.VIPS if programs else ():
                words = ["ss", "-K", "-t", "state", "connected", "src", str(vip)]
                # A kernel without SOCK_DESTROY refuses; then a drain may wait for these.
                self.server(number).run(words, check=False)

    def switch_on(self, number: int) -> None:
        """Connect a server again whose link was taken down, and start its programs."""
        host = self.server(number)
        set_link(host, INTERFACE, up=True)
        route = ["default", "via", str(router_address(number)), "dev", INTERFACE]
        host.run(["ip", "route", "replace", *route])
        self.start_services(number)
        self.start_agent(number)

    def suspend_agent(self, number: int) -> None:
        """Suspend a server's agent; its programs continue with their current table."""
        self.running[number]["agent"].signal(signal.SIGSTOP)

    def resume_agent(self, number: int) -> None:
        """Resume a suspended agent."""
        self.running[number]["agent"].signal(signal.SIGCONT)

    def await_behind(self, number: int, pool: str) -> None:
        """Wait until a pool has a newer table than this server, whose agent is suspended."""
        server = server_name(number)
        wait_until(
            lambda: not self.store.is_settled(pool, [server]),
            f"{server} is a generation behind",
            START_SECONDS,
        )

    def catch_up(self, number: int, pool: str) -> None:
        """Let a suspended agent load the newest table, but no later one.

        The controller is suspended during this, because it would publish the next table at once.
        The agent reports before it is suspended again, so that the controller does not wait for it
        as for a silent one.
        """
        server = server_name(number)
        self.control.signal(signal.SIGSTOP)
        try:
            resumed_at = time.time()
            self.resume_agent(number)
            wait_until(
                lambda: (
                    self.store.is_settled(pool, [server])
                    and self.store.has_reported(server, resumed_at)
                ),
                f"{server} has caught up",
                START_SECONDS,
            )
            self.suspend_agent(number)
        finally:
            self.control.signal(signal.SIGCONT)

    def await_ready(self, numbers: Iterable[int], since_unix: float = 0.0) -> None:
        """Wait until these servers report ready and the router sends to them."""
        for number in numbers:
            wait_until(
                partial(self._is_ready, number, since_unix),
                f"{server_name(number)} is ready",
                START_SECONDS,
            )

    def _is_ready(self, number: int, since_unix: float) -> bool:
        agent = self.running[number]["agent"]
        if agent.poll() is not None:
            last = agent.output().strip().splitlines()[-1:]
            raise BrigadeError(f"{agent.name} has ended: {''.join(last)}")
        ready = self.store.is_ready(server_name(number), since_unix)
        return ready and str(dip(number)) in self.routed()

    def busy_seconds(self, number: int) -> float:
        """Return how long the work service of a server was busy, from its own counter."""
        url = f"http://127.0.0.1:{scenario.WORK_METRICS_PORT}/metrics"

        def read() -> str:
            with urllib.request.urlopen(url, timeout=2) as page:
                return bytes(page.read()).decode()

        for line in self.server(number).call(read).splitlines():
            if line.startswith(f"{work_service.BUSY_METRIC} "):
                return float(line.split()[1])
        raise BrigadeError(
            f"the work service of {server_name(number)} has no {work_service.BUSY_METRIC}"
        )

    # The controller

    def write_settings(self) -> None:
        """Write the current settings of the controller."""
        text = settings.control_toml(
            self.network.store_dir,
            self.known,
            self.work_balance,
            daily=self.daily,
            default_timing=self.default_timing,
        )
        new = self.control_file.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.control_file)

    def start_controller(self) -> None:
        """Start `lbctl control`."""
        self.write_settings()
        command = [lbctl(), "control", "--config", str(self.control_file)]
        self.controller_process = self.controller.popen(
            command, "control", env=self.controller_environment
        )

    def await_rounds(self, count: int = 1) -> None:
        """Wait until the controller, which may just have been started, has done some rounds."""

        def rounds() -> float:
            try:
                return self.controller_metric("bucket_brigade_controller_rounds_total") or 0.0
            except OSError:  # it does not serve its metrics yet
                return 0.0

        wait_until(lambda: rounds() >= count, "the controller works", START_SECONDS)

    def reload_controller(self) -> None:
        """Make the controller read its settings again."""
        self.write_settings()
        self.control.signal(signal.SIGHUP)

    @property
    def control(self) -> Process:
        """The controller's process."""
        if self.controller_process is None:
            raise BrigadeError("no controller was started")
        return self.controller_process

    def run_lbctl(self, *words: str, seconds: float = START_SECONDS) -> str:
        """Run `lbctl` on the controller's machine, as an operator would; return what it prints."""
        command = [lbctl(), *words, "--config", str(self.control_file)]
        return self.controller.run(command, seconds).stdout

    def controller_metric(self, name: str, **labels: str) -> float | None:
        """Return the sum of a controller's metric with these labels; None if it has no sample."""

        def read() -> str:
            with urllib.request.urlopen(CONTROLLER_METRICS, timeout=2) as page:
                return bytes(page.read()).decode()

        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [
            float(line.rpartition(" ")[2])
            for line in self.controller.call(read).splitlines()
            if re.match(rf"{name}[{{ ]", line) and all(label in line for label in wanted)
        ]
        return sum(samples) if samples else None

    # Waiting

    def await_equal(self, pools: Iterable[str], numbers: Sequence[int], timeout: float) -> None:
        """Wait until every server uses tables in which exactly these servers have equal shares."""
        names = {server_name(number) for number in numbers}
        for pool in pools:
            wait_until(
                partial(self._is_equal, pool, names),
                f"{', '.join(sorted(names))} share pool {pool} equally",
                timeout,
            )

    def await_active(self, numbers: Iterable[int]) -> None:
        """Wait until the slow start of these servers is over and that document is settled."""
        names = [server_name(number) for number in numbers]
        wait_until(lambda: self.store.are_active(names), "all servers are active", START_SECONDS)

    def _is_equal(self, pool: str, names: set[str]) -> bool:
        held = {name: count for name, count in self.store.buckets(pool).items() if count}
        if set(held) != names or max(held.values()) - min(held.values()) > 1:
            return False
        return self.store.is_settled(pool, self.alive())
