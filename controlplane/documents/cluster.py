"""Encoding and decoding the ``cluster`` document. Contradictions are refused."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from ipaddress import IPv4Address, ip_address
from typing import cast, get_args

from controlplane.documents.envelope import Limits, seal, unseal
from controlplane.documents.fields import (
    DocumentError,
    Fields,
    Json,
    check_address,
    check_name,
    check_range,
    parse_address,
)
from controlplane.documents.table import check_shape
from controlplane.domain import bounds
from controlplane.domain.names import shown
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
from controlplane.domain.vips import (
    MAX_IPV6_LENGTHS,
    BadVip,
    Hosts,
    check_vip,
    ipv6_lengths,
    parse_vip,
)

LIMITS = Limits(document_bytes=8 << 20, tokens=1 << 20)
HASH_MODES = frozenset(get_args(HashMode))

CLUSTER_KEYS = frozenset({"servers", "services", "pools", "probers", "gue_port"})
SERVER_KEYS = frozenset({"name", "dip", "index", "state"})
SERVICE_KEYS = frozenset({"name", "vip", "protocol", "port", "pool", "stateless", "check"})
POOL_KEYS = frozenset({"name", "buckets", "depth", "hash_mode", "key_id"})


def encode_cluster(cluster: Cluster) -> bytes:
    """Return the ``cluster`` document.

    Raises:
        DocumentError: agents would refuse it.

    """
    _check_cluster(cluster)
    body: Json = {
        "gue_port": cluster.gue_port,
        "probers": [str(address) for address in sorted(cluster.probers)],
        "servers": [
            {"name": s.name, "dip": str(s.dip), "index": s.index, "state": s.state.value}
            for s in cluster.servers
        ],
        "pools": [{key: getattr(pool, key) for key in sorted(POOL_KEYS)} for pool in cluster.pools],
        "services": [_service_body(service) for service in cluster.services],
    }
    return seal(CLUSTER, cluster.generation, body)


def _service_body(s: Service) -> Json:
    return {
        "name": s.name,
        "vip": vip_text(s.vip),
        "protocol": protocol_text(s.protocol),
        "port": ANY_PORT if s.port is None else s.port,
        "pool": s.pool,
        "stateless": s.stateless,
        "check": _check_body(s.check),
    }


def _check_body(check: Check) -> Json:
    """Return a check. What is not set is left out, as in documents of earlier versions."""
    body: dict[str, object] = {
        "type": check.type.value,
        "path": check.path,
        "expect_status": check.expect_status,
        "interval_seconds": check.interval_seconds,
        "timeout_seconds": check.timeout_seconds,
        "rise": check.rise,
        "fall": check.fall,
    }
    if check.port is not None:
        body["port"] = check.port
    if check.address is not None:
        body["address"] = str(check.address)
    return body


def decode_cluster(data: bytes) -> Cluster:
    """Read a ``cluster`` document.

    Raises:
        DocumentError: it is damaged, of a future version, contradictory or not supported.

    """
    envelope = unseal(data, LIMITS)
    if envelope.kind != CLUSTER:
        raise DocumentError("wrong_kind", "it is not the cluster document")
    body = envelope.body.only(CLUSTER_KEYS)
    cluster = Cluster(
        generation=envelope.generation,
        servers=tuple(_server(f) for f in body.mappings("servers", bounds.MAX_SERVERS)),
        services=tuple(_service(f) for f in body.mappings("services", bounds.MAX_SERVICES)),
        pools=tuple(_pool(f) for f in body.mappings("pools", bounds.MAX_POOLS)),
        probers=_probers(body),
        gue_port=body.integer("gue_port", 1, bounds.MAX_PORT),
    )
    _check_cluster(cluster)
    return cluster


def _server(fields: Fields) -> Server:
    fields.only(SERVER_KEYS)
    state = fields.choice("state", ServerState, ", ".join(ServerState))
    return Server(
        name=fields.name("name"),
        dip=fields.address("dip"),
        index=fields.integer("index", 1, bounds.MAX_SERVERS),
        state=state,
    )


def _pool(fields: Fields) -> Pool:
    fields.only(POOL_KEYS)
    return Pool(
        name=fields.name("name"),
        buckets=fields.integer("buckets", bounds.MIN_BUCKETS, bounds.MAX_BUCKETS),
        depth=fields.integer("depth", 1, bounds.MAX_DEPTH),
        hash_mode=cast("HashMode", fields.string("hash_mode")),  # _check_pool refuses others
        key_id=fields.name("key_id"),
    )


def _service(fields: Fields) -> Service:
    fields.only(SERVICE_KEYS)
    protocol = fields.string("protocol")
    if protocol not in PROTOCOLS:
        raise DocumentError("out_of_range", f"{fields.where}: 'protocol' is not tcp or udp")
    return Service(
        name=fields.name("name"),
        vip=_vip(fields),
        protocol=PROTOCOLS[protocol],
        port=None if fields.get("port") == ANY_PORT else fields.integer("port", 1, bounds.MAX_PORT),
        pool=fields.name("pool"),
        stateless=fields.boolean("stateless"),
        check=_check(fields.mapping("check")),
    )


def _vip(fields: Fields) -> Vip:
    try:
        return parse_vip(fields.string("vip"))
    except BadVip as error:
        raise DocumentError(error.reason, f"{fields.where}: 'vip' {error}") from error


def _check(fields: Fields) -> Check:
    """Read a health check. Unknown keys are tolerated: a check sends no packet elsewhere."""
    has_port = fields.values.get("port") is not None
    has_address = fields.values.get("address") is not None
    kind = fields.choice("type", CheckType, ", ".join(CheckType))
    return Check(
        type=kind,
        path=fields.string("path"),
        expect_status=fields.integer("expect_status", *bounds.CHECK_STATUS),
        interval_seconds=fields.number("interval_seconds", *bounds.CHECK_SECONDS),
        timeout_seconds=fields.number("timeout_seconds", *bounds.CHECK_SECONDS),
        rise=fields.integer("rise", 1, bounds.MAX_RISE_FALL),
        fall=fields.integer("fall", 1, bounds.MAX_RISE_FALL),
        port=fields.integer("port", 1, bounds.MAX_PORT) if has_port else None,
        address=_check_address(fields) if has_address else None,
    )


def _check_address(fields: Fields) -> Address:
    text = fields.string("address")
    try:
        return ip_address(text)
    except ValueError as error:
        raise DocumentError(
            "bad_address", f"{fields.where}: {shown(text)} is not an address"
        ) from error


def _probers(body: Fields) -> frozenset[IPv4Address]:
    addresses = []
    for value in body.sequence("probers", bounds.MAX_PROBERS):
        if not isinstance(value, str):
            raise body.wrong("probers", "a list of addresses")
        addresses.append(parse_address("probers", value))
    _check_unique("prober", addresses)
    return frozenset(addresses)


def _check_cluster(cluster: Cluster) -> None:
    """Refuse a cluster whose parts contradict each other or are not supported."""
    check_range("gue_port", cluster.gue_port, 1, bounds.MAX_PORT)
    check_range("generation", cluster.generation, 1, bounds.MAX_GENERATION)
    for prober in cluster.probers:
        check_address("prober", prober)
    for server in cluster.servers:
        check_name("server", server.name)
        check_address(f"server {server.name}", server.dip)
        check_range(f"server {server.name}: index", server.index, 1, bounds.MAX_SERVERS)
    _check_unique("server name", (s.name for s in cluster.servers))
    _check_unique("DIP", (s.dip for s in cluster.servers))
    _check_unique("server index", (s.index for s in cluster.servers))
    _check_unique("pool name", (p.name for p in cluster.pools))
    _check_unique("service name", (s.name for s in cluster.services))
    _check_unique("service", ((endpoint_text(s.vip, s.port), s.protocol) for s in cluster.services))
    for pool in cluster.pools:
        _check_pool(pool)
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


def _check_pool(pool: Pool) -> None:
    where = f"pool {pool.name}"
    check_name("pool", pool.name)
    check_name(f"{where}: key id", pool.key_id)
    check_shape(where, pool.buckets, pool.depth)
    if pool.hash_mode not in HASH_MODES:
        raise DocumentError("out_of_range", f"{where}: the hash mode is neither flow nor client")


def _check_service(service: Service, pools: set[str]) -> None:
    check_name("service", service.name)
    where = f"service {service.name}"
    try:
        check_vip(service.vip)
    except BadVip as error:
        raise DocumentError(error.reason, f"{where}: the VIP {error}") from error
    if service.port is not None:
        check_range(f"{where}: port", service.port, 1, bounds.MAX_PORT)
    if service.protocol not in PROTOCOLS.values():
        raise DocumentError("out_of_range", f"{where}: protocol {service.protocol}")
    if service.pool not in pools:
        raise DocumentError("unknown_pool", f"{where}: pool {service.pool} does not exist")
    if service.stateless and service.protocol != UDP:
        raise DocumentError("contradiction", f"{where}: only a UDP service can be stateless")
    _check_check(service, where)


def _check_check(service: Service, where: str) -> None:
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


def _check_unique(what: str, values: Iterable[Hashable]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise DocumentError("duplicate", f"two of {what} {value}")
        seen.add(value)
