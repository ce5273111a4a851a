"""Processes of a simulated host: they run in its namespace and end with the network.

Each is the leader of a new session. So Ctrl-C of a terminal does not reach it, and its children can
be found by their session. The environment variable `RUN_VARIABLE` marks it, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netns.polling import NotInTimeError, wait_until

RUN_VARIABLE = "BUCKET_BRIGADE_RUN"


@dataclass(frozen=True)
class ProcessId:
    """Identifies a process: the kernel reuses ids, but not with the same start time.

    ``start`` is field 22 of /proc/PID/stat (proc(5)), clock ticks since boot.
    """

    pid: int
    start: int


@dataclass(frozen=True)
class ProcessInfo:
    """A process as in /proc; ``network`` is the inode of its network namespace."""

    id: ProcessId
    session: int
    network: int
    run: str


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it does not exist."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def myself() -> ProcessId:
    """Return the id of this process."""
    start = start_time(os.getpid())
    if start is None:
        raise ProcessLookupError("/proc does not list this process: is /proc mounted?")
    return ProcessId(os.getpid(), start)


def is_alive(process: ProcessId) -> bool:
    """Return whether the process exists and is not a zombie."""
    fields = _stat(process.pid)
    return fields is not None and int(fields[19]) == process.start and fields[0] != "Z"


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state (field 3) on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def processes() -> Iterator[ProcessInfo]:
    """Yield every process that this one may read, except those that end meanwhile."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields is None or fields[0] == "Z":
            continue
        try:
            network = (entry / "ns/net").stat().st_ino
            environment = (entry / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        identity = ProcessId(int(entry.name), int(fields[19]))
        yield ProcessInfo(identity, int(fields[3]), network, _run_of(environment))


def _run_of(environment: bytes) -> str:
    prefix = f"{RUN_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode(errors="replace")
    return ""


def signal_process(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to exactly this process, unless it has ended."""
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def kill_and_wait(victims: Collection[ProcessId], timeout_seconds: float = 5.0) -> None:
    """Kill processes with SIGKILL, and wait until they have ended."""
    for victim in victims:
        signal_process(victim, signal.SIGKILL)
    with suppress(NotInTimeError):
        wait_until(
            lambda: not any(is_alive(victim) for victim in victims),
            "all are gone",
            timeout_seconds,
        )


class Process:
    """A running program of a host, with its log file; `Host.popen` creates it.

    ``pid`` is also its session id. ``stdin`` and ``stdout`` are None unless started with `pipes`.
    """

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = popen.pid
        self.stdin, self.stdout = popen.stdin, popen.stdout
        self._popen = popen
        self.id = ProcessId(popen.pid, start_time(popen.pid) or 0)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._popen.poll()

    def wait(self, timeout_seconds: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            TimeoutError: it is still running.

        """
        try:
            return self._popen.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.name} is still running after {timeout_seconds} s") from error

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its process group."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, number)

    def kill(self) -> None:
        """Kill it and its process group, and wait for its end."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def stop(self, timeout_seconds: float = 5.0) -> int:
        """Send SIGTERM, after the timeout SIGKILL, and return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.wait()

    def output(self) -> str:
        """Return its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Close our ends of its pipes."""
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
