"""The ``cluster`` document: encoding, and decoding with every contradiction refused."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from ipaddress import IPv4Address

from controlplane.envelope import (
    MAX_GENERATION,
    DocumentError,
    Fields,
    Json,
    Limits,
    check_address,
    check_name,
    check_range,
    parse_address,
    seal,
    unseal,
)
from controlplane.objects import (
    CLUSTER,
    MAX_BUCKETS,
    MAX_DEPTH,
    MAX_SERVERS,
    MAX_SERVICES,
    MIN_BUCKETS,
    TCP,
    UDP,
    Check,
    CheckType,
    Cluster,
    Pool,
    Server,
    ServerState,
    Service,
)
from controlplane.table_document import check_shape

MAX_POOLS = 256
MAX_PROBERS = 64
LIMITS = Limits(document_bytes=8 << 20, tokens=1 << 20)
HASH_MODES = frozenset({"flow"})
PROTOCOLS = {"tcp": TCP, "udp": UDP}

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
    names = {number: name for name, number in PROTOCOLS.items()}
    body: Json = {
        "gue_port": cluster.gue_port,
        "probers": [str(address) for address in sorted(cluster.probers)],
        "servers": [
            {"name": s.name, "dip": str(s.dip), "index": s.index, "state": s.state.value}
            for s in cluster.servers
        ],
        "pools": [
            {
                "name": p.name,
                "buckets": p.buckets,
                "depth": p.depth,
                "hash_mode": p.hash_mode,
                "key_id": p.key_id,
            }
            for p in cluster.pools
        ],
        "services": [
            {
                "name": s.name,
                "vip": str(s.vip),
                "protocol": names[s.protocol],
                "port": s.port,
                "pool": s.pool,
                "stateless": s.stateless,
                "check": {
                    "type": s.check.type.value,
                    "path": s.check.path,
                    "expect_status": s.check.expect_status,
                    "interval_seconds": s.check.interval_seconds,
                    "timeout_seconds": s.check.timeout_seconds,
                    "rise": s.check.rise,
                    "fall": s.check.fall,
                },
            }
            for s in cluster.services
        ],
    }
    return seal(CLUSTER, cluster.generation, body)


def decode_cluster(data: bytes) -> Cluster:
    """Read a ``cluster`` document.

    Raises:
        DocumentError: it is damaged, of a future version, contradictory, or asks for what is not
            built.

    """
    envelope = unseal(data, LIMITS)
    if envelope.kind != CLUSTER:
        raise DocumentError("wrong_kind", "it is not the cluster document")
    body = envelope.body.only(CLUSTER_KEYS)
    cluster = Cluster(
        generation=envelope.generation,
        servers=tuple(_server(f) for f in body.mappings("servers", MAX_SERVERS)),
        services=tuple(_service(f) for f in body.mappings("services", MAX_SERVICES)),
        pools=tuple(_pool(f) for f in body.mappings("pools", MAX_POOLS)),
        probers=_probers(body),
        gue_port=body.integer("gue_port", 1, 65535),
    )
    _check_cluster(cluster)
    return cluster


def _server(fields: Fields) -> Server:
    fields.only(SERVER_KEYS)
    state = fields.choice("state", ServerState, ", ".join(s.value for s in ServerState))
    return Server(
        name=fields.name("name"),
        dip=fields.address("dip"),
        index=fields.integer("index", 1, MAX_SERVERS),
        state=ServerState(state),
    )


def _pool(fields: Fields) -> Pool:
    fields.only(POOL_KEYS)
    return Pool(
        name=fields.name("name"),
        buckets=fields.integer("buckets", MIN_BUCKETS, MAX_BUCKETS),
        depth=fields.integer("depth", 1, MAX_DEPTH),
        hash_mode=fields.string("hash_mode"),
        key_id=fields.name("key_id"),
    )


def _service(fields: Fields) -> Service:
    fields.only(SERVICE_KEYS)
    protocol = fields.string("protocol")
    if protocol not in PROTOCOLS:
        raise DocumentError("out_of_range", f"{fields.where}: 'protocol' is not tcp or udp")
    port = fields.integer("port", 0, 65535)
    if port == 0:
        raise DocumentError("unsupported_any_port", f"{fields.where}: port 0 is not built yet")
    return Service(
        name=fields.name("name"),
        vip=fields.address("vip"),
        protocol=PROTOCOLS[protocol],
        port=port,
        pool=fields.name("pool"),
        stateless=fields.boolean("stateless"),
        check=_check(fields.mapping("check")),
    )


def _check(fields: Fields) -> Check:
    """Read a health check. Unknown keys are tolerated: a check sends no packet elsewhere."""
    kind = fields.choice("type", CheckType, ", ".join(t.value for t in CheckType))
    return Check(
        type=CheckType(kind),
        path=fields.string("path"),
        expect_status=fields.integer("expect_status", 100, 599),
        interval_seconds=fields.number("interval_seconds", 0.01, 3600),
        timeout_seconds=fields.number("timeout_seconds", 0.01, 3600),
        rise=fields.integer("rise", 1, 1000),
        fall=fields.integer("fall", 1, 1000),
    )


def _probers(body: Fields) -> frozenset[IPv4Address]:
    addresses = []
    for value in body.sequence("probers", MAX_PROBERS):
        if not isinstance(value, str):
            raise body.wrong("probers", "a list of addresses")
        addresses.append(parse_address("probers", value))
    _check_unique("prober", addresses)
    return frozenset(addresses)


def _check_cluster(cluster: Cluster) -> None:
    """Refuse a cluster whose parts contradict each other or ask for what is not built."""
    check_range("gue_port", cluster.gue_port, 1, 65535)
    check_range("generation", cluster.generation, 1, MAX_GENERATION)
    for prober in cluster.probers:
        check_address("prober", prober)
    for server in cluster.servers:
        check_name("server", server.name)
        check_address(f"server {server.name}", server.dip)
        check_range(f"server {server.name}: index", server.index, 1, MAX_SERVERS)
    _check_unique("server name", (s.name for s in cluster.servers))
    _check_unique("DIP", (s.dip for s in cluster.servers))
    _check_unique("server index", (s.index for s in cluster.servers))
    _check_unique("pool name", (p.name for p in cluster.pools))
    _check_unique("service name", (s.name for s in cluster.services))
    _check_unique("service", ((str(s.vip), s.protocol, s.port) for s in cluster.services))
    for pool in cluster.pools:
        _check_pool(pool)
    pools = {pool.name for pool in cluster.pools}
    dips = {server.dip for server in cluster.servers}
    for service in cluster.services:
        _check_service(service, pools, dips)


def _check_pool(pool: Pool) -> None:
    where = f"pool {pool.name}"
    check_name("pool", pool.name)
    check_name(f"{where}: key id", pool.key_id)
    check_shape(where, pool.buckets, pool.depth)
    if pool.hash_mode not in HASH_MODES:
        raise DocumentError("unsupported_hash_mode", f"{where}: only the hash mode 'flow' is built")


def _check_service(service: Service, pools: set[str], dips: set[IPv4Address]) -> None:
    check_name("service", service.name)
    where = f"service {service.name}"
    check_address(where, service.vip)
    check_range(f"{where}: port", service.port, 1, 65535)
    if service.protocol not in PROTOCOLS.values():
        raise DocumentError("out_of_range", f"{where}: protocol {service.protocol}")
    if service.pool not in pools:
        raise DocumentError("unknown_pool", f"{where}: there is no pool {service.pool}")
    if service.vip in dips:
        raise DocumentError("vip_covers_dip", f"{where}: {service.vip} is also a server's DIP")
    if service.stateless and service.protocol != UDP:
        raise DocumentError("contradiction", f"{where}: only a UDP service can be stateless")
    path = service.check.path
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise DocumentError("contradiction", f"{where}: the check's path is no path of a URL")


def _check_unique(what: str, values: Iterable[Hashable]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise DocumentError("duplicate", f"two of {what} {value}")
        seen.add(value)
