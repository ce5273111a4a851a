"""Reads what a person on call would see: logs, TROUBLE lines, and `lbctl servers`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from lb.agent.report.status_file import read_status
from lb.demo.site.site import Site
from lb.demo.steps.alarms import Alarms, warnings_in
from netns.brigade import server_name

CONTROLLER_LOG = "log of the controller"
SERVERS = "output of lbctl servers"
POLL_SECONDS = 0.05


def log_of(number: int) -> str:
    """Name of the log of a server's agent, as a source of alarms."""
    return f"log of {server_name(number)}"


def status_of(number: int) -> str:
    """Name of the TROUBLE lines of a server's status, as a source of alarms."""
    return f"status of {server_name(number)}"


class Lookout:
    """Shows the lines of all sources of one site to `alarms`."""

    def __init__(self, site: Site, servers: Iterable[int], alarms: Alarms) -> None:
        self._site = site
        self._servers = tuple(servers)
        self._alarms = alarms
        self._shown: tuple[str, ...] = ()
        self._ending = threading.Event()

    def baseline(self) -> None:
        """Record what can be seen before the faults. Raises ``ValueError``."""
        self._show_servers()
        for source, lines in self._logs():
            self._alarms.ignore(source, lines)
        for source, lines in self._present():
            self._alarms.baseline(source, lines)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Run `lbctl servers` again and again, as long as the block runs."""
        self._ending.clear()
        thread = threading.Thread(target=self._repeat, name="lbctl servers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()

    def await_reports(self, seconds: float) -> None:
        """Wait until every fault so far is reported, for at most this time."""
        until = time.monotonic() + seconds
        while self._alarms.pending() and time.monotonic() < until:
            self.look()
            time.sleep(POLL_SECONDS)

    def look(self) -> None:
        """Look at all sources once."""
        for source, lines in chain(self._logs(), self._present()):
            self._alarms.observe(source, lines, time.monotonic())

    def troubles(self) -> list[str]:
        """Return all TROUBLE lines of all servers."""
        return [
            f"{server_name(number)}: {line}"
            for number in self._servers
            for line in self._troubles(number)
        ]

    def _logs(self) -> Iterator[tuple[str, list[str]]]:
        for number in self._with_agents():
            yield log_of(number), warnings_in(self._site.running[number]["agent"].output())
        yield CONTROLLER_LOG, warnings_in(self._site.control.output())

    def _present(self) -> Iterator[tuple[str, list[str]]]:
        for number in self._with_agents():
            yield status_of(number), self._troubles(number)
        yield SERVERS, list(self._shown)

    def _with_agents(self) -> list[int]:
        return [number for number in self._servers if "agent" in self._site.running[number]]

    def _troubles(self, number: int) -> list[str]:
        try:
            status = read_status(self._site.server(number).run_dir)
        except ValueError:
            return []
        return list(status["troubles"].values()) if status else []

    def _repeat(self) -> None:
        while not self._ending.is_set():
            self._show_servers()

    def _show_servers(self) -> None:
        self._shown = tuple(self._site.run_lbctl("servers").splitlines())
