"""Rules between the keys of a controller's file, and between the file and a running cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.domain.bounds import DEFAULT_DEPTH, MAX_CHECKED_SERVICES
from controlplane.domain.errors import SettingsError
from controlplane.domain.lookup_capacity import find_shortage
from controlplane.domain.objects import IN_USE, endpoint_text, vip_text
from controlplane.domain.vips import Hosts

if TYPE_CHECKING:
    from controlplane.domain.objects import Cluster
    from controlplane.settings.models import ControlConfig, PoolConfig, ServiceConfig

Faults = Iterator[str]


def check(config: ControlConfig, path: Path | str) -> None:
    """Raise ``SettingsError`` with each rule broken, as ``key: what is allowed``."""
    rules: tuple[Callable[[ControlConfig], Faults], ...] = (
        _unique_names,
        _addresses,
        _known_pools,
        _pools,
        _services,
        _listen,
    )
    _raise((fault for rule in rules for fault in rule(config)), path)


def check_against(config: ControlConfig, cluster: Cluster, path: Path | str) -> None:
    """Raise ``SettingsError`` if the file changes what is fixed while it is in use.

    Bucket count, depth, hash mode and key are fixed for a pool's life (docs/adr/0003); a server's
    name belongs to one DIP until that server has left the cluster.
    """
    _raise(fixed_faults(config, cluster), path, against=config.store)


def notes(config: ControlConfig) -> Iterator[str]:
    """Yield notes on what is allowed but may surprise, as ``key: consequence``."""
    if not config.probers:
        yield "probers: none, so no server is ever declared down"
    elif not config.service:
        yield "service: none, so there is no VIP to probe and no server is ever declared down"
    elif all(isinstance(service.vip, IPv6Network) for service in config.service):
        yield (
            "service: every VIP is IPv6, so probes need an IPv6 address on the controller's "
            "machine, and on the servers a way back to it"
        )


def kept_notes(config: ControlConfig, cluster: Cluster) -> Iterator[str]:
    """Yield a note on each pool that keeps a depth below the default because none is named."""
    for number, pool in enumerate(config.pool, 1):
        known = cluster.pool(pool.name)
        if known and pool.depth is None and known.depth < DEFAULT_DEPTH:
            yield (
                f"pool[{number}].depth: {pool.name!r} keeps depth {known.depth}, a new pool gets "
                f"{DEFAULT_DEPTH}; to change it, make a new pool and move the services to it"
            )


def _raise(faults: Iterable[str], path: Path | str, against: str = "") -> None:
    found = list(faults)
    if found:
        raise SettingsError(path, found, against)


def fixed_faults(config: ControlConfig, cluster: Cluster) -> Faults:
    """Yield each change of what is fixed while it is in use, as ``key: what is allowed``."""
    if config.gue_port != cluster.gue_port and any(s.state in IN_USE for s in cluster.servers):
        yield (
            f"gue_port: must stay {cluster.gue_port} while servers are in use: they would not "
            "understand each other while it changes"
        )
    yield from _pool_changes(config, cluster)
    yield from _address_changes(config, cluster)


def _pool_changes(config: ControlConfig, cluster: Cluster) -> Faults:
    for number, pool in enumerate(config.pool, 1):
        known = cluster.pool(pool.name)
        if known is None:
            continue
        for key in ("buckets", "depth", "hash_mode"):
            old, new = getattr(known, key), getattr(pool, key)
            if new is not None and new != old:
                yield (
                    f"pool[{number}].{key}: is fixed for a pool's life, at {old} for "
                    f"{pool.name!r}; make a new pool and move the services to it"
                )


def _address_changes(config: ControlConfig, cluster: Cluster) -> Faults:
    by_dip = {known.dip: known for known in cluster.servers}
    for number, server in enumerate(config.server, 1):
        named = cluster.server(server.name)
        if named and named.dip != server.dip:
            yield (
                f"server[{number}].dip: must stay {named.dip} while {server.name!r} is in the "
                "cluster; take the server out, let it leave, then add it anew"
            )
        holder = by_dip.get(server.dip)
        if holder and holder.name != server.name:
            yield (
                f"server[{number}].dip: {server.dip} still belongs to {holder.name!r}; "
                "wait until that server has left"
            )
    yield from _covered_dips(config, {dip: repr(known.name) for dip, known in by_dip.items()})


def _covered_dips(config: ControlConfig, servers: Mapping[IPv4Address, str]) -> Faults:
    """Refuse VIPs that cover one of these DIPs (DIP -> server)."""
    dips = Hosts(servers)
    for number, service in enumerate(config.service, 1):
        if dip := dips.covered_by(service.vip):
            yield f"service[{number}].vip: must not cover a DIP, {dip} is {servers[dip]}"


def _repeated(values: Iterable[object]) -> Iterator[tuple[int, object]]:
    """Yield (number from 1, value) of each value that is repeated."""
    seen: set[object] = set()
    for number, value in enumerate(values, 1):
        if value in seen:
            yield number, value
        seen.add(value)


def _unique_names(config: ControlConfig) -> Faults:
    for table in ("server", "pool", "service"):
        for number, name in _repeated(item.name for item in getattr(config, table)):
            yield f"{table}[{number}].name: must be unique, {name!r} is used already"
    for number, dip in _repeated(server.dip for server in config.server):
        yield f"server[{number}].dip: must be unique, {dip} is used already"
    for number, address in _repeated(config.probers):
        yield f"probers[{number}]: must be unique, {address} is used already"


def _addresses(config: ControlConfig) -> Faults:
    dips = {server.dip: f"server {server.name!r}" for server in config.server}
    yield from _covered_dips(config, dips)
    probers = Hosts(config.probers)
    for number, service in enumerate(config.service, 1):
        if prober := probers.covered_by(service.vip):
            yield f"service[{number}].vip: must not cover a prober, as {prober}"
    for number, prober in enumerate(config.probers, 1):
        if prober in dips:
            yield f"probers[{number}]: must not be a DIP, {prober} is {dips[prober]}"


def _known_pools(config: ControlConfig) -> Faults:
    names = [pool.name for pool in config.pool]
    allowed = ", ".join(names)
    for number, server in enumerate(config.server, 1):
        for pool in server.pools or ():
            if pool not in names:
                yield f"server[{number}].pools: must name pools ({allowed}), not {pool!r}"
        for _, pool_twice in _repeated(server.pools or ()):
            yield f"server[{number}].pools: names {pool_twice!r} twice"
        if server.pools == ():
            yield f"server[{number}].pools: must name a pool, or be left out for all ({allowed})"
    for number, service in enumerate(config.service, 1):
        if service.pool not in names:
            yield f"service[{number}].pool: must be a pool ({allowed}), not {service.pool!r}"


def _pools(config: ControlConfig) -> Faults:
    for number, pool in enumerate(config.pool, 1):
        here = f"pool[{number}]"
        if not any(server.serves(pool.name) for server in config.server):
            yield f"{here}.name: no server serves {pool.name!r}; name it in a server's pools"
        if 0 < pool.cap < 1:
            yield f"{here}.cap: must be 0 (no bound) or at least 1, not {pool.cap:g}"
        yield from _prometheus(pool, here)


def _prometheus(pool: PoolConfig, here: str) -> Faults:
    keys = ("prometheus_url", "query", "server_label")
    for key in keys:
        given = getattr(pool, key) is not None
        if pool.load == "prometheus" and not given:
            yield f'{here}.{key}: is required with load = "prometheus"'
        if pool.load != "prometheus" and given:
            yield f'{here}.{key}: is allowed only with load = "prometheus"'


def _services(config: ControlConfig) -> Faults:
    places = [(service.vip, service.protocol, service.port) for service in config.service]
    for number, _ in _repeated(places):
        service = config.service[number - 1]
        yield (
            f"service[{number}].port: {endpoint_text(service.vip, service.port)} "
            f"{service.protocol} is a service already"
        )
    shortage = find_shortage(config.domain_services)
    if shortage:
        yield f"service: {shortage}"
    for number, service in enumerate(config.service, 1):
        yield from _service(service, f"service[{number}]")
    checked = sum(service.check.type != "none" for service in config.service)
    if checked > MAX_CHECKED_SERVICES:
        yield f"service: must have at most {MAX_CHECKED_SERVICES} with a check, not {checked}"


def _service(service: ServiceConfig, here: str) -> Faults:
    if service.stateless and service.protocol != "udp":
        yield f'{here}.stateless: is allowed only with protocol = "udp"'
    if service.check.type != "none" and service.protocol != "tcp":
        yield f'{here}.check.type: must be "none" for a udp service (UDP checks are not built yet)'
    if service.check.type != "none" and service.port is None and service.check.port is None:
        yield f'{here}.check.port: is required with port = "any": the port to check'
    asked = service.check.address
    if asked is not None and asked not in service.vip:
        yield f"{here}.check.address: must be part of the VIP {vip_text(service.vip)}, not {asked}"
    given = service.check.model_fields_set
    for key in ("path", "host", "expect_status"):
        if key in given and service.check.type != "http":
            yield f'{here}.check.{key}: is allowed only with type = "http"'


def _listen(config: ControlConfig) -> Faults:
    listen = config.listen
    if listen is None:
        return
    store = ip_address(listen.address)
    for number, service in enumerate(config.service, 1):
        if store in service.vip:
            yield f"service[{number}].vip: must not cover {store}, where agents find the store"
    if listen.certificate is None and listen.private_key is not None:
        yield "listen.certificate: is required with private_key"
    if listen.certificate is not None and listen.private_key is None:
        yield "listen.private_key: is required with certificate"
    if config.metrics.port and (config.metrics.address, config.metrics.port) == (
        listen.address,
        listen.port,
    ):
        yield "listen.port: must not be the metrics' port"
