"""What the programs know of a configuration, without a kernel to hold it.

The data plane's own code writes it, into memory that no program reads.
"""

from __future__ import annotations

import os
import random
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.lookup.writer import ClusterTables
from lb.dataplane.maps.state import State
from lb.dataplane.maps.tables import InnerTables, TableStore
from lb.dataplane.objects import ClusterView, Identity
from tests.dataplane.rig import SPARE_INDEX_FROM, chain_array, entry, forget_known
from tests.model import Config

PAGE = 4096


class HeldTables(InnerTables):
    """Inner tables that are arrays of this process."""

    def __init__(self) -> None:
        self.held: dict[int, NDArray[np.uint64]] = {}

    def make(self, index: int) -> None:
        """Make an inner table."""
        self.held[index] = np.zeros(abi.INNER_SLOTS, dtype="<u8")

    def slots(self, index: int) -> NDArray[np.uint64]:
        """The slots of one that was made."""
        return self.held[index]

    def remove(self, index: int) -> None:
        """Let it go."""
        self.held.pop(index, None)

    def close(self) -> None:
        """Let all go."""
        self.held.clear()


class Offline:
    """A state and its tables; a context manager that frees them.

    `fillers` are unused pools, of so many inner tables each, in front of all others.
    """

    def __init__(self, config: Config, fillers: tuple[int, ...] = ()) -> None:
        self._fd = os.memfd_create("lb_state")
        os.truncate(self._fd, -(-abi.STATE.itemsize // PAGE) * PAGE)
        self._state = State(self._fd)
        self._inner = HeldTables()
        self._store = TableStore(self._state, self._inner)
        self._places = self._write_cluster(config)
        for number, size in enumerate(fillers):
            unused = np.zeros((size * abi.INNER_SLOTS, abi.MAX_DEPTH), dtype=np.uint16)
            self._store.set(f"filler-{number}", unused, bytes(16))
        for name, pool in config.pools.items():
            if pool is not None:
                self._store.set(name, chain_array(pool), pool.key)

    def _write_cluster(self, config: Config) -> dict[int, int]:
        tables = ClusterTables(self._state, self._store, lambda _: None, random.Random(config.mtu))
        tables.write_identity(
            Identity(config.self_dip, config.mac, config.mtu, 1, gue_port=config.gue_port)
        )
        dips = {index: dip.address for index, dip in config.dips.items()}
        # known addresses without an entry get an index, and lose the entry below
        bare = dict(enumerate(sorted(config.known - set(dips.values())), SPARE_INDEX_FROM))
        services = tuple(entry(config, index) for index in range(len(config.services)))
        tables.write(ClusterView(services, dips | bare, config.probers))
        for index, dip in config.dips.items():
            tables.write_neighbour(index, dip.mac)
        for index in bare:
            self._state.dip_words[index] = 0
        forget_known(self._state, config)
        return {tables.index_of(service): place for place, service in enumerate(services)}

    def places(self) -> dict[int, int]:
        """Where in the configuration the service with an index of the data plane's is."""
        return self._places

    def state(self) -> bytes:
        """`struct lb_state`."""
        return os.pread(self._fd, abi.STATE.itemsize, 0)

    def tables(self) -> dict[int, bytes]:
        """The slots of each inner table in use, by its number."""
        return {index: slots.tobytes() for index, slots in self._inner.held.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._store.close()
        self._state.close()
        os.close(self._fd)
