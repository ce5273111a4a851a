"""The path of a flow's packet, and the verdict of this server, as in docs/wire.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import TypeVar

from controlplane.domain.bounds import MAX_PORT
from controlplane.domain.errors import UsageError
from controlplane.domain.objects import PROTOCOLS, TCP, UDP, Cluster, Server, Service, Table
from controlplane.domain.service_rows import Bound
from lb.flow_hash import Address, Flow, bucket_of, siphash, source_port_of

ENDPOINT = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})")
AnyService = TypeVar("AnyService", bound=Bound)


@dataclass(frozen=True)
class Answer:
    """The path of a flow, and the verdict of its first packet."""

    flow: Flow
    verdict: str
    service: Service | None = None
    flow_hash: int | None = None
    bucket: int | None = None
    source_port: int | None = None
    chain: tuple[Server | int, ...] = ()
    visits: tuple[Server | int, ...] = ()


def parse_endpoint(text: str) -> tuple[Address, int]:
    """Parse ``198.51.100.7:40000`` or ``[2001:db8::7]:40000``. Raises ``UsageError``."""
    match = ENDPOINT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        address, port = ip_address(match[1] or match[2]), int(match[3])
        if port > MAX_PORT or (match[1] is None) != isinstance(address, IPv4Address):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is not ADDRESS:PORT, like 198.51.100.7:40000 or [2001:db8::7]:40000"
        ) from None
    return address, port


def parse_flow(protocol: str, source: str, destination: str) -> Flow:
    """Parse the three words of a flow. Raises ``UsageError``."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"{protocol!r} is not a supported protocol: use tcp or udp")
    from_address, from_port = parse_endpoint(source)
    to_address, to_port = parse_endpoint(destination)
    if from_address.version != to_address.version:
        raise UsageError(f"{source} and {destination} have different IP versions")
    return Flow(from_address, from_port, to_address, to_port, PROTOCOLS[protocol])


def most_specific(services: Iterable[AnyService], flow: Flow) -> AnyService | None:
    """Return the service that matches a flow: longest prefix, then its port before any port."""
    matching = (
        service
        for service in services
        if service.protocol == flow.protocol
        and service.port in {None, flow.destination_port}
        and flow.destination in service.vip
    )
    return max(
        matching, key=lambda found: (found.vip.prefixlen, found.port is not None), default=None
    )


def visiting_order(chain: tuple[int, ...], service: Service) -> tuple[int, ...]:
    """Return a chain's servers in the order in which a packet visits them (wire.md, section 3)."""
    if service.protocol == TCP:
        return chain
    return chain[:1] if service.stateless else tuple(reversed(chain))


def where(
    flow: Flow,
    cluster: Cluster,
    tables: Mapping[str, Table],
    keys: Mapping[str, bytes],
    own: IPv4Address,
) -> Answer:
    """Return the path of a flow's first packet from the server with the DIP ``own``.

    The packet is assumed to be unfragmented, to fit the link and to have no IP options.
    """
    if flow.source == own and flow.protocol == UDP and flow.destination_port == cluster.gue_port:
        return Answer(flow, "drop_spoofed")
    service = most_specific(cluster.services, flow)
    if service is None:
        return Answer(flow, "pass_no_service")
    pool, table = cluster.pool(service.pool), tables.get(service.pool)
    key = keys.get(pool.key_id) if pool else None
    if table is None or key is None:
        return Answer(flow, "drop_no_table", service)
    by_client = pool is not None and pool.hash_mode == "client"
    flow_hash = siphash(key, flow.client_hash_input if by_client else flow.hash_input)
    bucket = bucket_of(flow_hash, table.buckets)
    slots = tuple(int(index) for index in table.chains[bucket])
    chain = slots[: slots.index(0)] if 0 in slots else slots
    visits = visiting_order(chain, service)
    known: dict[int, Server] = {server.index: server for server in cluster.servers}
    return Answer(
        flow=flow,
        verdict=_verdict(visits, known, own),
        service=service,
        flow_hash=flow_hash,
        bucket=bucket,
        source_port=source_port_of(flow_hash),
        chain=tuple(known.get(index, index) for index in chain),
        visits=tuple(known.get(index, index) for index in visits),
    )


def _verdict(visits: tuple[int, ...], known: Mapping[int, Server], own: IPv4Address) -> str:
    if not visits:
        return "drop_no_bucket"
    if any(index not in known for index in visits):
        return "drop_no_dip"
    here, more = known[visits[0]].dip == own, len(visits) > 1
    if here:
        return "pass_to_self" if more else "pass_local"
    return "tx_forward_chain" if more else "tx_forward"
