"""Restarts of servers by a command, as by ssh and systemd: `python -m lb.demo.site.remote`.

The demo's process owns the programs of all servers. It listens on a Unix socket; the command asks
it there, and its exit code is whether that succeeded.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from controlplane.domain.errors import BrigadeError
from netns.errors import NetworkError

REQUEST_BYTES = 256
ANSWER_BYTES = 4096
DONE = "done"
TIMEOUT_SECONDS = 120.0

Actions = Mapping[str, Callable[[str], None]]
"""What may be asked: from a word to what it does with the server of this name."""


class Remote:
    """Answers requests, one after the other, in a thread. A context: its end closes the socket."""

    def __init__(self, path: Path, actions: Actions) -> None:
        self._path = path
        self._actions = actions
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, name="remote", daemon=True)

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # it was shut down
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            server, _, action = connection.recv(REQUEST_BYTES).decode().partition(" ")
            try:
                self._actions[action](server)
                text = DONE
            except (BrigadeError, NetworkError, KeyError) as error:
                text = f"{action} of {server}: {error}"
            connection.sendall(text.encode()[:ANSWER_BYTES])


def request(path: Path, server: str, action: str) -> str:
    """Ask for an action; return the answer, ``DONE`` for success."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(TIMEOUT_SECONDS)
        asking.connect(str(path))
        asking.sendall(f"{server} {action}".encode())
        return asking.recv(ANSWER_BYTES).decode()


def command(path: Path, action: str) -> list[str]:
    """Return the command that does this with a server, for `lbctl rolling`."""
    return [sys.executable, "-m", "lb.demo.site.remote", "--socket", str(path), "{name}", action]


def main() -> int:
    """Run as a process; return its exit code."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--socket", type=Path, required=True)
    made.add_argument("server")
    made.add_argument("action")
    options = made.parse_args()
    answer = request(options.socket, options.server, options.action)
    print(answer)  # noqa: T201 (a command)
    return 0 if answer == DONE else 1


if __name__ == "__main__":
    sys.exit(main())
