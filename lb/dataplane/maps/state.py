"""The map `lb_state` in this process's memory, and how its words are written.

**Words.** A field that packets must see change at once (`view`, a pool's `word`, a DIP's two words)
is one aligned 64-bit integer. numpy writes an element of an aligned uint64 array with one store
instruction, so no reader sees a half-written word. Stores become visible in the order they were
made (x86-64; the interpreter executes so much in between that no compiler can reorder them), so the
data that a word selects is written first and the word last.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi


class MappedArray:
    """The values of a BPF_F_MMAPABLE array map as a numpy array."""

    def __init__(self, fd: int, dtype: Any, count: int, *, writable: bool = True) -> None:
        length = dtype.itemsize * count
        rounded = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._memory = mmap.mmap(fd, rounded, mmap.MAP_SHARED, protection)
        self.values: NDArray[Any] = np.frombuffer(self._memory, dtype=dtype, count=count)

    def close(self) -> None:
        """Unmap; the memory stays as long as other code still holds views of it."""
        del self.values
        try:
            self._memory.close()
        except BufferError:
            return  # unmapped with the last view


class State:
    """`struct lb_state`, field by field."""

    def __init__(self, fd: int, *, writable: bool = True) -> None:
        self._mapped = MappedArray(fd, abi.STATE, 1, writable=writable)
        value = self._mapped.values[0]
        self.config: Any = value["config"]
        self.pools: NDArray[Any] = value["pool"]
        self.dips: NDArray[Any] = value["dip"]
        self.peers: NDArray[Any] = value["peer"]["entry"]
        self.services: NDArray[Any] = value["service"]
        self.vip_filter: NDArray[Any] = value["first_lookup"]["filter"]
        self.exact: NDArray[Any] = value["first_lookup"]["exact"]
        self.vips: NDArray[Any] = value["vips"]
        self.names: NDArray[Any] = value["name"]
        # a DIP's two words: address with checksum part, MAC
        self.dip_words: NDArray[np.uint64] = self.dips.view("<u8").reshape(abi.MAX_DIPS, 2)

    @property
    def view(self) -> int:
        """The word that selects half and hash of all look-up tables."""
        return int(self.config["view"])

    @property
    def half(self) -> int:
        """The half in use."""
        return self.view & 1

    def close(self) -> None:
        """Unmap."""
        mapped = self._mapped
        vars(self).clear()  # the views of the memory, which keep it mapped
        mapped.close()
