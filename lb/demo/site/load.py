"""Open-loop load: many UDP flows, each of which asks at its own fixed times, answered or not.

Obeys `count` with `{"event": "count", "sent", "answered"}` until its input ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import socket
import sys
import time
from collections import deque

from lb.demo.traffic.generator import NAP_SECONDS, Commands

DATAGRAM_BYTES = 2048


class OpenLoop:
    """Flows taken in turn, at even distances of time."""

    def __init__(self, target: tuple[str, int], flows: int, rate: float, now: float) -> None:
        self._flows = deque(self._socket(target) for _ in range(flows))
        self._distance = 1.0 / rate
        self._next_at = now
        self.sent = 0
        self.answered = 0

    @staticmethod
    def _socket(target: tuple[str, int]) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0)
        sock.connect(target)
        return sock

    def send_due(self, now: float) -> float:
        """Send what is due by now, answers or no answers; return when the next is due."""
        while self._next_at <= now:
            sock = self._flows[0]
            self._flows.rotate(-1)
            self._hear(sock)
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                # If not, it counts as sent and stays unanswered.
                sock.send(b"%d" % self.sent)
            self.sent += 1
            self._next_at += self._distance
        return self._next_at

    def _hear(self, sock: socket.socket) -> None:
        while True:
            try:
                sock.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self.answered += 1


def main() -> None:
    """Run as `python -m lb.demo.site.load`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vip", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--flows", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second, all flows")
    options = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = OpenLoop((options.vip, options.port), options.flows, options.rate, time.monotonic())
    commands = Commands(sys.stdin.fileno())
    while True:
        pause = loop.send_due(time.monotonic()) - time.monotonic()
        lines = commands.wait(min(NAP_SECONDS, pause))
        if lines is None:
            return
        if "count" in lines:
            counts = {"sent": loop.sent, "answered": loop.answered}
            print(json.dumps({"event": "count", **counts}), flush=True)  # noqa: T201 (its voice)


if __name__ == "__main__":
    main()
