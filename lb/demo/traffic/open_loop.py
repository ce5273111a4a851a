"""Open-loop load: many UDP flows that send at fixed times, with or without answers.

The process answers the command `count` with `{"event": "count", "sent", "answered"}`, and ends at
the end of its input.
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

from lb.demo.traffic.generator import MAX_WAIT_SECONDS, Commands

DATAGRAM_BYTES = 2048


class OpenLoop:
    """Sends on the flows in turn, at a constant rate."""

    def __init__(self, target: tuple[str, int], flows: int, rate: float, now: float) -> None:
        self._flows = deque(self._socket(target) for _ in range(flows))
        self._interval_seconds = 1.0 / rate
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
        """Send what is due, with or without answers, and return the time of the next datagram."""
        while self._next_at <= now:
            sock = self._flows[0]
            self._flows.rotate(-1)
            self._receive(sock)
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                # A datagram that cannot be sent counts as sent and not answered.
                sock.send(b"%d" % self.sent)
            self.sent += 1
            self._next_at += self._interval_seconds
        return self._next_at

    def _receive(self, sock: socket.socket) -> None:
        while True:
            try:
                sock.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self.answered += 1


def main() -> None:
    """Run as `python -m lb.demo.traffic.open_loop`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vip", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--flows", type=int, required=True)
    parser.add_argument(
        "--rate", type=float, required=True, help="requests per second of all flows"
    )
    options = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = OpenLoop((options.vip, options.port), options.flows, options.rate, time.monotonic())
    commands = Commands(sys.stdin.fileno())
    while True:
        pause = loop.send_due(time.monotonic()) - time.monotonic()
        lines = commands.wait(min(MAX_WAIT_SECONDS, pause))
        if lines is None:
            return
        if "count" in lines:
            counts = {"sent": loop.sent, "answered": loop.answered}
            print(json.dumps({"event": "count", **counts}), flush=True)  # noqa: T201 (the demo reads it)


if __name__ == "__main__":
    main()
