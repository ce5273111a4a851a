"""A topology brought to life, and everything of it taken away again."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pyroute2 import NetlinkError

from netns import bpf
from netns.build import build_link, build_route, remove_links, set_link
from netns.errors import NetworkError
from netns.host import Host
from netns.leftovers import processes_of, remove, remove_leftovers
from netns.libc import mount
from netns.polling import NotInTimeError, wait_until
from netns.process import kill_and_wait
from netns.record import RunRecord
from netns.topology import Topology

if TYPE_CHECKING:
    from typing_extensions import Self

END_SECONDS = 2.0
"""How long processes have to end by themselves."""
UNLOAD_SECONDS = 2.0
"""How long to wait for the kernel to let go of BPF programs and maps of ours."""
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Network:
    """A running topology: a context manager.

    Building removes, first, what runs left behind whose process is dead. Leaving the context
    removes processes, mounts, namespaces and files, also if building failed halfway. Only
    namespaces of its own are touched.
    """

    def __init__(self, topology: Topology, record: RunRecord | None = None) -> None:
        topology.check()
        self.topology = topology
        self.hosts: dict[str, Host] = {}
        self._record = record
        self._ids_before = (frozenset[int](), frozenset[int]())
        self._kept = False

    @property
    def record(self) -> RunRecord:
        """Where the run's files lie."""
        if self._record is None:
            raise NetworkError("the network is not built")
        return self._record

    @property
    def store_dir(self) -> Path:
        """A directory for a `file:` store that all hosts share."""
        return self.record.path / "store"

    def __getitem__(self, name: str) -> Host:
        """Return the running host of this name."""
        return self.hosts[name]

    def __enter__(self) -> Self:
        try:
            with interrupts_held_back():
                atexit.register(self._last_resort)
                if self._record is None:
                    self._record = RunRecord.create()
            remove_leftovers()
            self._ids_before = (bpf.program_ids(), bpf.map_ids())
            self._build()
        except BaseException as error:
            self._tear_down()
            if isinstance(error, (OSError, NetlinkError)):
                raise NetworkError(f"the network cannot be built here: {error}") from error
            raise
        return self

    def _build(self) -> None:
        mount("bpf", self.record.path / "bpf", "bpf")
        for spec in self.topology.hosts:
            host = Host(spec.name, self.record)
            self.hosts[spec.name] = host
            host.create()
            set_link(host, "lo", up=True)
            for name, value in spec.sysctls.items():
                host.sysctl(name, value)
        for link in self.topology.links:
            build_link(link, self.hosts)
        for route in self.topology.routes:
            build_route(route, self.hosts[route.host])

    def keep(self) -> None:
        """Leave everything running when the context ends; `remove_leftovers(kept=True)` ends it."""
        self._kept = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._kept and kind is None:
            owner = self.record.owner()
            if owner is None:
                raise NetworkError(f"{self.record.path} has lost its owner record")
            self.record.write_owner(owner.as_kept())
            for host in self.hosts.values():
                host.close()
            atexit.unregister(self._last_resort)
            return
        self._tear_down()

    def _tear_down(self) -> None:
        with interrupts_held_back():
            if self._record is not None:
                self._end_processes()
                for host in self.hosts.values():
                    if host.descriptor >= 0:
                        host.netlink(remove_links)
                    host.close()
                remove(self._record)
                with suppress(NotInTimeError):
                    wait_until(self._unloaded, "the kernel has unloaded", UNLOAD_SECONDS)
            atexit.unregister(self._last_resort)

    def _last_resort(self) -> None:
        """Clean up at the end of the program if an interrupt kept `__exit__` from it."""
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        if self._record is not None:
            remove(self._record)

    def _end_processes(self) -> None:
        running = [p for host in self.hosts.values() for p in host.processes if p.poll() is None]
        for process in running:
            # A stopped one could not end.
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        with suppress(NotInTimeError):
            wait_until(lambda: all(p.poll() is not None for p in running), "all end", END_SECONDS)
        for process in running:
            process.kill()
        kill_and_wait([process.id for process in processes_of(self.record)])

    def _unloaded(self) -> bool:
        programs, maps = self._ids_before
        return bpf.program_ids() <= programs and bpf.map_ids() <= maps


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let nothing but SIGKILL interrupt a clean-up; what comes meanwhile comes after it.

    By handlers, not by a mask: a masked signal would go to one of the hosts' threads, and Python
    would interrupt the main thread all the same. Other threads are not interrupted anyway.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def endings_as_interrupts() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that contexts are left in good order.

    For the main thread of a program.
    """

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def running_as_root() -> bool:
    """Say whether namespaces can be made at all."""
    return os.geteuid() == 0
