"""Where each pool's load comes from: agents' reports, or Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.decide.views import FleetView
from controlplane.observe.prometheus import PrometheusLoad, Query
from controlplane.settings.models import ControlConfig, PoolConfig


class LoadSources:
    """Owns the threads that query Prometheus: ``configure`` starts and ends them.

    A load is busy time over capacity, 1.0 for all of it (or whatever the pool's query yields:
    loads are only compared with each other); ``None`` is unknown.
    """

    def __init__(self) -> None:
        self._queries: dict[str, PrometheusLoad] = {}
        self._interval = 0.0

    def configure(self, config: ControlConfig) -> None:
        """Run the queries of these settings, and no others."""
        wanted = {pool.name: query for pool in config.pool if (query := query_of(pool))}
        for name, source in list(self._queries.items()):
            if wanted.get(name) != source.query or self._interval != config.tick_seconds:
                self._queries.pop(name).close()
        self._interval = config.tick_seconds
        for name, query in wanted.items():
            if name not in self._queries:
                self._queries[name] = PrometheusLoad(query, config.tick_seconds)

    def loads(
        self, pool: str, dips: Mapping[str, str], fleet: FleetView
    ) -> dict[str, float | None]:
        """Return the load of each server (name -> DIP given)."""
        source = self._queries.get(pool)
        return source.loads(dips) if source else reported_loads(dips, fleet)

    def close(self) -> None:
        """End every thread."""
        for source in self._queries.values():
            source.close()
        self._queries.clear()


def query_of(pool: PoolConfig) -> Query | None:
    """Return a pool's Prometheus query, ``None`` if its agents report its load."""
    if pool.load != "prometheus":
        return None
    if pool.prometheus_url is None or pool.query is None or pool.server_label is None:
        return None  # such settings are refused when they are read
    return Query(pool.prometheus_url, pool.query, pool.server_label)


def reported_loads(names: Mapping[str, object], fleet: FleetView) -> dict[str, float | None]:
    """Return the loads in the agents' reports, ``None`` for a silent agent: its report is old."""
    return {name: fleet.reports[name].load if fleet.servers[name].heard else None for name in names}
