"""What it costs an agent to know where its connections are.

Real sockets in a network namespace of their own, that of a process that unshare(1) starts. They are
established by TCP_REPAIR (Linux, tcp(7)): without a peer, so that there are no others.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import numpy as np

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import TCP, Pool, Server, ServerState, Service, Table, Vip
from lb.agent.facts import SharedFacts
from lb.agent.report.presence.counter import QUICK, ConnectionCounter
from lb.led_here import Steering, pool_here

COMMAND = ("unshare", "--net")
SIZES = (100, 100_000)
BUCKETS = 65_536
ROUNDS = 5
VIPS: tuple[Vip, ...] = (IPv4Network("192.0.2.10"), IPv6Network("2001:db8::10"))
PORT = 443
TCP_REPAIR = 19
CLIENT_PORTS = range(1024, 61_024)
SPARE_FILES = 200
CPU_BAR, MEMORY_BAR = 3.0, 30.0
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Row:
    """One number of connections: the median dump, and what follows from it.

    ``core_percent``: of one core, with the agent's shortest pause. ``memory_mib``: by how much the
    process grows with all of it.
    """

    connections: int
    dump_cpu_ms: float
    pause_seconds: float
    core_percent: float
    memory_mib: float


def measure() -> list[Row]:
    """Measure each size in a process of its own.

    Raises:
        BrigadeError: it may not make network namespaces.

    """
    return [_measure_apart(size) for size in SIZES]


def _measure_apart(connections: int) -> Row:
    words = [*COMMAND, sys.executable, "-m", __name__, str(connections)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise BrigadeError(f"cannot measure in a network namespace of its own: {reason}")
    return Row(**json.loads(done.stdout))


def as_json(rows: list[Row]) -> dict[str, object]:
    """Return the result as values for JSON, with what each must not exceed."""
    shown = [
        {"name": f"{name}_{row.connections}", "value": round(value, 3), "unit": unit, "bar": bar}
        for row in rows
        for name, value, unit, bar in (
            ("dump_cpu", row.dump_cpu_ms, "ms", None),
            ("pause", row.pause_seconds, "s", None),
            ("core", row.core_percent, "%", CPU_BAR),
            ("memory", row.memory_mib, "MiB", MEMORY_BAR),
        )
    ]
    return {"rows": shown}


def main(connections: int) -> None:
    """Measure in this process, whose network namespace is empty, and print the row."""
    for vip in VIPS:
        words = ["ip", "address", "add", str(vip), "dev", "lo"]
        subprocess.run([*words, "nodad"] if vip.version == 6 else words, check=True)  # noqa: PLR2004
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for family in ("-4", "-6"):
        subprocess.run(["ip", family, "route", "add", "default", "dev", "lo"], check=True)
    with established(connections):
        row = _measure_here(connections)
    print(json.dumps(asdict(row)))


@contextmanager
def established(connections: int) -> Iterator[None]:
    """Keep so many connections open, in processes that may each open some of them."""
    most = getrlimit(RLIMIT_NOFILE)[1]
    setrlimit(RLIMIT_NOFILE, (most, most))
    numbers = range(connections)
    step = most - SPARE_FILES
    ready, opened = os.pipe()
    holders = [
        _hold(numbers[first : first + step], opened) for first in range(0, connections, step)
    ]
    try:
        if any(os.read(ready, 1) != b"+" for _ in holders):
            raise BrigadeError("connections cannot be opened")
        yield
    finally:
        for holder in holders:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
        os.close(ready)
        os.close(opened)


def _hold(numbers: range, opened: int) -> int:
    """Start a process that opens these connections and keeps them; return its id."""
    holder = os.fork()
    if holder:
        return holder
    try:
        held = [_open(number) for number in numbers]
        os.write(opened, b"+")
        while held:
            signal.pause()
    finally:
        os.write(opened, b"-")
        os._exit(1)


def _open(number: int) -> socket.socket:
    """Open the connection of this number: in turn IPv6, and IPv4 in a socket of either family."""
    host, port = divmod(number // 3, len(CLIENT_PORTS))
    family, vip, client = (
        (socket.AF_INET6, "2001:db8::10", f"2001:db8:c::{host + 1}"),
        (socket.AF_INET6, "::ffff:192.0.2.10", f"::ffff:198.51.100.{host + 1}"),
        (socket.AF_INET, "192.0.2.10", f"198.51.100.{host + 129}"),
    )[number % 3]
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    opened.bind((vip, PORT))
    opened.connect((client, CLIENT_PORTS[port]))
    return opened


def _measure_here(connections: int) -> Row:
    facts = SharedFacts(0.0)
    facts.update(steering=_steering())
    counter = ConnectionCounter(facts)
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # VmHWM begins again (proc(5))
    before = _status_kib("VmRSS")
    costs: list[float] = []
    for _ in range(ROUNDS):
        number = len(costs)
        while facts.current.presence is None or facts.current.presence.dump.number == number:
            time.sleep(counter.step())
        costs.append(facts.current.dump_seconds)
    found = facts.current
    if found.connections != connections:
        raise BrigadeError(f"{found.connections} connections counted, not {connections}")
    cost = sorted(costs)[ROUNDS // 2]
    pause = QUICK.pause(cost)
    grown = _status_kib("VmHWM") - before
    return Row(
        connections, cost * 1000, pause, 100 * cost / (cost + pause), grown * 1024 / MEBIBYTE
    )


def _steering() -> Steering:
    """Return one pool over both VIPs, all of whose buckets lead to this server."""
    services = tuple(Service(f"v{vip.version}", vip, TCP, PORT, "web") for vip in VIPS)
    server = Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE)
    chains = np.full((BUCKETS, 4), server.index, np.uint16)
    table = Table("web", 1, 1, chains, np.zeros(BUCKETS, np.uint32))
    here = pool_here(table, Pool("web", BUCKETS), bytes(range(16)), server, 0.0)
    return Steering(1, services, {"web": here}, server.dip)


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(int(sys.argv[1]))
