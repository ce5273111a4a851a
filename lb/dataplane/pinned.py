"""Reads the data plane of another process, through its pins."""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import IPv4Address
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.dataplane import (
    COUNTERS,
    EGRESS,
    INLINE_TABLES,
    PIN_NAMES,
    REDIRECTOR,
    RESET_COUNTS,
    RESETS,
    ROOT,
    SERVICE_STATS,
    STATE,
    TABLES,
)
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall
from lb.dataplane.lookup.names import read_name, sort_key
from lb.dataplane.maps.counters import CounterReader
from lb.dataplane.maps.resets import ResetCounts, ResetReader
from lb.dataplane.maps.state import MappedArray, State
from lb.dataplane.maps.tables import PoolWord, inner_count, key_of_schedule, slots_of, unpack_chains
from lb.dataplane.objects import ServiceEntry


class PinnedDataplane(ExitStack):
    """Reads tables and counters for `lbctl counters`, `trace` and `demo`; writes nothing.

    Raises:
        DataplaneError: no agent has pinned anything there, or one of another version did.

    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        with ExitStack() as stack:
            fds = {name: self._open(stack, directory / pin) for name, pin in PIN_NAMES.items()}
            if bpf_syscall.map_info(fds[STATE]).value_size != abi.STATE.itemsize:
                raise DataplaneError(f"{directory} was pinned by another version: lbctl up again")
            self._tables_fd = fds[TABLES]
            self._inline_fd = fds[INLINE_TABLES]
            self._programs = fds[ROOT], fds[REDIRECTOR], fds[EGRESS]
            self._state = State(fds[STATE], writable=False)
            stack.callback(self._state.close)
            if int(self._state.config["layout"]) != abi.LAYOUT:
                raise DataplaneError(f"{directory} was pinned by another version: lbctl up again")
            self._reader = CounterReader(fds[COUNTERS], fds[SERVICE_STATS])
            self._resets = ResetReader(fds[RESETS], fds[RESET_COUNTS])
            self.push(stack.pop_all())

    @staticmethod
    def _open(stack: ExitStack, path: Path) -> int:
        try:
            fd = bpf_syscall.obj_get(path)
        except PermissionError as error:
            raise DataplaneError(
                f"{path}: {error.strerror}; reading the pins needs root: run the same command with "
                "sudo"
            ) from error
        except OSError as error:
            if path.parent.joinpath(PIN_NAMES[STATE]).exists():
                raise DataplaneError(
                    f"{path.parent} was pinned by another version: lbctl up again"
                ) from error
            raise DataplaneError(
                f"{path}: {error.strerror}; is the agent up (lbctl up)?"
            ) from error
        return stack.enter_context(bpf_syscall.closing(fd))

    def counters(self) -> dict[str, int]:
        """Every verdict's packets since the load, by the names of docs/wire.md."""
        return self._reader.verdicts()

    def reset_counts(self) -> ResetCounts:
        """How many resets without ACK have left VIPs since the load."""
        return self._resets.counts()

    def _service_rows(self) -> list[tuple[ServiceEntry, int]]:
        pools = [bytes(name).decode(errors="replace") for name in self._state.pools["name"]]
        found = [
            (read_name(self._state.names[index], pools), int(index))
            for index in np.flatnonzero(self._state.names["version"])
        ]
        return sorted(found, key=lambda pair: sort_key(pair[0]))

    def services(self) -> tuple[ServiceEntry, ...]:
        """The services in use, by address."""
        return tuple(service for service, _ in self._service_rows())

    def service_counters(self) -> dict[ServiceEntry, tuple[int, int]]:
        """Packets and bytes of every service."""
        return {service: self._reader.service(index) for service, index in self._service_rows()}

    def _pools(self) -> dict[str, Any]:
        """Return the entries of pools with a table, by name."""
        used = self._state.pools[self._state.pools["word"] != 0]
        return {bytes(pool["name"]).decode(errors="replace"): pool for pool in used}

    def pool_words(self) -> dict[str, PoolWord]:
        """The tables in use, by pool."""
        words = {name: PoolWord.unpack(int(pool["word"])) for name, pool in self._pools().items()}
        return {name: word for name, word in words.items() if word is not None}

    def chains(self, pool: str) -> NDArray[np.uint16]:
        """A pool's table as the kernel has it: DIP indices [buckets, depth], newest first.

        Raises:
            DataplaneError: the pool has no table.

        """
        word = self._word(pool)
        slots = slots_of(word.buckets, word.width)
        parts = [
            self._slots(word.first + number, slice(min(slots, abi.INNER_SLOTS)))
            for number in range(inner_count(slots))
        ]
        return unpack_chains(np.concatenate(parts), word.width, word.depth)

    def chain(self, pool: str, bucket: int) -> tuple[int, ...]:
        """Return one bucket's chain: DIP indices, newest first. For single packets.

        Raises:
            DataplaneError: the pool has no table.

        """
        word = self._word(pool)
        position = bucket * word.width
        inner, slot = divmod(position // abi.MAX_DEPTH, abi.INNER_SLOTS)
        indices = self._slots(word.first + inner, slice(slot, slot + 1)).view("<u2")
        row = indices[position % abi.MAX_DEPTH :][: word.width]
        return tuple(int(index) for index in takewhile(bool, row))

    def _word(self, pool: str) -> PoolWord:
        word = self.pool_words().get(pool)
        if word is None:
            raise DataplaneError(f"pool {pool!r} has no table here")
        return word

    def _slots(self, inner: int, part: slice) -> NDArray[np.uint64]:
        """Copy a part of an inner table."""
        if inner < abi.INLINE_TABLE_COUNT:
            return _copy(self._inline_fd, abi.INLINE_TABLE_COUNT, inner, part)
        raw = bpf_syscall.map_lookup(self._tables_fd, inner, 4)
        with bpf_syscall.closing(bpf_syscall.map_fd_by_id(int.from_bytes(raw, "little"))) as fd:
            return _copy(fd, 1, 0, part)

    def pool_key(self, pool: str) -> bytes | None:
        """A pool's key, from SipHash's initial state; None if there is no such pool."""
        entry = self._pools().get(pool)
        return None if entry is None else key_of_schedule([int(v) for v in entry["key"]["v"]])

    def sources(self) -> int:
        """The digest of the sources that the programs were compiled from."""
        return int(self._state.config["sources"])

    def dips(self) -> dict[int, tuple[IPv4Address, bytes | None]]:
        """Every DIP entry by index, with its next-hop MAC if that is known."""
        dips = self._state.dips
        macs = {int(at): int(dips["mac"][at]) for at in np.flatnonzero(dips["addr"])}
        return {
            index: (
                IPv4Address(int(dips["addr"][index])),
                mac.to_bytes(6, "little") if mac else None,
            )
            for index, mac in macs.items()
        }

    def program_ids(self) -> tuple[int, int, int]:
        """The kernel's ids of forwarder, redirector and egress program."""
        forwarder, redirector, egress = (bpf_syscall.prog_info(fd).prog_id for fd in self._programs)
        return forwarder, redirector, egress


def _copy(fd: int, tables: int, number: int, part: slice) -> NDArray[np.uint64]:
    """Copy a part of one of the inner tables in a map."""
    mapped = MappedArray(fd, np.dtype(("<u8", abi.INNER_SLOTS)), tables, writable=False)
    words: NDArray[np.uint64] = mapped.values[number, part].copy()
    mapped.close()
    return words
