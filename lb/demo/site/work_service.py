"""The service with limited capacity: one request at a time, each takes UNIT / CAPACITY.

It measures its busy time and serves that as a Prometheus counter. Its capacity is on its command
line and nowhere else.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY_METRIC = "worker_busy_seconds_total"
REQUESTS_METRIC = "worker_requests_total"
RECEIVE_BYTES = 1 << 20
DATAGRAM_BYTES = 2048


class WorkService:
    """Serves datagrams one after the other."""

    def __init__(self, name: str, work_seconds: float) -> None:
        self._name = name.encode()
        self._work_seconds = work_seconds
        self.busy_seconds = 0.0
        self.requests = 0

    def serve(self, sock: socket.socket) -> None:
        """Answer until the process is ended."""
        while True:
            data, client = sock.recvfrom(DATAGRAM_BYTES)
            begun = time.monotonic()
            time.sleep(self._work_seconds)
            self.busy_seconds += time.monotonic() - begun
            self.requests += 1
            sock.sendto(self._name + b" " + data, client)

    def page(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return (
            f"# TYPE {BUSY_METRIC} counter\n{BUSY_METRIC} {self.busy_seconds:.6f}\n"
            f"# TYPE {REQUESTS_METRIC} counter\n{REQUESTS_METRIC} {self.requests}\n"
        ).encode()


def serve_metrics(service: WorkService, port: int) -> None:
    """Serve the metrics on the loopback address, in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = service.page()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (name of the base class)
            """Log nothing: the page is read several times per second."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    """Run as `python -m lb.demo.site.work_service`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--unit-ms", type=float, required=True, help="duration of a request at capacity 1"
    )
    parser.add_argument("--capacity", type=float, required=True, help="speed of this server")
    parser.add_argument("--metrics-port", type=int, required=True)
    options = parser.parse_args()
    service = WorkService(options.name, options.unit_ms / 1000 / options.capacity)
    serve_metrics(service, options.metrics_port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        sock.bind((options.address, options.port))
        service.serve(sock)


if __name__ == "__main__":
    main()
