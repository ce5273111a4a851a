"""Which VIP and port a probe is sent to. Pure.

Any VIP and port shows that a machine runs: where nothing listens, a reset comes back. But a
firewall on the server may drop a SYN to a port that is not a TCP service's, and a probe of an IPv6
VIP needs IPv6 on this machine. So targets have an order, ``ProbeTarget.rank``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from controlplane.domain.objects import TCP, Address, CheckType, Service, is_host
from controlplane.domain.vips import VipPrefixes

FALLBACK_PORT = 80
"""For services with any port and no check that names one."""
IPV6 = 6
MOST_CHECKED = 8
"""Services of a pool that a silent server's probes take turns with."""

Source = Callable[[Address], Address | None]
"""Returns this machine's source address for a VIP, ``None`` without a route to it."""


@dataclass(frozen=True)
class ProbeTarget:
    """An address of a VIP and a port; the target with the lowest ``rank`` is probed.

    0 is TCP with a port, 4 TCP with any port whose check names one, 8 UDP with a port (the answer
    is a reset), 12 any port without a check; 2 more for a prefix, which a server may not have as
    local addresses; 1 more for IPv6.
    """

    pool: str
    address: Address
    port: int
    rank: int
    service: str = ""
    """The service, if it is TCP with a port and a check: a reset is then a failed check."""

    @property
    def text(self) -> str:
        """Address and port, ``[2001:db8::1]:80`` for IPv6."""
        bracketed = f"[{self.address}]" if self.address.version == IPV6 else str(self.address)
        return f"{bracketed}:{self.port}"


PoolTargets = Mapping[str, Sequence[ProbeTarget]]
"""Pool -> the best target of each IP version among its services."""


def target_of(service: Service) -> ProbeTarget:
    """Return the target of a service."""
    address = service.check_address
    if service.port is not None:
        kind, port = (0 if service.protocol == TCP else 2), service.port
    elif service.check.port is not None:
        kind, port = 1, service.check.port
    else:
        kind, port = 3, FALLBACK_PORT
    rank = 4 * kind + 2 * (not is_host(service.vip)) + (address.version == IPV6)
    listens = service.protocol == TCP and kind <= 1 and service.check.type is not CheckType.NONE
    return ProbeTarget(service.pool, address, port, rank, service.name if listens else "")


def best_targets(services: Iterable[Service]) -> PoolTargets:
    """Return the best target of each pool and IP version; of equals, the first in order."""
    best: dict[str, dict[int, ProbeTarget]] = {}
    for target in map(target_of, services):
        of_pool = best.setdefault(target.pool, {})
        held = of_pool.get(target.address.version)
        if held is None or target.rank < held.rank:
            of_pool[target.address.version] = target
    return {pool: tuple(found.values()) for pool, found in best.items()}


def checked_targets(services: Iterable[Service]) -> PoolTargets:
    """Return each pool's targets whose resets are failed checks, at most ``MOST_CHECKED``."""
    found: dict[str, list[ProbeTarget]] = {}
    for target in map(target_of, services):
        of_pool = found.setdefault(target.pool, [])
        if target.service and len(of_pool) < MOST_CHECKED:
            of_pool.append(target)
    return {pool: tuple(of_pool) for pool, of_pool in found.items()}


def candidates(targets: PoolTargets, serves: Callable[[str], bool]) -> Sequence[ProbeTarget]:
    """Return the targets in the order to try them: those of the server's own pools come first.

    Every server has every VIP, so targets of other pools are usable too.
    """
    every = (target for of_pool in targets.values() for target in of_pool)
    return sorted(every, key=lambda target: (not serves(target.pool), target.rank))


def outside(vips: VipPrefixes, source: Source) -> Source:
    """Return ``source`` without addresses in a VIP: servers would keep answers to these."""

    def found(vip: Address) -> Address | None:
        address = source(vip)
        covered = address is not None and any(vips.covering(ip_network(address)))
        return None if covered else address

    return found


def choose(found: Iterable[ProbeTarget], source: Source) -> ProbeTarget | None:
    """Return the first target that this machine can get answers from, or ``None``."""
    return next((target for target in found if source(target.address) is not None), None)


def why_not(found: Sequence[ProbeTarget]) -> str:
    """Return why none of these could be chosen."""
    if not found:
        return "there is no service, so there is no VIP to probe"
    own = next((one.address for one in found if isinstance(one.address, IPv4Address)), None)
    if own is not None:
        return (
            f"this machine is a server itself and has {own}, so its kernel drops the answers that "
            "come from there: run the controller on another machine, or set "
            "net.ipv4.conf.all.accept_local = 1 here"
        )
    return (
        f"this machine has no IPv6 address outside all VIPs for {found[0].address}, "
        "and no VIP is IPv4"
    )
