"""Writes the pools' forwarding tables: a spare is filled, then one word swaps to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps.grace import Grace
from lb.dataplane.maps.state import MappedArray, State
from lb.flow_hash import SIP_CONSTANTS, half_round, initial_state, rotate

KEY_BYTES = 16
LAYOUTS = {1: abi.POOL_AT_REST, 2: abi.POOL_PAIRED, abi.MAX_DEPTH: 0}
"""The bit of the pool word, by how many DIP indices a bucket takes in a slot."""


def key_schedule(key: bytes) -> tuple[tuple[int, int, int, int], int]:
    """`struct lb_key`: SipHash's state after all work that needs no packet."""
    state = half_round(initial_state(key))
    return state, rotate(state[1], 17)


def key_of_schedule(state: Sequence[int]) -> bytes:
    """Return the key of a `key_schedule()`, whose last two words no round has changed."""
    k0, k1 = state[2] ^ SIP_CONSTANTS[2], state[3] ^ SIP_CONSTANTS[3]
    return k0.to_bytes(8, "little") + k1.to_bytes(8, "little")


def check_chains(chains: NDArray[np.uint16]) -> None:
    """Refuse a table that the kernel's tables cannot hold.

    Raises:
        DataplaneError: its shape or an index is out of range.

    """
    if chains.ndim != 2 or not 1 <= chains.shape[1] <= abi.MAX_DEPTH:  # noqa: PLR2004
        raise DataplaneError(f"chains have shape {chains.shape}: [buckets, 1 to {abi.MAX_DEPTH}]")
    buckets = chains.shape[0]
    if not abi.MIN_BUCKETS <= buckets <= abi.MAX_BUCKETS or buckets & (buckets - 1):
        raise DataplaneError(f"{buckets} buckets: a power of two from 2^8 to 2^20 is needed")
    if chains.max(initial=0) >= abi.MAX_DIPS:
        raise DataplaneError(f"DIP index {chains.max()}: at most {abi.MAX_DIPS - 1}")


def slot_width(length: int) -> int:
    """Return how many DIP indices a bucket takes in a slot if no chain is longer than `length`."""
    return min(width for width in LAYOUTS if width >= length)


def longest_chain(chains: NDArray[np.uint16]) -> int:
    """Return the length of the longest of some chains [buckets, depth], at least 1."""
    return int(np.flatnonzero(chains.any(axis=0)).max(initial=0)) + 1


def pack_chains(chains: NDArray[np.uint16], width: int) -> NDArray[np.uint64]:
    """Pack chains [buckets, depth] into the slots of inner tables, `width` indices a bucket."""
    places = np.zeros((len(chains), width), dtype="<u2")
    used = chains[:, :width]
    places[:, : used.shape[1]] = used
    return places.reshape(-1).view("<u8")


def unpack_chains(slots: NDArray[np.uint64], width: int, depth: int) -> NDArray[np.uint16]:
    """Unpack slots of `width` indices a bucket into chains [buckets, depth]."""
    places = np.ascontiguousarray(slots, dtype="<u8").view("<u2").reshape(-1, width)[:, :depth]
    chains = np.zeros((len(places), depth), dtype=np.uint16)
    chains[:, : places.shape[1]] = places
    return chains


@dataclass(frozen=True)
class PoolWord:
    """`lb_pool.word`, unpacked. `width`: how many DIP indices a bucket takes in a slot."""

    buckets: int
    first: int
    depth: int
    width: int

    def pack(self) -> int:
        """Return the word."""
        return (
            (self.buckets - 1)
            | self.first << abi.POOL_FIRST_SHIFT
            | self.depth << abi.POOL_DEPTH_SHIFT
            | LAYOUTS[self.width]
        )

    @classmethod
    def unpack(cls, word: int) -> PoolWord | None:
        """Read a word; None if there is no table."""
        if not word:
            return None
        return cls(
            buckets=(word & abi.POOL_MASK) + 1,
            first=word >> abi.POOL_FIRST_SHIFT & abi.POOL_FIRST_MASK,
            depth=word >> abi.POOL_DEPTH_SHIFT & abi.POOL_DEPTH_MASK,
            width=next(width for width, bit in LAYOUTS.items() if word & bit == bit),
        )


def slots_of(buckets: int, width: int) -> int:
    """Return how many slots a table takes."""
    return buckets * width // abi.MAX_DEPTH


def inner_count(slots: int) -> int:
    """Return how many inner tables so many slots take."""
    return -(-slots // abi.INNER_SLOTS)


class InnerTables:
    """All inner tables: the first ones inline in one map's value, each other one a map of its own.

    `inline_fd` and `outer_fd` are the maps `lb_inline_tables` and `lb_tables`; the caller closes
    them.
    """

    def __init__(self, inline_fd: int, outer_fd: int) -> None:
        slots = abi.INLINE_TABLE_COUNT * abi.INNER_SLOTS
        self._inline = MappedArray(inline_fd, np.dtype("<u8"), slots)
        self._outer_fd = outer_fd
        self._separate: dict[int, MappedArray] = {}

    def make(self, index: int) -> None:
        """Create an inner table; an inline one always exists."""
        if index < abi.INLINE_TABLE_COUNT:
            return
        fd = bpf_syscall.map_create(
            bpf_syscall.MAP_TYPE_ARRAY,
            key_size=4,
            value_size=abi.CHAIN.itemsize,
            max_entries=abi.INNER_SLOTS,
            flags=bpf_syscall.F_MMAPABLE,
            name="lb_inner",
        )
        try:
            self._separate[index] = MappedArray(fd, np.dtype("<u8"), abi.INNER_SLOTS)
            bpf_syscall.map_update(self._outer_fd, index, fd.to_bytes(4, "little"))
        finally:
            os.close(fd)

    def slots(self, index: int) -> NDArray[np.uint64]:
        """The slots of an inner table that exists, in the kernel's memory."""
        if index < abi.INLINE_TABLE_COUNT:
            return self._inline.values[index * abi.INNER_SLOTS :][: abi.INNER_SLOTS]
        return self._separate[index].values

    def remove(self, index: int) -> None:
        """Take an inner table out of the kernel, which frees it when no packet reads it."""
        if index in self._separate:
            bpf_syscall.map_delete(self._outer_fd, index)
            self._separate.pop(index).close()

    def close(self) -> None:
        """Unmap; the kernel's tables stay as they are."""
        for mapped in self._separate.values():
            mapped.close()
        self._separate.clear()
        self._inline.close()


class InnerRun:
    """Consecutive inner tables that hold one pool's table."""

    def __init__(self, tables: InnerTables, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self._tables = tables
        try:
            for index in self._indices:
                tables.make(index)
        except BaseException:
            self.remove()
            raise

    @property
    def _indices(self) -> range:
        return range(self.first, self.first + self.count)

    def write(self, slots: NDArray[np.uint64]) -> None:
        """Write a table's slots."""
        for number, index in enumerate(self._indices):
            part = slots[number * abi.INNER_SLOTS : (number + 1) * abi.INNER_SLOTS]
            self._tables.slots(index)[: len(part)] = part

    def remove(self) -> None:
        """Remove the tables."""
        for index in self._indices:
            self._tables.remove(index)


@dataclass
class PoolTables:
    """A pool's live run, its spare, and the grace period after which the spare may be written."""

    live: InnerRun | None = None
    spare: InnerRun | None = None
    key: bytes = b""
    grace: Grace = field(default_factory=Grace)

    def runs(self) -> Iterable[InnerRun]:
        """Both runs, if they exist."""
        return [run for run in (self.live, self.spare) if run is not None]


class TableStore:
    """Owner of pool ids, pool words, keys and inner tables."""

    def __init__(self, state: State, inner: InnerTables) -> None:
        self._state = state
        self._inner = inner
        self._ids: dict[str, int] = {}
        self._pools: dict[str, PoolTables] = {}
        self._retired = Grace()

    def plan_ids(self, names: Iterable[str]) -> dict[str, int]:
        """Return the id of each pool, for a new one the id that it would get. Changes nothing.

        Raises:
            DataplaneError: a name is too long, or there are too many pools.

        """
        ids = dict(self._ids)
        used = set(ids.values())
        free = (index for index in range(abi.MAX_POOLS) if index not in used)
        for name in names:
            if name in ids:
                continue
            if len(name.encode()) >= abi.POOL_NAME_LEN:
                raise DataplaneError(
                    f"pool name {name!r} is longer than {abi.POOL_NAME_LEN - 1} bytes"
                )
            index = next(free, None)
            if index is None:
                raise DataplaneError(f"more than {abi.MAX_POOLS} pools")
            ids[name] = index
        return ids

    def give_ids(self, ids: Mapping[str, int]) -> None:
        """Assign ids that `plan_ids()` has just returned."""
        for name in ids.keys() - self._ids.keys():
            self._retired.wait()
            self._state.pools["name"][ids[name]] = name.encode()
            self._ids[name] = ids[name]

    def forget_unused(self, used: Iterable[str]) -> None:
        """Free the ids of pools that have neither a service nor a table."""
        for name in self._ids.keys() - set(used) - self._pools.keys():
            self._state.pools["name"][self._ids.pop(name)] = b""
            self._retired.begin()

    def set(self, name: str, chains: NDArray[np.uint16], key: bytes) -> None:
        """Fill the pool's spare and swap to it.

        Raises:
            DataplaneError: the table or the key cannot be used.

        """
        if len(key) != KEY_BYTES:
            raise DataplaneError(f"a pool's key has {KEY_BYTES} bytes, not {len(key)}")
        check_chains(chains)
        buckets, depth = chains.shape
        width = slot_width(longest_chain(chains))
        self.give_ids(self.plan_ids([name]))
        pool_id = self._ids[name]
        tables = self._pools.setdefault(name, PoolTables())
        tables.grace.wait()
        # as many as the pool's depth may ever need: when a move begins, none might be free
        run = self._spare_run(tables, inner_count(slots_of(buckets, slot_width(depth))))
        run.write(pack_chains(chains, width))
        self._write_key(pool_id, tables, key)
        word = PoolWord(buckets, run.first, depth, width).pack()
        self._state.pools["word"][pool_id] = np.uint64(word)
        tables.grace.begin()
        tables.live, tables.spare = run, tables.live

    def remove(self, name: str) -> None:
        """Remove a pool's table: its packets are dropped as `drop_no_table` from now on."""
        tables = self._pools.pop(name, None)
        if tables is None:
            return
        self._state.pools["word"][self._ids[name]] = np.uint64(0)
        self._retired.begin()
        # no other pool may get its inner tables while packets still use the old word
        self._retired.wait()
        for run in tables.runs():
            run.remove()

    def close(self) -> None:
        """Unmap; the kernel's tables stay as they are."""
        self._inner.close()
        self._pools.clear()

    def _write_key(self, pool_id: int, tables: PoolTables, key: bytes) -> None:
        """Write a pool's key before its first table.

        A pool keeps its key for life. Another key moves all flows to other servers anyway, so its
        packets are dropped (`drop_no_table`) until none reads the old key: a packet is never hashed
        with half of each.
        """
        if key == tables.key:
            return
        if tables.key:
            self._state.pools["word"][pool_id] = np.uint64(0)
            tables.grace.begin()
            tables.grace.wait()
        self._state.pools["key"][pool_id] = key_schedule(key)
        tables.key = key

    def _spare_run(self, tables: PoolTables, count: int) -> InnerRun:
        """Return the pool's spare; one of another size is replaced."""
        if tables.spare is not None and tables.spare.count == count:
            return tables.spare
        if tables.spare is not None:
            tables.spare.remove()
            tables.spare = None
        tables.spare = InnerRun(self._inner, self._free_run(count), count)
        return tables.spare

    def _free_run(self, count: int) -> int:
        taken = sorted(
            (run.first, run.count) for tables in self._pools.values() for run in tables.runs()
        )
        at = 0
        for first, length in taken:
            if first - at >= count:
                return at
            at = first + length
        if at + count > abi.MAX_INNER:
            raise DataplaneError(
                f"{count} more inner tables do not fit: use fewer or smaller pools"
            )
        return at
