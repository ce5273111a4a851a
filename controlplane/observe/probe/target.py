"""Whom a probe asks: the service that tells the most, of those that this machine can ask. Pure.

Any VIP and port will do to find out that a machine lives: where nobody listens, a reset comes
back. A firewall on the server may swallow a SYN to a port of no TCP service, though, and IPv6 has
to reach this machine; so there is an order, ``ProbeTarget.rank``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from controlplane.domain.objects import TCP, Address, Service, is_host
from controlplane.domain.vips import VipSet

FALLBACK_PORT = 80
"""Asked where any port is served and no check says which one listens."""
IPV6 = 6

Source = Callable[[Address], Address | None]
"""Returns this machine's address towards a VIP, ``None`` if there is no way."""


@dataclass(frozen=True)
class ProbeTarget:
    """An address of a VIP and a port; of two, the one with the lower ``rank`` is asked.

    0 is TCP with a port, 4 TCP with any port whose check names one, 8 UDP with a port (a reset will
    answer), 12 any port without a check; 2 more for a prefix, which a server may have left out;
    1 more for IPv6.
    """

    pool: str
    address: Address
    port: int
    rank: int

    @property
    def text(self) -> str:
        """Address and port as people write them."""
        bracketed = f"[{self.address}]" if self.address.version == IPV6 else str(self.address)
        return f"{bracketed}:{self.port}"


Targets = Mapping[str, Sequence[ProbeTarget]]
"""Pool -> the best target of each IP version among its services."""


def target_of(service: Service) -> ProbeTarget:
    """Return where a probe would ask for a service."""
    address = service.check_address
    if service.port is not None:
        kind, port = (0 if service.protocol == TCP else 2), service.port
    elif service.check.port is not None:
        kind, port = 1, service.check.port
    else:
        kind, port = 3, FALLBACK_PORT
    rank = 4 * kind + 2 * (not is_host(service.vip)) + (address.version == IPV6)
    return ProbeTarget(service.pool, address, port, rank)


def best_targets(services: Iterable[Service]) -> Targets:
    """Return what there is to choose from; of equals, the first in the settings."""
    best: dict[str, dict[int, ProbeTarget]] = {}
    for target in map(target_of, services):
        of_pool = best.setdefault(target.pool, {})
        held = of_pool.get(target.address.version)
        if held is None or target.rank < held.rank:
            of_pool[target.address.version] = target
    return {pool: tuple(found.values()) for pool, found in best.items()}


def candidates(targets: Targets, serves: Callable[[str], bool]) -> Sequence[ProbeTarget]:
    """Return the targets in the order in which to try them: a server's own pools come first.

    Every server has every VIP, so those of other pools will do as well.
    """
    every = (target for of_pool in targets.values() for target in of_pool)
    return sorted(every, key=lambda target: (not serves(target.pool), target.rank))


def outside(vips: VipSet, source: Source) -> Source:
    """Return a source that is in none of the VIPs: servers would keep the answer to such a one."""

    def found(vip: Address) -> Address | None:
        address = source(vip)
        covered = address is not None and any(vips.covering(ip_network(address)))
        return None if covered else address

    return found


def choose(found: Iterable[ProbeTarget], source: Source) -> ProbeTarget | None:
    """Return the first target that this machine has an address towards, or ``None``."""
    return next((target for target in found if source(target.address) is not None), None)


def why_not(found: Sequence[ProbeTarget]) -> str:
    """Say why none of these could be chosen."""
    if not found:
        return "there is no service, so no VIP to probe"
    return (
        f"this machine has no IPv6 address towards {found[0].address} that is in no VIP, "
        "and no VIP is IPv4"
    )
