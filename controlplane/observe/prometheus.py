"""Load from Prometheus: one PromQL expression per pool, one sample per server.

A thread of its own sends the query, so that a slow Prometheus never delays a death. A load that is
old or missing is unknown (``None``), never zero (docs/configuration.md).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.urls import split_userinfo

TIMEOUT_SECONDS = 2.0
STALE_TICKS = 3.0
"""An answer older than this many intervals is ignored."""


class QueryFailed(BrigadeError):
    """Prometheus did not answer with samples."""


@dataclass(frozen=True)
class Query:
    """URL, PromQL query, and the label with the server's name or DIP (``:port`` allowed)."""

    url: str
    query: str
    label: str


def ask(client: httpx2.Client, query: Query) -> dict[str, float]:
    """Return the samples by label value (https://prometheus.io/docs/prometheus/latest/querying/api).

    Samples that share a label value, and values that are negative or not finite, are left out.

    Raises ``QueryFailed``: no answer, an error, or a result that is not an instant vector.
    """
    url, auth = split_userinfo(query.url)
    try:
        response = client.get(
            f"{url.rstrip('/')}/api/v1/query", params={"query": query.query}, auth=auth
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise QueryFailed(f"{url}: {str(error) or type(error).__name__}") from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.get("status") != "success":
        reason = answer.get("error") if isinstance(answer, dict) else None
        raise QueryFailed(f"{url}: {reason or f'status {response.status_code}'}")
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "vector":
        raise QueryFailed(f"{url}: the query must yield an instant vector")
    return samples(data.get("result"), query.label)


def samples(result: Any, label: str) -> dict[str, float]:
    """Read an instant vector; invalid samples are skipped."""
    found: dict[str, float] = {}
    twice: set[str] = set()
    for sample in result if isinstance(result, list) else ():
        try:
            name = sample["metric"][label]
            value = float(sample["value"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        if name in found:
            twice.add(name)
        if math.isfinite(value) and value >= 0:
            found[name] = value
    return {name: value for name, value in found.items() if name not in twice}


def loads_of(found: Mapping[str, float], dips: Mapping[str, str]) -> dict[str, float | None]:
    """Match samples with servers (name -> DIP), by name or DIP, with or without ``:port``."""
    bare = {key.rsplit(":", 1)[0]: value for key, value in found.items() if ":" in key}
    known = {**bare, **found}
    return {name: known.get(name, known.get(dip)) for name, dip in dips.items()}


class PrometheusLoad:
    """Sends one query every ``interval_seconds`` until it is closed. Safe across threads."""

    def __init__(
        self,
        query: Query,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.query = query
        self._interval = interval_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: tuple[float, dict[str, float]] | None = None
        self._stop = threading.Event()
        self._log = structlog.get_logger()
        self._thread = threading.Thread(target=self._run, name="prometheus", daemon=True)
        self._thread.start()

    def loads(self, dips: Mapping[str, str]) -> dict[str, float | None]:
        """Return each server's load (name -> DIP given), ``None`` where it is unknown or old."""
        with self._lock:
            answer = self._answer
        fresh = answer and self._clock() - answer[0] <= STALE_TICKS * self._interval
        return loads_of(answer[1] if answer and fresh else {}, dips)

    def close(self) -> None:
        """End the thread without waiting for a query that is in progress.

        A Prometheus that answers very slowly would otherwise delay the loop, and with it deaths.
        """
        self._stop.set()

    def _run(self) -> None:
        with httpx2.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    found = ask(client, self.query)
                except QueryFailed as error:
                    url, _ = split_userinfo(self.query.url)
                    self._log.warning("load unknown", about=url, reason=str(error))
                else:
                    with self._lock:
                        self._answer = (self._clock(), found)
                self._stop.wait(self._interval)
