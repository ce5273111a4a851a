"""Health checks of each service's listener, on the VIP, from this server itself.

One thread, one event loop, a task a service. A check begins once its VIP is on ``lo``; the first
comes after a random part of its interval, and later ones keep a jitter, so that checks spread.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Mapping

import httpx2
import structlog

from controlplane.domain.objects import Check, CheckType, Service, ServiceHealth, vip_text
from lb.agent.facts import SharedFacts
from lb.agent.report.rise_fall import RiseFall
from lb.agent.worker import Worker

JITTER = 0.1
"""Intervals vary by this fraction, up and down."""


async def check_once(client: httpx2.AsyncClient, service: Service) -> str:
    """Check a service once; return what is wrong, an empty text for success."""
    http = service.check.type is CheckType.HTTP
    attempt = _http(client, service) if http else _connect(service)
    try:
        return await asyncio.wait_for(attempt, service.check.timeout_seconds)
    except (TimeoutError, httpx2.TimeoutException):
        return f"no answer within {service.check.timeout_seconds:g} s"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return str(error) or type(error).__name__
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


async def _connect(service: Service) -> str:
    _, writer = await asyncio.open_connection(str(service.check_address), service.check_port)
    writer.close()
    return ""


async def _http(client: httpx2.AsyncClient, service: Service) -> str:
    # Not joined like a relative URL: "//name/" would lead to another host.
    path = service.check.path.partition("#")[0].encode("ascii")
    host, port = str(service.check_address), service.check_port
    url = httpx2.URL(scheme="http", host=host, port=port, raw_path=path)
    timeout = service.check.timeout_seconds
    async with client.stream("GET", url, timeout=timeout) as answer:  # the body is not read
        status, wanted = answer.status_code, service.check.expect_status
    return "" if status == wanted else f"status {status}, not {wanted}"


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
        self._client: httpx2.AsyncClient | None = None

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
        limits = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(limits=limits, trust_env=False) as client:
            self._client = client
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
        while self._client is not None:
            wrong = await check_once(self._client, service)
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
