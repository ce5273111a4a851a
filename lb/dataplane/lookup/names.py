"""`struct lb_service_name`: which service has an index, for people and tools."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.rows import service_flags
from lb.dataplane.objects import ServiceEntry

IPV4 = 4
ANY_PORT_LAST = 1 << 16


def name_record(service: ServiceEntry, pool: int) -> NDArray[Any]:
    """Return a service as the state holds it."""
    packed = service.vip.network_address.packed.ljust(16, b"\0")
    record = np.zeros((), dtype=abi.SERVICE_NAME)
    record["addr"] = np.frombuffer(packed, dtype=np.uint8)
    record["version"] = service.vip.version
    record["length"] = service.vip.prefixlen
    record["port"] = service.port or 0
    record["protocol"] = service.protocol
    record["any_port"] = service.port is None
    record["pool"] = pool
    record["flags"] = service_flags(service)
    return record


def read_name(record: Any, pools: Sequence[str]) -> ServiceEntry:
    """Return the service of a record that is in use; `pools` are the names by number."""
    packed, length = record["addr"].tobytes(), int(record["length"])
    flags = int(record["flags"])
    return ServiceEntry(
        vip=IPv4Network((packed[:4], length))
        if int(record["version"]) == IPV4
        else IPv6Network((packed, length)),
        protocol=int(record["protocol"]),
        port=None if record["any_port"] else int(record["port"]),
        pool=pools[int(record["pool"])],
        stateless=bool(flags & abi.SERVICE_STATELESS),
        by_client=bool(flags & abi.SERVICE_BY_CLIENT),
    )


def sort_key(service: ServiceEntry) -> tuple[int, int, int, int, int]:
    """By IP version, VIP, protocol and port; any port last."""
    vip = service.vip
    port = ANY_PORT_LAST if service.port is None else service.port
    return vip.version, int(vip.network_address), vip.prefixlen, service.protocol, port
