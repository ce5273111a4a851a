"""Where each pool's load comes from: agents' reports, or Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.observe.observer import Sight
from controlplane.observe.prometheus import PrometheusLoad, Query
from controlplane.settings.models import ControlConfig, PoolConfig


class LoadSources:
    """Owns the threads that ask Prometheus. ``configure`` starts and ends them, ``close`` ends all.

    A load is busy time over capacity, 1.0 for all of it (or whatever the pool's query yields:
    loads are only compared with each other); ``None`` is unknown.
    """

    def __init__(self) -> None:
        self._askers: dict[str, PrometheusLoad] = {}
        self._interval = 0.0

    def configure(self, config: ControlConfig) -> None:
        """Ask what these settings say, and nothing else."""
        wanted = {pool.name: query for pool in config.pool if (query := query_of(pool))}
        for name, asker in list(self._askers.items()):
            if wanted.get(name) != asker.query or self._interval != config.tick_seconds:
                self._askers.pop(name).close()
        self._interval = config.tick_seconds
        for name, query in wanted.items():
            if name not in self._askers:
                self._askers[name] = PrometheusLoad(query, config.tick_seconds)

    def loads(self, pool: str, dips: Mapping[str, str], sight: Sight) -> dict[str, float | None]:
        """Return the load of each server (name -> DIP given)."""
        asker = self._askers.get(pool)
        return asker.loads(dips) if asker else reported_loads(dips, sight)

    def close(self) -> None:
        """End every thread."""
        for asker in self._askers.values():
            asker.close()
        self._askers.clear()


def query_of(pool: PoolConfig) -> Query | None:
    """Return what to ask Prometheus for a pool, ``None`` if its agents report its load."""
    if pool.load != "prometheus":
        return None
    if pool.prometheus_url is None or pool.query is None or pool.server_label is None:
        return None  # such settings are refused when they are read
    return Query(pool.prometheus_url, pool.query, pool.server_label)


def reported_loads(names: Mapping[str, object], sight: Sight) -> dict[str, float | None]:
    """Return what agents that speak report; a silent one's last word is old."""
    return {name: sight.reports[name].load if sight.views[name].heard else None for name in names}
