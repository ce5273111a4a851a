"""A program in the kernel, run on one frame at a time: verdict, frame, counter, service, window.

Written for a million packets: buffers are made once, and all counters are read with one system call
(BPF_MAP_LOOKUP_BATCH on a per-CPU array, Linux 5.13) before and after each packet.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps.counters import possible_cpus

MAP_LOOKUP_BATCH = 24
MAP_GET_NEXT_KEY = 4
ROOM = 8192
WINDOW_SHIFT = 26
"""docs/wire.md, section 4.5: windows of about 67 ms."""


class CountersError(AssertionError):
    """The counters changed in a way that no single packet can cause."""


def window_now() -> int:
    """The window of too-big answers that a packet would be in."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> WINDOW_SHIFT


def _buffer(size: int) -> Any:
    return ctypes.create_string_buffer(size)


class PerCpuArray:
    """The first elements of a per-CPU array of u64 words, read at once: what grew, on any CPU."""

    def __init__(self, fd: int, count: int, words: int) -> None:
        self._words = words
        self._words_of_all_cpus = words * possible_cpus()
        self._keys, self._at = _buffer(4 * count), _buffer(4)
        values = _buffer(8 * self._words_of_all_cpus * count)
        self._now: NDArray[np.uint64] = np.frombuffer(values, dtype="<u8")
        self._request = struct.pack(
            "=QQQQIIQQ",
            *(0, ctypes.addressof(self._at)),
            *(ctypes.addressof(self._keys), ctypes.addressof(values)),
            *(count, fd, 0, 0),
        )
        self._attribute = _buffer(len(self._request))
        self._read()
        self._last = self._now.copy()

    def _read(self) -> None:
        # the kernel writes into the attribute
        ctypes.memmove(self._attribute, self._request, len(self._request))
        bpf_syscall.bpf(MAP_LOOKUP_BATCH, self._attribute)

    def growth(self) -> dict[int, list[int]]:
        """Elements that changed since the last call, and by how much in each word."""
        self._read()
        grown: dict[int, list[int]] = {}
        for place in np.flatnonzero(self._now != self._last).tolist():
            by = grown.setdefault(place // self._words_of_all_cpus, [0] * self._words)
            by[place % self._words] += int(self._now[place]) - int(self._last[place])
            self._last[place] = self._now[place]
        return grown


@dataclass(frozen=True)
class Seen:
    """What a program did with a frame. `windows` are those before and after it ran."""

    retval: int
    data: bytes
    counter: str
    service: int | None
    windows: tuple[int, int]


class Program:
    """One loaded program with the counters that it may touch."""

    def __init__(
        self, fd: int, names: Sequence[str], counters: PerCpuArray, services: PerCpuArray
    ) -> None:
        self._fd, self._names = fd, names
        self._counters, self._services = counters, services
        self._in, self._out, self._attribute = _buffer(ROOM), _buffer(ROOM), _buffer(80)

    def run(self, frame: bytes) -> Seen:
        """Run the program once.

        Raises:
            CountersError: not exactly one verdict counter grew, by one, or services grew oddly.

        """
        ctypes.memmove(self._in, frame, len(frame))
        struct.pack_into(
            "=IIIIQQIIIIQQIII", self._attribute, 0,
            *(self._fd, 0, len(frame), ROOM),
            *(ctypes.addressof(self._in), ctypes.addressof(self._out), 1, 0),
            *(0, 0, 0, 0, 0, 0, 0),
        )  # fmt: skip
        before = window_now()
        bpf_syscall.bpf(bpf_syscall.PROG_TEST_RUN, self._attribute)
        after = window_now()
        _, retval, _, length = struct.unpack_from("=IIII", self._attribute)
        data = ctypes.string_at(self._out, length)
        return Seen(retval, data, self._counter(), self._service(len(frame)), (before, after))

    def _counter(self) -> str:
        grown = self._counters.growth()
        if list(grown.values()) != [[1]]:
            named = {self._names[index]: by for index, by in grown.items()}
            raise CountersError(f"verdict counters: {named}")
        return self._names[next(iter(grown))]

    def _service(self, length: int) -> int | None:
        grown = self._services.growth()
        if not grown:
            return None
        if list(grown.values()) != [[1, length]]:
            raise CountersError(f"service counters, for {length} bytes: {grown}")
        return next(iter(grown))


def map_read(fd: int, key: bytes, size: int) -> bytes:
    """The value of so many bytes under a key."""
    value = ctypes.create_string_buffer(size)
    _with_element(bpf_syscall.MAP_LOOKUP_ELEM, fd, key, value)
    return value.raw


def map_write(fd: int, key: bytes, value: bytes) -> None:
    """Write a value under a key."""
    _with_element(bpf_syscall.MAP_UPDATE_ELEM, fd, key, ctypes.create_string_buffer(value))


def first_key(fd: int) -> bytes:
    """Some key of a hash map that is not empty."""
    key = ctypes.create_string_buffer(bpf_syscall.map_info(fd).key_size)
    attribute = _buffer(32)
    struct.pack_into("=IIQQQ", attribute, 0, fd, 0, 0, ctypes.addressof(key), 0)
    bpf_syscall.bpf(MAP_GET_NEXT_KEY, attribute)
    return key.raw


def _with_element(command: int, fd: int, key: bytes, value: ctypes.Array[ctypes.c_char]) -> None:
    held, attribute = ctypes.create_string_buffer(key, len(key)), _buffer(32)
    addresses = (ctypes.addressof(held), ctypes.addressof(value))
    struct.pack_into("=IIQQQ", attribute, 0, fd, 0, *addresses, 0)
    bpf_syscall.bpf(command, attribute)


def clear_map(fd: int) -> None:
    """Delete every element of a hash map."""
    key = _buffer(bpf_syscall.map_info(fd).key_size)
    attribute = _buffer(32)
    while True:
        try:
            struct.pack_into("=IIQQQ", attribute, 0, fd, 0, 0, ctypes.addressof(key), 0)
            bpf_syscall.bpf(MAP_GET_NEXT_KEY, attribute)
        except FileNotFoundError:
            return
        struct.pack_into("=IIQQQ", attribute, 0, fd, 0, ctypes.addressof(key), 0, 0)
        bpf_syscall.bpf(bpf_syscall.MAP_DELETE_ELEM, attribute)
