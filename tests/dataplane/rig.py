"""The real programs, set up from the model's configuration and fed one frame at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import numpy as np
from numpy.typing import NDArray

from lb.dataplane.dataplane import Dataplane
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps.state import State
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry
from tests.fuzz.kernel import clear_map
from tests.model import Config, Pool, Result
from tests.model.result import Verdict

XDP_VERDICTS: Mapping[int, Verdict] = {1: "drop", 2: "pass", 3: "tx"}
TC_VERDICTS: Mapping[int, Verdict] = {0: "ok", 2: "drop", 7: "redirect"}
SPARE_INDEX_FROM = 4000
EMPTY = Config(self_dip=IPv4Address("10.255.0.1"), mac=bytes.fromhex("02ff00000001"))


def chain_array(pool: Pool) -> NDArray[np.uint16]:
    """A model's pool as the data plane takes it."""
    chains = np.zeros((pool.buckets, pool.depth), dtype=np.uint16)
    for bucket, chain in pool.chains.items():
        chains[bucket, : len(chain)] = chain
    return chains


def entry(config: Config, index: int) -> ServiceEntry:
    """A model's service as the data plane takes it."""
    service = config.services[index]
    pool = config.pools.get(service.pool)
    return ServiceEntry(
        *(service.vip, service.protocol, service.port, service.pool, service.stateless),
        by_client=pool is not None and pool.by_client,
    )


def _cluster(config: Config) -> tuple[object, ...]:
    """What `Rig._write_cluster` writes."""
    entries = [entry(config, index) for index in range(len(config.services))]
    return entries, config.dips, config.known, config.probers


def forget_known(state: State, config: Config) -> None:
    """The data plane knows every DIP that has an entry; the model need not."""
    for dip in config.dips.values():
        if dip.address not in config.known:
            known = state.peers[state.half]
            known["flags"][known["addr"] == int(dip.address)] = 0


@dataclass(frozen=True)
class Counts:
    """All counters at one moment."""

    verdicts: dict[str, int]
    services: dict[ServiceEntry, tuple[int, int]]


class Rig:
    """One loaded data plane that can be made to know what a model's `Config` says."""

    def __init__(self) -> None:
        self.config = EMPTY
        self.dataplane = Dataplane.load(self._identity(EMPTY))

    def close(self) -> None:
        self.dataplane.close()

    @staticmethod
    def _identity(config: Config) -> Identity:
        return Identity(
            dip=config.self_dip,
            mac=config.mac,
            mtu=config.mtu,
            ifindex=1,
            gue_port=config.gue_port,
        )

    def configure(self, config: Config) -> None:
        """Make the programs know all of a configuration and nothing else; write what differs."""
        if config == self.config:
            return
        old = self.config
        if self._identity(config) != self._identity(old):
            # not set_identity(), which refuses the small MTUs that rows have
            self.dataplane._cluster.write_identity(self._identity(config))
        if _cluster(config) != _cluster(old):
            self._write_cluster(config)
        self._write_pools(old, config)
        self.config = config

    def forget(self) -> None:
        """Remember nothing of earlier packets."""
        for name in ("lb_fragments", "lb_decisions", "lb_fresh", "lb_openings"):
            clear_map(self.dataplane.map_fd(name))

    def _write_cluster(self, config: Config) -> None:
        by_address = {dip.address: index for index, dip in config.dips.items()}
        # known addresses without an entry get an index, and lose the entry below
        bare = sorted(config.known - by_address.keys())
        indices = {SPARE_INDEX_FROM + n: address for n, address in enumerate(bare)}
        dips = {index: dip.address for index, dip in config.dips.items()} | indices
        services = tuple(entry(config, index) for index in range(len(config.services)))
        self.dataplane.set_cluster(ClusterView(services, dips, config.probers))
        for index, dip in config.dips.items():
            self.dataplane.set_neighbour(index, dip.mac)
        for index in indices:
            self.dataplane._state.dip_words[index] = 0
        forget_known(self.dataplane._state, config)

    def _write_pools(self, old: Config, config: Config) -> None:
        changed = {
            name
            for name in old.pools.keys() | config.pools.keys()
            if old.pools.get(name) != config.pools.get(name)
        }
        for name in changed:
            self.dataplane.remove_table(name)
        for name in changed:
            pool = config.pools.get(name)
            if pool is not None:
                self.dataplane.set_table(name, chain_array(pool), pool.key)

    def counts(self) -> Counts:
        return Counts(self.dataplane.counters(), self.dataplane.service_counters())

    def forward(self, frame: bytes) -> Result:
        """What the forwarder did with a frame, in the model's words."""
        return self._run(self.dataplane.forwarder_fd, XDP_VERDICTS, frame)

    def redirect(self, frame: bytes, context: bytes = b"") -> Result:
        """What the redirector did with a frame, in the model's words.

        ``context`` is a struct __sk_buff: what the kernel knows of the frame besides its bytes.
        """
        return self._run(self.dataplane.redirector_fd, TC_VERDICTS, frame, context)

    def _run(
        self, fd: int, verdicts: Mapping[int, Verdict], frame: bytes, context: bytes = b""
    ) -> Result:
        before = self.counts()
        run = bpf_syscall.prog_test_run(fd, frame, context=context)
        after = self.counts()
        grown = {
            name: count - before.verdicts[name]
            for name, count in after.verdicts.items()
            if count != before.verdicts[name]
        }
        assert list(grown.values()) == [1], f"one counter by one, not {grown}"
        verdict = verdicts[run.retval]
        return Result(
            verdict,
            next(iter(grown)),
            None if verdict == "drop" else run.data,
            self._service(before, after, len(frame)),
        )

    def _service(self, before: Counts, after: Counts, length: int) -> int | None:
        grown = {
            service: (
                counts[0] - before.services[service][0],
                counts[1] - before.services[service][1],
            )
            for service, counts in after.services.items()
            if counts != before.services[service]
        }
        if not grown:
            return None
        assert list(grown.values()) == [(1, length)], grown
        service = next(iter(grown))
        entries = [entry(self.config, index) for index in range(len(self.config.services))]
        return entries.index(service)


def without_service(result: Result) -> Result:
    """The redirector counts no services."""
    return replace(result, service=None)
