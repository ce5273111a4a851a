"""The controller's settings, ``control.toml``: the values of each key (docs/configuration.md).

Rules between keys (a VIP that is a DIP, a pool without servers) are in
``controlplane.settings.rules``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator

from controlplane.domain import bounds, names
from controlplane.domain.names import shown
from controlplane.domain.objects import (
    ANY_PORT,
    PROTOCOLS,
    Address,
    Check,
    CheckType,
    HashMode,
    Service,
    Vip,
)
from controlplane.domain.store_url import DEFAULT_STORE, FILE_SCHEME
from controlplane.domain.vips import EXAMPLES, parse_vip
from controlplane.settings.toml import (
    URL,
    Flag,
    Ipv4,
    Name,
    Number,
    PortOrNone,
    StrictModel,
    Whole,
    text_like,
)

DEFAULT_PATH = Path("/etc/bucket-brigade/control.toml")


def _host(address: IPv4Address) -> IPv4Address:
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError(f"must be the address of a host, not {address}")
    return address


def _buckets(count: int) -> int:
    low, high = bounds.MIN_BUCKETS, bounds.MAX_BUCKETS
    if count & (count - 1) or not low <= count <= high:
        raise ValueError(f"must be a power of two from {low} to {high}, not {count}")
    return count


def _depth(depth: int) -> int:
    if not 1 <= depth <= bounds.MAX_DEPTH:
        raise ValueError(f"must be 1 (no daisy chaining) to {bounds.MAX_DEPTH}, not {depth}")
    return depth


def _port(port: int) -> int:
    if not 1 <= port <= bounds.MAX_PORT:
        raise ValueError(f"must be 1 to {bounds.MAX_PORT}, not {port}")
    return port


def _service_port(port: object) -> int | None:
    if port == ANY_PORT:
        return None
    if type(port) is not int or not 1 <= port <= bounds.MAX_PORT:
        allowed = f'must be 1 to {bounds.MAX_PORT} without quotes, or "{ANY_PORT}"'
        raise ValueError(f"{allowed}; not {shown(port)}")
    return port


def _vip(value: object) -> Vip:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be in quotes, {EXAMPLES}")  # noqa: TRY004 - pydantic's convention
    return parse_vip(value)


def _any_address(value: object) -> Address:
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        allowed = 'must be an address in quotes, as "192.0.2.1" or "2001:db8::1"'
        raise ValueError(f"{allowed}; not {shown(value)}") from None


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"must be an address of this machine, not {shown(text)}") from None


STORE = text_like(f"{FILE_SCHEME}.+", "file:DIR, a directory of the controller's machine")
LABEL = text_like(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a Prometheus label")
HOST_HEADER = text_like(names.HOST, "a name or an address, as 'www.example.com' or '[::1]:8080'")
PATH = text_like(r"/[!-~]*", "the path of a request, as '/healthz'")

ListenAddress = Annotated[str, AfterValidator(_address)]
Host = Annotated[Ipv4, AfterValidator(_host)]
Port = Annotated[Whole, AfterValidator(_port)]
ServicePort = Annotated[int | None, PlainValidator(_service_port)]
VipOrPrefix = Annotated[Vip, PlainValidator(_vip)]
Seconds = Annotated[Number, Field(gt=0, le=86400 * 365)]
CheckSeconds = Annotated[Number, Field(ge=bounds.CHECK_SECONDS[0], le=bounds.CHECK_SECONDS[1])]
CheckStatus = Annotated[Whole, Field(ge=bounds.CHECK_STATUS[0], le=bounds.CHECK_STATUS[1])]
RiseFall = Annotated[Whole, Field(ge=1, le=bounds.MAX_RISE_FALL)]


class MetricsConfig(StrictModel):
    """``[metrics]``: where the controller's own metrics are served; port 0: not at all."""

    address: ListenAddress = "127.0.0.1"
    port: PortOrNone = 9108


class ListenConfig(StrictModel):
    """``[listen]``: the ``http:`` store for agents."""

    address: ListenAddress
    port: Port
    token_file: Path
    certificate: Path | None = None
    private_key: Path | None = None


class ServerConfig(StrictModel):
    """``[[server]]``; ``pools`` ``None`` means all pools."""

    name: Name
    dip: Host
    pools: tuple[Name, ...] | None = None
    max_connections: Annotated[Whole, Field(ge=1)] | None = None

    def serves(self, pool: str) -> bool:
        """Whether this server belongs to the pool."""
        return self.pools is None or pool in self.pools


class PoolConfig(StrictModel):
    """``[[pool]]``.

    ``depth`` ``None``: a new pool gets DEFAULT_DEPTH, one that exists keeps its own. So a file that
    never named it stays valid when the default changes.
    """

    name: Name
    buckets: Annotated[Whole, AfterValidator(_buckets)] = 65536
    depth: Annotated[Whole, AfterValidator(_depth)] | None = None
    hash_mode: HashMode = "flow"
    drain_time_seconds: Seconds = 900.0
    forget_after_seconds: Seconds | None = None
    cap: Annotated[Number, Field(ge=0)] = 1.5
    min_active: Annotated[Number, Field(ge=0, le=1)] = 0.5
    balance: Literal["load", "equal"] = "load"
    balance_gain: Annotated[Number, Field(gt=0, le=1)] = 0.07
    load: Literal["agents", "prometheus"] = "agents"
    prometheus_url: Annotated[str, URL] | None = None
    query: Annotated[str, Field(min_length=1)] | None = None
    server_label: Annotated[str, LABEL] | None = None


class CheckConfig(StrictModel):
    """``[service.check]``."""

    type: CheckType = CheckType.NONE
    path: Annotated[str, PATH] = "/"
    host: Annotated[str, HOST_HEADER] | None = None
    expect_status: CheckStatus = 200
    interval_seconds: CheckSeconds = 1.0
    timeout_seconds: CheckSeconds = 1.0
    rise: RiseFall = 2
    fall: RiseFall = 3
    port: Port | None = None
    address: Annotated[Address, PlainValidator(_any_address)] | None = None

    def domain(self) -> Check:
        """Return the check as agents know it."""
        return Check(**dict(self))


class ServiceConfig(StrictModel):
    """``[[service]]``."""

    name: Name
    vip: VipOrPrefix
    protocol: Literal["tcp", "udp"]
    port: ServicePort
    pool: Name
    stateless: Flag = False
    check: CheckConfig = CheckConfig()

    def domain(self) -> Service:
        """Return the service as the ``cluster`` document has it."""
        changed = {"protocol": PROTOCOLS[self.protocol], "check": self.check.domain()}
        return Service(**{**dict(self), **changed})


class ControlConfig(StrictModel):
    """The whole file. Order of lists is kept; names and addresses are unique."""

    store: Annotated[str, STORE] = DEFAULT_STORE
    gue_port: Port = 6080
    probers: Annotated[tuple[Host, ...], Field(max_length=bounds.MAX_PROBERS)] = ()
    tick_seconds: Annotated[Number, Field(ge=0.05, le=60)] = 1.0
    silent_after_seconds: Annotated[Number, Field(ge=0.5, le=3600)] = 1.0
    probe_interval_seconds: Annotated[Number, Field(ge=0.02, le=60)] = 0.17
    probe_count: Annotated[Whole, Field(ge=1, le=100)] = 3
    silent_wait_seconds: Annotated[Number, Field(ge=0, le=86400)] = 30.0
    slow_start_seconds: Annotated[Number, Field(ge=0, le=86400)] = 30.0
    panic_threshold: Annotated[Number, Field(gt=0, le=1)] = 0.5
    log_format: Literal["console", "json"] | None = None
    metrics: MetricsConfig = MetricsConfig()
    listen: ListenConfig | None = None
    server: Annotated[tuple[ServerConfig, ...], Field(min_length=1, max_length=bounds.MAX_SERVERS)]
    pool: Annotated[tuple[PoolConfig, ...], Field(min_length=1, max_length=bounds.MAX_POOLS)]
    service: Annotated[tuple[ServiceConfig, ...], Field(max_length=bounds.MAX_SERVICES)] = ()

    @cached_property
    def domain_services(self) -> tuple[Service, ...]:
        """The services as the ``cluster`` document has them. Cached for every round."""
        return tuple(service.domain() for service in self.service)

    @cached_property
    def servers_by_name(self) -> Mapping[str, ServerConfig]:
        """The servers by name. Cached for every round."""
        return {server.name: server for server in self.server}

    def server_named(self, name: str) -> ServerConfig | None:
        """Return the server of this name, or ``None``."""
        return self.servers_by_name.get(name)

    def forget_after_seconds(self, pool: PoolConfig) -> float | None:
        """When later hops of old moves are dropped; ``None``: never (docs/adr/0005).

        A UDP packet visits the oldest hop first, so it would take the detour for ever.
        """
        if pool.forget_after_seconds is not None:
            return pool.forget_after_seconds
        detours = any(
            service.pool == pool.name and service.protocol == "udp" and not service.stateless
            for service in self.service
        )
        return pool.drain_time_seconds if detours else None
