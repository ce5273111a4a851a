"""Encoding and decoding the ``cluster`` document. Contradictions are refused."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from ipaddress import IPv4Address, ip_address
from typing import get_args

from controlplane.documents.envelope import seal, unseal
from controlplane.documents.fields import (
    DocumentError,
    Fields,
    Json,
    Reader,
    check_range,
    choice,
    integer,
    number,
    optional,
    parse_address,
)
from controlplane.documents.table import check_shape
from controlplane.domain import bounds
from controlplane.domain.names import is_host_header, shown
from controlplane.domain.objects import (
    ANY_PORT,
    CLUSTER,
    PROTOCOLS,
    UDP,
    Address,
    Check,
    CheckType,
    Cluster,
    HashMode,
    Pool,
    Server,
    ServerState,
    Service,
    Vip,
    endpoint_text,
    protocol_text,
    vip_text,
)
from controlplane.domain.vips import MAX_IPV6_LENGTHS, BadVip, Hosts, ipv6_lengths, parse_vip

MAX_BYTES, MAX_TOKENS = 8 << 20, 1 << 20


def encode_cluster(cluster: Cluster) -> bytes:
    """Return the ``cluster`` document. Raises ``DocumentError`` if agents would refuse it."""
    body: Json = {
        "gue_port": cluster.gue_port,
        "probers": [str(address) for address in sorted(cluster.probers)],
        "servers": [{**vars(server), "dip": str(server.dip)} for server in cluster.servers],
        "pools": [vars(pool) for pool in cluster.pools],
        "services": [_service_body(service) for service in cluster.services],
    }
    _read_cluster(cluster.generation, Fields("document.body", body))
    return seal(CLUSTER, cluster.generation, body)


def _service_body(s: Service) -> Json:
    return {
        **vars(s),
        "vip": vip_text(s.vip),
        "protocol": protocol_text(s.protocol),
        "port": ANY_PORT if s.port is None else s.port,
        "check": _check_body(s.check),
    }


def _check_body(check: Check) -> Json:
    """Return a check. What is not set is left out, as in documents of earlier versions."""
    given = {key: value for key, value in vars(check).items() if value is not None}
    return given if check.address is None else {**given, "address": str(check.address)}


def decode_cluster(data: bytes) -> Cluster:
    """Read a ``cluster`` document.

    Raises ``DocumentError``: it is damaged, of a future version, contradictory or not supported.
    """
    kind, generation, body = unseal(data, MAX_BYTES, MAX_TOKENS)
    if kind != CLUSTER:
        raise DocumentError("wrong_kind", "it is not the cluster document")
    return _read_cluster(generation, body)


def _read_cluster(generation: int, body: Fields) -> Cluster:
    check_range("generation", generation, 1, bounds.MAX_GENERATION)
    cluster = Cluster(generation=generation, **body.only(CLUSTER_BODY).read(CLUSTER_BODY))
    _check_cluster(cluster)
    return cluster


def _probers(body: Fields, key: str) -> frozenset[IPv4Address]:
    addresses = []
    for value in body.sequence(key, bounds.MAX_PROBERS):
        if not isinstance(value, str):
            raise body.wrong(key, "a list of addresses")
        addresses.append(parse_address(key, value))
    _check_unique("prober", addresses)
    return frozenset(addresses)


def _service_port(fields: Fields, key: str) -> int | None:
    port = fields.values.get(key)
    return None if port == ANY_PORT else fields.integer(key, 1, bounds.MAX_PORT)


def _vip(fields: Fields, key: str) -> Vip:
    try:
        return parse_vip(fields.string(key))
    except BadVip as error:
        raise DocumentError(error.reason, f"{fields.where}: {key!r} {error}") from error


def _check(fields: Fields, key: str) -> Check:
    """Read a health check. Unknown keys are tolerated: a check sends no packet elsewhere."""
    return Check(**fields.mapping(key).read(CHECK))


def _check_address(fields: Fields, key: str) -> Address:
    text = fields.string(key)
    try:
        return ip_address(text)
    except ValueError as error:
        raise DocumentError(
            "bad_address", f"{fields.where}: {shown(text)} is not an address"
        ) from error


SERVER: Mapping[str, Reader] = {
    "name": Fields.name,
    "dip": Fields.address,
    "index": integer(1, bounds.MAX_SERVERS),
    "state": choice({state: state for state in ServerState}),
}
POOL: Mapping[str, Reader] = {
    "name": Fields.name,
    "buckets": integer(bounds.MIN_BUCKETS, bounds.MAX_BUCKETS),
    "depth": integer(1, bounds.MAX_DEPTH),
    "hash_mode": choice({mode: mode for mode in get_args(HashMode)}),
    "key_id": Fields.name,
}
SERVICE: Mapping[str, Reader] = {
    "name": Fields.name,
    "vip": _vip,
    "protocol": choice(PROTOCOLS),
    "port": _service_port,
    "pool": Fields.name,
    "stateless": Fields.boolean,
    "check": _check,
}
CHECK: Mapping[str, Reader] = {
    "type": choice({kind: kind for kind in CheckType}),
    "path": Fields.string,
    "expect_status": integer(*bounds.CHECK_STATUS),
    "interval_seconds": number(*bounds.CHECK_SECONDS),
    "timeout_seconds": number(*bounds.CHECK_SECONDS),
    "rise": integer(1, bounds.MAX_RISE_FALL),
    "fall": integer(1, bounds.MAX_RISE_FALL),
    "port": optional(integer(1, bounds.MAX_PORT)),
    "address": optional(_check_address),
    "host": optional(Fields.string),
}


def _list_of(make: Callable[..., object], readers: Mapping[str, Reader], most: int) -> Reader:
    def read(body: Fields, key: str) -> tuple[object, ...]:
        entries = body.mappings(key, most)
        return tuple(make(**fields.only(readers).read(readers)) for fields in entries)

    return read


CLUSTER_BODY: Mapping[str, Reader] = {
    "gue_port": integer(1, bounds.MAX_PORT),
    "probers": _probers,
    "servers": _list_of(Server, SERVER, bounds.MAX_SERVERS),
    "pools": _list_of(Pool, POOL, bounds.MAX_POOLS),
    "services": _list_of(Service, SERVICE, bounds.MAX_SERVICES),
}


def _check_cluster(cluster: Cluster) -> None:
    """Refuse a cluster whose parts contradict each other or are not supported."""
    _check_unique("server name", (s.name for s in cluster.servers))
    _check_unique("DIP", (s.dip for s in cluster.servers))
    _check_unique("server index", (s.index for s in cluster.servers))
    _check_unique("pool name", (p.name for p in cluster.pools))
    _check_unique("service name", (s.name for s in cluster.services))
    _check_unique("service", ((endpoint_text(s.vip, s.port), s.protocol) for s in cluster.services))
    for pool in cluster.pools:
        check_shape(f"pool {pool.name}", pool.buckets, pool.depth)
    pools = {pool.name for pool in cluster.pools}
    for service in cluster.services:
        _check_service(service, pools)
    _check_vips(cluster)


def _check_vips(cluster: Cluster) -> None:
    dips, probers = Hosts(server.dip for server in cluster.servers), Hosts(cluster.probers)
    for service in cluster.services:
        where, vip = f"service {service.name}", vip_text(service.vip)
        dip, prober = dips.covered_by(service.vip), probers.covered_by(service.vip)
        if dip:
            raise DocumentError("vip_covers_dip", f"{where}: {vip} covers the DIP {dip}")
        if prober:
            raise DocumentError("vip_covers_prober", f"{where}: {vip} covers the prober {prober}")
    lengths = sorted(ipv6_lengths(service.vip for service in cluster.services))
    if len(lengths) > MAX_IPV6_LENGTHS:
        raise DocumentError(
            "too_many_lengths",
            f"{len(lengths)} lengths of IPv6 prefixes, at most {MAX_IPV6_LENGTHS} are looked up",
        )


def _check_service(service: Service, pools: set[str]) -> None:
    where = f"service {service.name}"
    if service.pool not in pools:
        raise DocumentError("unknown_pool", f"{where}: pool {service.pool} does not exist")
    if service.stateless and service.protocol != UDP:
        raise DocumentError("contradiction", f"{where}: only a UDP service can be stateless")
    if service.check.type is not CheckType.NONE and service.check_port is None:
        raise DocumentError(
            "contradiction", f"{where}: a check of a service with any port needs a port"
        )
    if service.check_address not in service.vip:
        raise DocumentError(
            "contradiction",
            f"{where}: the check's address {service.check_address} is outside the VIP",
        )
    path = service.check.path
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise DocumentError("contradiction", f"{where}: the check's path is not the path of a URL")
    host = service.check.host
    if host is not None and not is_host_header(host):
        raise DocumentError("contradiction", f"{where}: the check's host is not a Host header")


def _check_unique(what: str, values: Iterable[Hashable]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise DocumentError("duplicate", f"two of {what} {value}")
        seen.add(value)
