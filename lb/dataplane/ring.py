"""Reads a BPF ring buffer (Documentation/bpf/ringbuf.rst) from memory, without libbpf.

Page 0 of the map is the reader's position, page 1 the writer's. The data follow, mapped twice in a
row, so that every record is contiguous. A record is 8 bytes of header, whose first word
is its length with two flags, and its data, rounded up to 8 bytes.
"""

from __future__ import annotations

import mmap
import select
from collections.abc import Iterator

import numpy as np

from lb.dataplane.load import bpf_syscall

HEADER_BYTES = 8
BUSY = 1 << 31
DISCARDED = 1 << 30
LENGTH_MASK = DISCARDED - 1
MILLISECONDS = 1000


class RingReader:
    """The one reader of a ring."""

    def __init__(self, fd: int) -> None:
        self._size = bpf_syscall.map_info(fd).max_entries
        page = mmap.PAGESIZE
        self._reader = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._writer = mmap.mmap(
            fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        # one load and one store each, which no reader sees half done
        self._consumed = np.frombuffer(self._reader, dtype="<u8", count=1)
        self._produced = np.frombuffer(self._writer, dtype="<u8", count=1)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Return when there is a record, or after some time."""
        self._poll.poll(seconds * MILLISECONDS)

    def read(self) -> Iterator[bytes]:
        """Take out all records."""
        position = int(self._consumed[0])
        while position < int(self._produced[0]):
            at = mmap.PAGESIZE + (position & (self._size - 1))
            header = int.from_bytes(self._writer[at : at + 4], "little")
            if header & BUSY:
                return
            length = header & LENGTH_MASK
            record = self._writer[at + HEADER_BYTES : at + HEADER_BYTES + length]
            position += (HEADER_BYTES + length + 7) & ~7
            self._consumed[0] = position
            if not header & DISCARDED:
                yield record

    def close(self) -> None:
        """Unmap."""
        del self._consumed, self._produced
        self._reader.close()
        self._writer.close()
