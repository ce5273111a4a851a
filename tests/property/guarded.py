"""Frames whose end cannot be overread."""

from __future__ import annotations

import ctypes
import mmap


class GuardedFrame:
    """Memory whose last byte is the last of its page, with an unreadable page behind it."""

    SIZE = 16 * mmap.PAGESIZE

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SIZE + mmap.PAGESIZE)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        libc = ctypes.CDLL(None, use_errno=True)
        guard = ctypes.c_void_p(self._base + self.SIZE)
        assert libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0

    def put(self, frame: bytes) -> ctypes.c_void_p:
        """Lay a frame right before the guard page."""
        start = self.SIZE - len(frame)
        self._memory[start : self.SIZE] = frame
        return ctypes.c_void_p(self._base + start)
