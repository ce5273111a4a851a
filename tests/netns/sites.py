"""What the tests of a whole site share: starting one, bringing it to rest, and looking at flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.objects import PROTOCOLS
from controlplane.store.file.store import FileStore
from lb.dataplane.pinned import PinnedDataplane
from lb.demo import scenario
from lb.demo.site import counters
from lb.demo.site.site import Site
from lb.demo.traffic.cohort import Cohort, Verdict
from netns.brigade import INTERFACE, server_name
from tests.model.flow import Flow, bucket_of

START_SECONDS = 30.0
TIMEOUT_SECONDS = 20.0
POOLS = (scenario.WEB, scenario.PLAIN)
VIPS = {scenario.WEB: scenario.WEB_VIP, scenario.PLAIN: scenario.PLAIN_VIP}


def start(site: Site) -> None:
    """Start the router, the first servers and the controller."""
    site.start_router()
    for number in scenario.FIRST_SERVERS:
        site.start_services(number)
        site.start_agent(number)
    site.start_controller()
    site.await_ready(scenario.FIRST_SERVERS)


def rest(site: Site) -> None:
    """Have everybody active, with equal shares, and the router using all servers."""
    assert site.ended() == []
    for server in site.store.drained():
        site.run_lbctl("undrain", server)
    site.exclude([])
    site.await_equal(POOLS, scenario.FIRST_SERVERS, START_SECONDS)
    site.await_active(scenario.FIRST_SERVERS)


def drained(site: Site, number: int, pools: Sequence[str] = (scenario.WEB,)) -> None:
    """Drain a server, and wait until the others share what it had.

    By force: pools with short chains may still have them full from the test before.
    """
    site.run_lbctl("drain", server_name(number), "--force")
    others = [n for n in scenario.FIRST_SERVERS if n != number]
    site.await_equal(pools, others, TIMEOUT_SECONDS)


def cohort(
    site: Site, *, downloads: int = 0, idle: int = 0, udp: int = 0, pool: str = scenario.WEB
) -> Cohort:
    """Open flows to a pool's VIP and wait until all of them are open."""
    arguments = [f"--downloads={downloads}", f"--idle={idle}", f"--udp={udp}"]
    arguments += [f"--udp-source-port={site.take_udp_ports(udp)}"]
    arguments += [f"--file={path}" for path in site.files]
    made = Cohort(site.client, VIPS[pool], "traffic-test", arguments)
    count = made.wait_open()
    assert (count.tcp, count.udp, count.broken) == (downloads + idle, udp, 0)
    return made


def finished(flows: Cohort) -> Verdict:
    """Bring flows to their end, and hear how they fared."""
    flows.finish()
    return flows.verdict()


def grown(site: Site, before: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[str]]:
    """Return by how much each server's counters have grown."""
    now = site.counters.read()
    return {server: counters.growth(before[server], now[server]) for server in now}


def total(sums: Mapping[str, Mapping[str, int]], name: str) -> int:
    """Add a counter up over all servers."""
    return sum(counts.get(name, 0) for counts in sums.values())


def bucket(site: Site, flow: str, pool: str = scenario.WEB, port: int | None = None) -> int:
    """The bucket of a flow by the model's hash, with the pool's key as the store has it."""
    cluster = site.store.cluster()
    known = cluster.pool(pool) if cluster else None
    assert known is not None
    store = FileStore(site.network.store_dir)
    key = store.key(known.key_id)
    store.close()
    protocol, _, client = flow.partition(" ")
    address, _, client_port = client.partition(":")
    usual = scenario.HTTP_PORT if protocol == "tcp" else scenario.ECHO_PORT
    source = IPv4Address(address), int(client_port)
    named = Flow(PROTOCOLS[protocol], *source, VIPS[pool], port or usual)
    return bucket_of(named.hash(key), known.buckets)


def chains(site: Site, pool: str = scenario.WEB) -> NDArray[np.uint16]:
    """The chains of a pool's newest table."""
    table = site.store.table(pool)
    assert table is not None
    return table.chains


def chain(site: Site, flow: str, pool: str = scenario.WEB, port: int | None = None) -> list[str]:
    """The servers of a flow's bucket, newest first, by the newest table."""
    names = {index_of(site, number): server_name(number) for number in scenario.FIRST_SERVERS}
    slots = chains(site, pool)[bucket(site, flow, pool, port)]
    return [names[int(index)] for index in slots if index]


def loaded(site: Site, number: int) -> NDArray[np.uint16]:
    """The chains that a server's data plane forwards by."""
    with PinnedDataplane(site.server(number).bpffs / INTERFACE) as plane:
        return plane.chains(scenario.WEB)


def index_of(site: Site, number: int) -> int:
    """A server's DIP index."""
    cluster = site.store.cluster()
    server = cluster.server(server_name(number)) if cluster else None
    assert server is not None
    return server.index
