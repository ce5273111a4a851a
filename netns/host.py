"""A running simulated host: a network namespace, a thread in it, and a base directory."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pyroute2 import IPRoute

from netns.errors import NetworkError
from netns.libc import MS_BIND, enter_network, mount, unshare_network
from netns.process import RUN_VARIABLE, Process
from netns.record import RunRecord

P = ParamSpec("P")
T = TypeVar("T")

THREAD_NETWORK = "/proc/thread-self/ns/net"
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """One host. `Network` creates and removes it.

    ``state_dir``, ``run_dir`` and ``bpffs`` (a directory on the bpffs of the run) are for an agent.
    ``log_dir`` has the logs of the host's processes. ``descriptor`` is that of the namespace.
    """

    def __init__(self, name: str, record: RunRecord) -> None:
        self.name = name
        self.record = record
        self.namespace = record.namespace_path(name)
        self.base = record.path / "hosts" / name
        self.state_dir = self.base / "state"
        self.run_dir = self.base / "run"
        self.log_dir = self.base / "log"
        self.bpffs = record.path / "bpf" / name
        self.descriptor = -1
        self.processes: list[Process] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"netns-{name}")

    def create(self) -> None:
        """Create the namespace with its name, and the directories."""
        for path in (self.base, self.state_dir, self.run_dir, self.log_dir, self.bpffs):
            path.mkdir(mode=0o755)
        self.descriptor = self.call(self._create_namespace)

    def _create_namespace(self) -> int:
        unshare_network()
        self.namespace.touch(mode=0o444)
        mount(THREAD_NETWORK, self.namespace, flags=MS_BIND)
        return os.open(THREAD_NETWORK, os.O_RDONLY | os.O_CLOEXEC)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function on the host's thread, which is always in the namespace."""
        return self._thread.submit(function, *args, **kwargs).result()

    def netlink(self, function: Callable[[Any], T]) -> T:
        """Run a function in the namespace with an open pyroute2 `IPRoute`."""

        def with_socket() -> T:
            with IPRoute() as netlink:
                return function(netlink)

        return self.call(with_socket)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into the namespace; what it opens and forks stays there."""
        before = os.open(THREAD_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter_network(self.descriptor)
            try:
                yield
            finally:
                enter_network(before)
        finally:
            os.close(before)

    def sysctl(self, name: str, value: str | None = None) -> str:
        """Read a `net.` sysctl, or set it, and return its value."""
        path = Path("/proc/sys") / name.replace(".", "/")

        def read_or_write() -> str:
            if value is not None:
                path.write_text(value, encoding="ascii")
            return path.read_text(encoding="ascii").strip()

        return self.call(read_or_write)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of its processes."""
        path = os.environ.get("PATH", STANDARD_PATH)
        return {
            **os.environ,
            "PATH": f"{path}:{STANDARD_PATH}",
            "TMPDIR": str(self.record.path / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            RUN_VARIABLE: self.record.run,
            **(extra or {}),
        }

    def popen(
        self,
        command: Sequence[str | Path],
        name: str = "",
        *,
        pipes: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program in the namespace; the end of the network also ends the program.

        Standard output and standard error go to `log_dir/NAME.log`. With `pipes`, standard input
        and standard output are pipes instead.
        """
        words = [str(word) for word in command]
        label = name or Path(words[0]).name
        log = self.log_dir / f"{label}.log"

        def start() -> Process:
            """Start and record it in the host's thread, so that Ctrl-C cannot come in between."""
            with log.open("ab") as file:
                popen = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if pipes else file,
                    stderr=file,
                    env=self.environment(env),
                    cwd=cwd or self.base,
                    start_new_session=True,
                )
            process = Process(f"{label} on {self.name}", popen, log)
            self.record.add_session(process.id)
            self.processes.append(process)
            return process

        return self.call(start)

    def run(
        self,
        command: Sequence[str | Path],
        timeout_seconds: float = 30.0,
        *,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace and wait for its end.

        Raises:
            NetworkError: the program failed and `check` is set, or the timeout expired.

        """
        words = [str(word) for word in command]

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self.environment(env),
                cwd=self.base,
                start_new_session=True,
            )

        with self.call(start) as popen:
            try:
                output, errors = popen.communicate(timeout=timeout_seconds)
            except BaseException as error:
                os.killpg(popen.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise NetworkError(
                        f"on {self.name}: {' '.join(words)}: timeout after {timeout_seconds} s"
                    ) from error
                raise
        if check and popen.returncode != 0:
            raise NetworkError(
                f"on {self.name}: {' '.join(words)}: exit code {popen.returncode}: "
                f"{errors.strip() or output.strip()}"
            )
        return subprocess.CompletedProcess(words, popen.returncode, output, errors)

    def close(self) -> None:
        """End the thread and close the namespace; `leftovers.remove` removes its name."""
        for process in self.processes:
            process.close()
        self._thread.shutdown(wait=True)
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
