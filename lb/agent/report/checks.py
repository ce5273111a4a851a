"""Health checks of each service's listener, on the VIP, from this server itself.

A check comes from the VIP itself: if this machine does not have it, the check fails, instead of
being answered by another server. One thread, one event loop, a task a service. A check begins once
its VIP is on ``lo``; the first comes after a random part of its interval, and later ones keep a
jitter, so that checks spread.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections.abc import Iterable, Mapping

import h11
import structlog

from controlplane.domain.objects import (
    Address,
    Check,
    CheckType,
    Service,
    ServiceHealth,
    is_host,
    vip_text,
)
from lb.agent.facts import SharedFacts
from lb.agent.report.rise_fall import RiseFall
from lb.agent.worker import Worker

JITTER = 0.1
"""Intervals vary by this fraction, up and down."""
ANSWER_BYTES = 1 << 14
HTTP_PORT = 80
IP_BIND_ADDRESS_NO_PORT = 24
IPV6_FREEBIND = 78
"""Of <linux/in.h> and <linux/in6.h>; not in every Python's socket module."""


async def check_once(service: Service) -> str:
    """Check a service once; return what is wrong, an empty text for success."""
    timeout = service.check.timeout_seconds
    try:
        return await asyncio.wait_for(_check(service), timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except h11.ProtocolError as error:
        return f"not HTTP: {error}"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


async def _check(service: Service) -> str:
    try:
        sock = bound_socket(service)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return f"{service.check_address} is not an address of this machine"
    with sock:
        here = str(service.check_address), service.check_port
        await asyncio.get_running_loop().sock_connect(sock, here)
        if sock.getsockname() == sock.getpeername():  # its own port was free, so nobody listens
            return "the check connected to itself: nothing listens"
        return await _http(sock, service) if service.check.type is CheckType.HTTP else ""


def bound_socket(service: Service) -> socket.socket:
    """Return a TCP socket whose source address is the address that is checked.

    No other server can answer it: the answer's destination is an address of that server, too.

    Raises:
        OSError: EADDRNOTAVAIL, this machine does not have the address.

    """
    ipv6 = service.vip.version == 6  # noqa: PLR2004 IPv6
    sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(0.0)
        # The port is chosen by connect: one of an ended check may be used again at once.
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if ipv6 and not is_host(service.vip):  # a route makes it local, no interface has it
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sock.bind((str(service.check_address), 0))
    except OSError:
        sock.close()
        raise
    return sock


async def _http(sock: socket.socket, service: Service) -> str:
    """Request the path, and compare the status; nothing else of the answer is read."""
    loop, client = asyncio.get_running_loop(), h11.Connection(h11.CLIENT)
    host = service.check.host or host_text(service.check_address, service.check_port)
    headers = [("Host", host), ("Accept", "*/*"), ("Connection", "close")]
    target = service.check.path.partition("#")[0]
    request = client.send(h11.Request(method="GET", target=target, headers=headers))
    await loop.sock_sendall(sock, request or b"")
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            status, wanted = event.status_code, service.check.expect_status
            return "" if status == wanted else f"status {status}, not {wanted}"
        if event is h11.NEED_DATA:
            data = await loop.sock_recv(sock, ANSWER_BYTES)
            if not data:
                return "the connection was closed without an HTTP answer"
            client.receive_data(data)


def host_text(address: Address, port: int | None) -> str:
    """Spell a Host header (RFC 9110, section 7.2): IPv6 in brackets, without HTTP's own port."""
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 IPv6
    return host if port == HTTP_PORT else f"{host}:{port}"


def wanted_checks(services: Iterable[Service], vips: Iterable[object]) -> dict[str, Service]:
    """Return the services to check, by name: they have a check, and their VIP is up."""
    up = frozenset(vips)
    checked = (s for s in services if s.check.type is not CheckType.NONE)
    return {s.name: s for s in checked if s.vip in up}


class Checker(Worker):
    """Runs the checks and updates the facts; a service without a verdict yet is left out."""

    def __init__(self, facts: SharedFacts, random_source: random.Random) -> None:
        super().__init__("checks")
        self._facts = facts
        self._random = random_source
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[str, tuple[Service, asyncio.Task[None]]] = {}
        self._verdicts: dict[str, RiseFall] = {}
        self._stopped = asyncio.Event()

    def follow(self, services: Mapping[str, Service]) -> None:
        """Check these services from now on; verdicts of those that stay are kept."""
        self._loop.call_soon_threadsafe(self._adjust, dict(services))

    def stop(self) -> None:
        """Request the end."""
        super().stop()
        self._loop.call_soon_threadsafe(self._stopped.set)

    def step(self) -> float:
        """Run the event loop until ``stop``."""
        self._loop.run_until_complete(self._main())
        return 0.0

    async def _main(self) -> None:
        await self._stopped.wait()
        for _, task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*(t for _, t in self._tasks.values()), return_exceptions=True)

    def _adjust(self, services: dict[str, Service]) -> None:
        for name, (service, task) in list(self._tasks.items()):
            if services.get(name) != service:
                task.cancel()
                del self._tasks[name]
                self._verdicts.pop(name, None)
        for name, service in services.items():
            if name not in self._tasks:
                self._verdicts[name] = RiseFall(service.check.rise, service.check.fall)
                task = self._loop.create_task(self._watch(service))
                task.add_done_callback(self._ended)
                self._tasks[name] = (service, task)
        self._report()

    async def _watch(self, service: Service) -> None:
        check: Check = service.check
        await asyncio.sleep(check.interval_seconds * self._random.random())
        while True:
            wrong = await check_once(service)
            before = self._verdicts[service.name]
            after = before.observe(good=not wrong, reason=wrong)
            self._verdicts[service.name] = after
            if after.healthy != before.healthy:
                self._report()
                structlog.get_logger().info(
                    "service is healthy" if after.healthy else "service is unhealthy",
                    about=service.name,
                    vip=vip_text(service.vip),
                    port=service.port,
                    reason=wrong,
                )
            jitter = 1 + JITTER * (2 * self._random.random() - 1)
            await asyncio.sleep(check.interval_seconds * jitter)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Have a bug of ours end the agent, not silently one check."""
        if not task.cancelled() and task.exception() is not None:
            self.on_death(f"{self.name}: {task.exception()!r}")

    def _report(self) -> None:
        self._facts.update(
            checks={
                name: ServiceHealth(verdict.healthy, verdict.reason)
                for name, verdict in self._verdicts.items()
                if verdict.healthy is not None
            }
        )
