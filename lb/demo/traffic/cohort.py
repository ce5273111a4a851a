"""Control of a traffic process: it opens flows, counts them, and reports its verdict."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from controlplane.domain.errors import BrigadeError
from netns.host import Host
from netns.process import Process

OPEN_SECONDS = 20.0
VERDICT_SECONDS = 40.0
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class BrokenFlow:
    """A flow that broke; ``flow`` is its protocol and the client's address and port."""

    flow: str
    kind: str
    server: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.flow} ({self.kind} at {self.server or 'no server'}): {self.outcome}"


@dataclass(frozen=True)
class Count:
    """How many flows are open and not broken, and how many are broken."""

    tcp: int
    udp: int
    broken: int

    def __add__(self, other: Count) -> Count:
        return Count(self.tcp + other.tcp, self.udp + other.udp, self.broken + other.broken)


@dataclass(frozen=True)
class Verdict:
    """How all flows of a cohort ended."""

    flows: int
    broken: tuple[BrokenFlow, ...]


class TrafficProcess:
    """A process that reads commands and prints JSON events."""

    def __init__(self, host: Host, module: str, arguments: Sequence[str], name: str) -> None:
        self.process: Process = host.popen(
            [sys.executable, "-m", module, *arguments], name, pipes=True
        )
        self._rest = b""

    def send(self, command: str) -> None:
        """Send a command as a line."""
        pipe = self.process.stdin
        if pipe is None:
            raise BrigadeError(f"{self.process.name} has no input")
        pipe.write(command.encode() + b"\n")
        pipe.flush()

    def expect(self, event: str, timeout_seconds: float) -> dict[str, Any]:
        """Return the next event of this name, and skip others.

        Raises:
            BrigadeError: no such event in time, or the process ended.

        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            line = self._line(deadline, event)
            message: dict[str, Any] = json.loads(line)
            if message.pop("event") == event:
                return message

    def _line(self, deadline: float, event: str) -> bytes:
        pipe = self.process.stdout
        if pipe is None:
            raise BrigadeError(f"{self.process.name} has no output")
        while b"\n" not in self._rest:
            readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(pipe.fileno(), READ_BYTES) if readable else b""
            if not data:
                why = "ended" if readable else "is late"
                log = self.process.output().strip().splitlines()
                raise BrigadeError(
                    f"{self.process.name} {why}, expected {event!r}: {log[-1] if log else ''}"
                )
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Cohort:
    """Flows to one VIP, held by one process. ``module``: `generator` or `churn`."""

    def __init__(
        self,
        host: Host,
        vip: IPv4Address,
        name: str,
        arguments: Sequence[str],
        module: str = "generator",
    ) -> None:
        self._traffic = TrafficProcess(
            host, f"lb.demo.traffic.{module}", ["--vip", str(vip), *arguments], name
        )

    def wait_open(self) -> Count:
        """Wait until each flow is open or broken."""
        return Count(**self._traffic.expect("open", OPEN_SECONDS))

    def count(self) -> Count:
        """Return the current counts."""
        self._traffic.send("count")
        return Count(**self._traffic.expect("count", OPEN_SECONDS))

    def names(self) -> dict[str, str]:
        """Return the server of each flow that is open and not broken, by flow name."""
        self._traffic.send("names")
        names: dict[str, str] = self._traffic.expect("names", OPEN_SECONDS)["names"]
        return names

    def note(self, command: str) -> None:
        """Send a command that is not answered."""
        self._traffic.send(command)

    def finish(self) -> None:
        """Make every flow finish."""
        self._traffic.send("finish")

    def verdict(self) -> Verdict:
        """Wait until every flow has finished, and return the verdict."""
        message = self._traffic.expect("verdict", VERDICT_SECONDS)
        broken = tuple(BrokenFlow(**flow) for flow in message["broken"])
        self._traffic.process.wait(OPEN_SECONDS)
        return Verdict(int(message["flows"]), broken)
