"""Builds a topology on this machine, and removes all of it again."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from pyroute2 import NetlinkError

from netns import bpf
from netns.build import build_link, build_route, remove_links, set_link
from netns.errors import NetworkError
from netns.host import Host
from netns.leftovers import processes_of, remove, remove_leftovers
from netns.libc import mount
from netns.names import prepare
from netns.polling import NotInTimeError, wait_until
from netns.privileges import refused
from netns.process import kill_and_wait
from netns.record import NAMESPACES, RunRecord
from netns.topology import Topology

END_SECONDS = 2.0
"""How long processes have after SIGTERM, before SIGKILL."""
UNLOAD_SECONDS = 2.0
"""How long to wait until the kernel has freed our BPF programs and maps."""
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Network:
    """A running topology: a context manager.

    Entering the context first removes runs whose process has ended. Leaving it removes processes,
    mounts, namespaces and files, also if the network was built only in part. Nothing outside its
    own namespaces is changed.
    """

    def __init__(self, topology: Topology, record: RunRecord | None = None) -> None:
        topology.check()
        self.topology = topology
        self.hosts: dict[str, Host] = {}
        self._record = record
        self._ids_before: tuple[frozenset[int], frozenset[int]] | None = None
        self._kept = False

    @property
    def record(self) -> RunRecord:
        """The record of the run, with the path of its files."""
        if self._record is None:
            raise NetworkError("the network is not built")
        return self._record

    @property
    def store_dir(self) -> Path:
        """Directory of a `file:` store, shared by all hosts."""
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
                raise NetworkError(refused(error)) from error
            raise
        return self

    def _build(self) -> None:
        mount("bpf", self.record.path / "bpf", "bpf")
        prepare(NAMESPACES)
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
        """Leave everything running after the context, until `remove_leftovers(kept=True)`."""
        self._kept = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._kept and kind is None:
            owner = self.record.owner()
            if owner is None:
                raise NetworkError(f"the owner file in {self.record.path} is missing")
            self.record.write_owner(replace(owner, kept=True))
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
        """Clean up at the end of the program, if an interrupt prevented `__exit__`."""
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        if self._record is not None:
            remove(self._record)

    def _end_processes(self) -> None:
        running = [p for host in self.hosts.values() for p in host.processes if p.poll() is None]
        for process in running:
            # A stopped process handles SIGTERM only after SIGCONT.
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        with suppress(NotInTimeError):
            wait_until(lambda: all(p.poll() is not None for p in running), "all end", END_SECONDS)
        for process in running:
            process.kill()
        kill_and_wait([process.id for process in processes_of(self.record)])

    def _unloaded(self) -> bool:
        if self._ids_before is None:  # nothing was loaded
            return True
        programs, maps = self._ids_before
        return bpf.program_ids() <= programs and bpf.map_ids() <= maps


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Delay signals until a clean-up is complete; only SIGKILL interrupts it.

    This uses handlers, not a mask: the kernel would deliver a masked signal to the thread of a
    host, and Python would then interrupt the main thread. Other threads are never interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    try:
        with _handled(ENDINGS, lambda number, _frame: received.append(number)):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])


@contextmanager
def endings_as_interrupts() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that context managers clean up.

    Only the main thread of a program may use this.
    """

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    with _handled((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextmanager
def _handled(
    numbers: Sequence[signal.Signals], handler: Callable[[int, object], None]
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
