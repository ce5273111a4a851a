"""Replacement for BGP on the router: servers announce themselves, the kernel gets an ECMP route.

The process runs in the router's namespace. The route of each VIP has those servers as next hops
that are announced and that the operator has not excluded. As a BGP session with BFD does, an
announcement ends when the link loses its carrier: a server that was without power is announced
again by its agent. A request is one line of JSON on a Unix socket. The answer lists the servers in
use and comes after the kernel has the routes. Servers send `{"announce": DIP}` and `{"withdraw":
DIP}`. The operator sends `{"exclude": [DIP, ...]}`, the full list of servers that get no traffic.
`{}` changes nothing.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RTMGRP_LINK = 1
REQUEST_BYTES = 65536
TIMEOUT_SECONDS = 5.0


@dataclass
class RouteState:
    """The servers that the router uses, as sets of DIPs in text form. Pure."""

    announced: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)

    def apply(self, request: dict[str, Any]) -> None:
        """Apply one request."""
        if "announce" in request:
            self.announced.add(str(request["announce"]))
        if "withdraw" in request:
            self.announced.discard(str(request["withdraw"]))
        if "exclude" in request:
            self.excluded = {str(dip) for dip in request["exclude"]}

    def keep(self, with_carrier: Iterable[str]) -> None:
        """Forget the announcements of all servers but these, whose links have carrier."""
        self.announced &= set(with_carrier)

    def in_use(self) -> list[str]:
        """Return the servers that get traffic, in order."""
        return sorted(self.announced - self.excluded)


class RouterProcess:
    """Keeps the ECMP routes of the kernel equal to `RouteState`."""

    def __init__(self, vips: list[str], links: dict[str, str], path: Path) -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415 (hooks run `request`: start quickly)

        self._vips = vips
        self._links = links
        self._state = RouteState()
        self._routed: list[str] = []
        self._netlink = IPRoute()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._events.bind((0, RTMGRP_LINK))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._selector.register(self._events, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            for key, _events in self._selector.select():
                if key.fileobj is self._events:
                    self._events.recv(REQUEST_BYTES)
                    self._apply()
                else:
                    self._answer()

    def _answer(self) -> None:
        connection, _address = self._server.accept()
        with connection:
            connection.settimeout(TIMEOUT_SECONDS)
            try:
                line = connection.makefile("rb").readline(REQUEST_BYTES)
                self._state.apply(json.loads(line))
                self._apply()
                connection.sendall(json.dumps(self._routed).encode() + b"\n")
            except (OSError, ValueError) as error:
                print(f"a request failed: {error}", flush=True)  # noqa: T201 (its log)

    def _with_carrier(self) -> list[str]:
        up = {
            link.get_attr("IFLA_IFNAME")
            for link in self._netlink.get_links()
            if link.get_attr("IFLA_CARRIER") == 1
        }
        return [dip for dip, interface in self._links.items() if interface in up]

    def _apply(self) -> None:
        self._state.keep(self._with_carrier())
        in_use = self._state.in_use()
        if in_use == self._routed:
            return
        for vip in self._vips:
            if in_use:
                hops = [{"gateway": dip, "oif": self._index(dip)} for dip in in_use]
                self._netlink.route("replace", dst=f"{vip}/32", multipath=hops)
            else:
                self._netlink.route("del", dst=f"{vip}/32")
        self._routed = in_use
        print(f"next hops: {', '.join(in_use) or 'none'}", flush=True)  # noqa: T201 (its log)

    def _index(self, dip: str) -> int:
        return int(self._netlink.link_lookup(ifname=self._links[dip])[0])


def request(path: Path, message: dict[str, Any]) -> list[str]:
    """Send a request to the router and return the servers in use after it.

    Raises:
        OSError: the router does not answer.

    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        sock.connect(str(path))
        sock.sendall(json.dumps(message).encode() + b"\n")
        line = sock.makefile("rb").readline(REQUEST_BYTES)
    if not line:
        raise ConnectionError(f"the router refused {message}; the reason is in its log")
    answer: list[str] = json.loads(line)
    return answer


def main() -> None:
    """Run as `python -m lb.demo.site.router`: the process of the router, or a hook of a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--announce", metavar="DIP", help="announce this server (in a hook)")
    parser.add_argument("--withdraw", metavar="DIP", help="withdraw this server (in a hook)")
    parser.add_argument("--vip", action="append", default=[])
    parser.add_argument("--link", action="append", default=[], metavar="DIP=INTERFACE")
    options = parser.parse_args()
    for word in ("announce", "withdraw"):
        dip = getattr(options, word)
        if dip:
            request(options.socket, {word: dip})
            return
    links = dict(link.split("=", 1) for link in options.link)
    RouterProcess(options.vip, links, options.socket).run()


if __name__ == "__main__":
    main()
