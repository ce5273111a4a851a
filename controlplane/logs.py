"""Structured logs on standard error: JSON for machines, lines for people, never a secret.

A command calls ``configure`` once; other modules use ``structlog.get_logger()``. Events are short
phrases ("store unreachable"), what varies goes into keys. The same event at the same level passes
at most ``limit`` times per period; the first one of a later period carries how many were
suppressed. So a loop may log the same error in every round. Lines with ``every_time=True`` always
pass: use it for the result of something that a person has just done.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HEAD = ("timestamp", "level", "event", "about")
DEFAULT_LIMIT = 5
DEFAULT_PERIOD_SECONDS = 60.0
MAX_EVENTS = 1024
EVERY_TIME = "every_time"
SECRET_WORDS = ("token", "secret", "password", "authorization", "private_key")
SECRET_NAMES = frozenset({"key", "key_bytes"})


class RateLimiter:
    """A structlog processor: one event passes at most ``limit`` times in ``period_seconds``.

    Events are the same if level, event text and the value of ``about`` are (bind ``about`` where
    one event is logged for several things). ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        period_seconds: float = DEFAULT_PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._period = period_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str, str], tuple[float, int]] = {}

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Pass the event on, with how many like it were ``suppressed``; too many: ``DropEvent``."""
        if event.pop(EVERY_TIME, False):
            return event
        name = (method, str(event.get("event")), str(event.get("about", "")))
        now = self._clock()
        with self._lock:
            started, seen = self._windows.get(name, (now, 0))
            suppressed = 0
            if now - started >= self._period:
                suppressed = max(0, seen - self._limit)
                started, seen = now, 0
            if name not in self._windows and len(self._windows) >= MAX_EVENTS:
                self._windows.clear()
            self._windows[name] = (started, seen + 1)
        if seen >= self._limit:
            raise structlog.DropEvent
        if suppressed:
            event["suppressed"] = suppressed
        return event


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what must never be logged: values of secret names, and all raw bytes."""
    for name, value in event.items():
        if isinstance(value, bytes | bytearray):
            event[name] = f"[{len(value)} bytes]"
        elif name in SECRET_NAMES or any(word in name.lower() for word in SECRET_WORDS):
            event[name] = "[hidden]"
    return event


def head_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the most important keys first, and leave out empty values."""
    head = {name: event[name] for name in HEAD if name in event}
    return {**head, **{n: v for n, v in event.items() if n not in head and not _is_empty(v)}}


def _is_empty(value: object) -> bool:
    return isinstance(value, str) and not value


def own_stream() -> TextIO:
    """Return standard error under a descriptor of its own.

    For processes that redirect descriptor 2 for a while: we redirect it while bcc compiles.
    """
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, encoding="utf-8")


def _shared(limiter: RateLimiter) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        limiter,
        hide_secrets,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        head_first,
    ]


def configure(
    log_format: str | None = None,
    *,
    level: str = "info",
    stream: TextIO | None = None,
    limiter: RateLimiter | None = None,
) -> None:
    """Send all logs of this process, other libraries' warnings included, to standard error.

    ``log_format`` is ``console``, ``json``, or ``None``: console on a terminal, else JSON.
    """
    target = stream or sys.stderr
    console = log_format == "console" or (log_format is None and target.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty())
        if console
        else structlog.processors.JSONRenderer(default=str)
    )
    shared = _shared(limiter or RateLimiter())
    number = logging.getLevelName(level.upper())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:2], *shared[3:]],  # the handler cannot drop events
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
