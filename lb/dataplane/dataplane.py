"""The data plane of one server: its programs, its maps, and every way to change them."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall, root_array
from lb.dataplane.load.compile import (
    Loaded,
    check_kernel,
    compile_and_load,
    join_sources,
    xdp_attach_types,
)
from lb.dataplane.load.pinning import pin_again, pin_all
from lb.dataplane.load.root_array import RootArray, put_program
from lb.dataplane.lookup.writer import ClusterTables
from lb.dataplane.maps.counters import CounterReader
from lb.dataplane.maps.resets import ResetCounts, ResetFlows, ResetReader
from lb.dataplane.maps.state import State
from lb.dataplane.maps.tables import InnerTables, TableStore
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry
from lb.paths import bpf_dir

SOURCES = (
    "maps.bpf.c",
    "exit.bpf.c",
    "bucket.bpf.c",
    "forwarder.bpf.c",
    "forwarder_rare.bpf.c",
    "too_big.bpf.c",
    "redirector.bpf.c",
    "redirector_rare.bpf.c",
    "egress.bpf.c",
)
TRACE_SOURCE = "trace.bpf.c"
"""Joined in front of the others for `lbctl trace` alone."""
ROOT = "lb_root"
FORWARDER = "lb_forwarder"
FORWARDER_RARE = "lb_forwarder_rare"
TOO_BIG = "lb_too_big"
REDIRECTOR = "lb_redirector"
REDIRECTOR_RARE = "lb_redirector_rare"
EGRESS = "lb_egress"
PROGRAMS = {
    ROOT: "XDP",
    FORWARDER: "XDP",
    FORWARDER_RARE: "XDP",
    TOO_BIG: "XDP",
    REDIRECTOR: "SCHED_CLS",
    REDIRECTOR_RARE: "SCHED_CLS",
    EGRESS: "SCHED_CLS",
}
FORWARDER_SLOTS = {FORWARDER_RARE: abi.ForwarderSlot.RARE, TOO_BIG: abi.ForwarderSlot.TOO_BIG}
"""Programs that the forwarder calls."""
REDIRECTOR_SLOTS = {REDIRECTOR_RARE: abi.RedirectorSlot.RARE}
STATE = "lb_state"
INLINE_TABLES = "lb_inline_tables"
VALUES = {
    STATE: (abi.STATE.itemsize, "LB_STATE_FD"),
    INLINE_TABLES: (abi.INLINE_TABLES.itemsize, "LB_INLINE_TABLES_FD"),
}
"""Maps of one value: their sizes, and the macros that the sources use for their descriptors."""
FORWARDER_PROGRAMS = "lb_forwarder_programs"
REDIRECTOR_PROGRAMS = "lb_redirector_programs"
TABLES = "lb_tables"
COUNTERS = "lb_counters"
SERVICE_STATS = "lb_service_stats"
RESETS = "lb_resets"
RESET_COUNTS = "lb_reset_counts"
CALLED: Mapping[str, Mapping[str, int]] = {
    FORWARDER_PROGRAMS: FORWARDER_SLOTS,
    REDIRECTOR_PROGRAMS: REDIRECTOR_SLOTS,
}
"""Which programs are in which slots of the two arrays."""
MAPS = {
    TABLES: "tables",
    COUNTERS: "counters",
    SERVICE_STATS: "service_stats",
    FORWARDER_PROGRAMS: "stages",
    "lb_fragments": "fragments",
    REDIRECTOR_PROGRAMS: "tc_stages",
    "lb_decisions": "decisions",
    "lb_fresh": "fresh",
    "lb_openings": "openings",
    RESETS: "resets",
    RESET_COUNTS: "reset_counts",
}
"""Maps that the sources define, with the names of their pins."""
PIN_NAMES = {  # every version finds the same maps under the same names
    ROOT: "forwarder",
    REDIRECTOR: "redirector",
    EGRESS: "egress",
    STATE: "state",
    INLINE_TABLES: "near",
    root_array.NAME: "root",
    **MAPS,
}
MAC_BYTES = 6
LEAST_MTU = 576


def source_text(*, trace: bool = False) -> str:
    """Return the joined C source, followed by the assertions of lb/abi.py.

    With `trace`, its programs also write packets into a ring.
    """
    folder = bpf_dir()
    names = (TRACE_SOURCE, *SOURCES) if trace else SOURCES
    return join_sources([folder / name for name in names], behind=abi.static_asserts())


def sources_digest() -> int:
    """64 bits of a digest of all sources, to compare with that of loaded programs."""
    folder = bpf_dir()
    digest = hashlib.sha256(source_text().encode("ascii"))
    for path in (folder / TRACE_SOURCE, *sorted(folder.glob("*.h"))):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:8], "little")


def load_programs(
    root_pins: Sequence[Path] = (), xdp_attach_type: int = bpf_syscall.ATTACH_TYPE_XDP
) -> Loaded:
    """Compile and load everything, and put programs into their slots.

    The root array is the first usable one of some pins, and keeps its forwarder. Without one, a new
    array gets the new forwarder. XDP programs have the requested attach type, unless that array or
    bcc accepts another one only.

    Raises:
        DataplaneError: bcc is missing, BPF not permitted, or the sources are refused.

    """
    check_kernel()
    with ExitStack() as stack:
        kinds = xdp_attach_types(xdp_attach_type)
        found = root_array.find_root(root_pins, kinds)
        root = found or RootArray(root_array.create_root(), kinds[0])
        stack.callback(os.close, root.fd)
        values = {}
        for name, (size, _) in VALUES.items():
            values[name] = bpf_syscall.map_create(
                bpf_syscall.MAP_TYPE_ARRAY, 4, size, 1, flags=bpf_syscall.F_MMAPABLE, name=name
            )
            stack.callback(os.close, values[name])
        loaded = compile_and_load(
            source_text(),
            include=bpf_dir(),
            programs=PROGRAMS,
            maps=tuple(MAPS),
            defines={
                **{define: values[name] for name, (_, define) in VALUES.items()},
                root_array.DEFINE: root.fd,
            },
            xdp_attach_type=root.xdp_attach_type,
        )
        stack.pop_all()
    programs = loaded.programs
    if found is None:  # in an array in use, packets would arrive before there are tables
        put_program(root.fd, abi.Slot.FORWARDER, programs[FORWARDER])
    for array, slots in CALLED.items():
        for name, slot in slots.items():
            put_program(loaded.maps[array], slot, programs[name])
    return Loaded(programs, {**loaded.maps, **values, root_array.NAME: root.fd})


class Dataplane(ExitStack):
    """Owner of programs and maps; attaches nothing. For one thread at a time.

    Closing it ends no program that is attached or pinned.
    """

    def __init__(self, loaded: Loaded, load_seconds: float) -> None:
        super().__init__()
        self._loaded = loaded
        self.load_seconds = load_seconds
        self._state = State(loaded.maps[STATE])
        self._state.config["layout"] = abi.LAYOUT
        self._state.config["sources"] = sources_digest()
        self._reader = CounterReader(loaded.maps[COUNTERS], loaded.maps[SERVICE_STATS])
        self._resets = ResetReader(loaded.maps[RESETS], loaded.maps[RESET_COUNTS])
        self._tables = TableStore(
            self._state, InnerTables(loaded.maps[INLINE_TABLES], loaded.maps[TABLES])
        )
        self._cluster = ClusterTables(
            self._state, self._tables, self._reader.zero_service, random.SystemRandom()
        )
        for part in (loaded, self._state, self._tables):
            self.callback(part.close)

    @classmethod
    def load(
        cls,
        identity: Identity,
        root_pins: Sequence[Path] = (),
        *,
        xdp_attach_type: int = bpf_syscall.ATTACH_TYPE_XDP,
    ) -> Dataplane:
        """Compile and load all programs, with empty tables.

        The root array is the first usable one of some pins, or a new one. XDP programs have the
        `expected_attach_type` that libbpf gives, so that programs loaded by it fit into the array.

        Raises:
            DataplaneError: bcc is missing, BPF not permitted or the kernel too old: one line with
                the remedy.

        """
        started = time.monotonic()
        loaded = load_programs(root_pins, xdp_attach_type)
        try:
            dataplane = cls(loaded, time.monotonic() - started)
        except BaseException:
            loaded.close()
            raise
        try:
            dataplane.set_identity(identity)
        except BaseException:
            dataplane.close()
            raise
        return dataplane

    @property
    def forwarder_fd(self) -> int:
        """The XDP program that is attached: the root, with the forwarder in it."""
        return self._loaded.programs[ROOT]

    @property
    def redirector_fd(self) -> int:
        """The TC program."""
        return self._loaded.programs[REDIRECTOR]

    @property
    def egress_fd(self) -> int:
        """The TC program for packets that leave."""
        return self._loaded.programs[EGRESS]

    def programs(self) -> dict[str, int]:
        """Every loaded program's file descriptor, by its name in C."""
        return dict(self._loaded.programs)

    def map_fd(self, name: str) -> int:
        """A map by its name in C."""
        return self._loaded.maps[name]

    def set_identity(self, identity: Identity) -> None:
        """Set this server's addresses and MTU: at the start, and when MTU or MAC change.

        Raises:
            DataplaneError: a MAC that is not 6 bytes, or an MTU below the least of IPv4.

        """
        if len(identity.mac) != MAC_BYTES:
            raise DataplaneError(f"a MAC has {MAC_BYTES} bytes, not {len(identity.mac)}")
        if identity.mtu < LEAST_MTU:
            raise DataplaneError(f"an MTU of {identity.mtu} is too small: {LEAST_MTU} or more")
        self._cluster.write_identity(identity)

    def set_cluster(self, view: ClusterView, accepted: Callable[[], None] = lambda: None) -> None:
        """Change services, known DIPs and probers together; packets see the old or the new.

        DIP entries are written first. One word switches services, VIPs, known DIPs and probers.
        Then entries of DIPs that are gone are cleared. Services that stay keep their counters.
        Takes up to 100 ms if the last change was less than that ago. `accepted` is called when the
        view is certain to fit, before anything changes: for steps that must come first.

        Raises:
            DataplaneError: more than the tables hold, or something twice; nothing has changed.

        """
        self._cluster.write(view, accepted)
        self._tables.forget_unused(service.pool for service in view.services)

    def set_neighbour(self, index: int, mac: bytes | None) -> None:
        """Set the next-hop MAC of a DIP index; None: unknown, packets return to their sender's MAC.

        A MAC of zeros, which no interface has, is unknown as well.

        Raises:
            DataplaneError: no such index, or a MAC that is not 6 bytes.

        """
        if not 0 < index < abi.MAX_DIPS or (mac is not None and len(mac) != MAC_BYTES):
            raise DataplaneError(f"no neighbour: index {index}, MAC {mac!r}")
        self._cluster.write_neighbour(index, mac)

    def set_table(self, pool: str, chains: NDArray[np.uint16], key: bytes) -> None:
        """Load a pool's table: DIP indices uint16 [buckets, depth], newest first, 0 = empty.

        The spare is filled, then one word swaps table and size together. Takes up to 100 ms if the
        pool's last table was loaded less than that ago.

        Raises:
            DataplaneError: the table or the key cannot be used; the old one stays.

        """
        self._tables.set(pool, chains, key)

    def remove_table(self, pool: str) -> None:
        """Remove a pool's table: its packets are dropped, counted as `drop_no_table`."""
        self._tables.remove(pool)

    def counters(self) -> dict[str, int]:
        """Every verdict's packets since the load, by the names of docs/wire.md."""
        return self._reader.verdicts()

    def service_counters(self) -> dict[ServiceEntry, tuple[int, int]]:
        """Packets and bytes of every service."""
        return {
            service: self._reader.service(self._cluster.index_of(service))
            for service in self._cluster.services
        }

    def reset_counts(self) -> ResetCounts:
        """How many resets without ACK have left VIPs since the load."""
        return self._resets.counts()

    def reset_flows(self) -> ResetFlows:
        """Flows that had such a reset, as far as they are remembered."""
        return self._resets.flows()

    def pin(self, directory: Path) -> None:
        """Pin programs and maps in a new folder of a bpffs, all of them or none.

        Raises:
            DataplaneError: it has pins already, is not on a bpffs, or cannot be written.

        """
        descriptors = {**self._loaded.programs, **self._loaded.maps}
        pin_all(directory, {pin: descriptors[name] for name, pin in PIN_NAMES.items()})

    @contextmanager
    def in_root(self) -> Iterator[None]:
        """Put this forwarder into the root array; put the old one back if the block fails."""
        array, program = self.map_fd(root_array.NAME), self._loaded.programs[FORWARDER]
        with root_array.replaced(array, abi.Slot.FORWARDER, program):
            yield

    def pin_again(self, directory: Path, pins: Collection[str]) -> None:
        """Pin what has lost its pin, by the pins' names; what others pinned there is replaced.

        Raises:
            DataplaneError: the folder is not on a bpffs, or cannot be written.

        """
        descriptors = {**self._loaded.programs, **self._loaded.maps}
        pin_again(directory, {p: descriptors[n] for n, p in PIN_NAMES.items() if p in pins})

    def programs_without_slot(self) -> tuple[str, ...]:
        """Return the programs that others cannot call: somebody has emptied or taken their slots.

        The traced forwarder of `lbctl trace` may be in the place of this one.
        """
        return tuple(
            name for name, array, slot in self._slots() if not self._is_in(name, array, slot)
        )

    def fill_slots(self) -> None:
        """Put each program into its slot again."""
        for name, array, slot in self._slots():
            if not self._is_in(name, array, slot):
                put_program(array, slot, self._loaded.programs[name])

    def _slots(self) -> Iterator[tuple[str, int, int]]:
        """Yield each program that others call, with the array and the slot that it belongs in."""
        yield FORWARDER, self.map_fd(root_array.NAME), abi.Slot.FORWARDER
        for array, slots in CALLED.items():
            for name, slot in slots.items():
                yield name, self.map_fd(array), slot

    def _is_in(self, name: str, array: int, slot: int) -> bool:
        now = root_array.program_in(array, slot)
        if now is None:
            return False
        if now == bpf_syscall.prog_info(self._loaded.programs[name]).prog_id:
            return True
        return name == FORWARDER and root_array.uses_map(now, self.map_fd(FORWARDER_PROGRAMS))

    def program_ids(self) -> tuple[int, int, int]:
        """The kernel's ids of forwarder, redirector and egress program."""
        forwarder, redirector, egress = (
            bpf_syscall.prog_info(fd).prog_id
            for fd in (self.forwarder_fd, self.redirector_fd, self.egress_fd)
        )
        return forwarder, redirector, egress
