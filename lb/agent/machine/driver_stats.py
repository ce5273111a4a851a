"""The statistics of an interface's driver, as `ethtool -S` shows them (linux/ethtool.h)."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Mapping

from lb.agent.machine.ethtool import REQUEST, SIOCETHTOOL

ETHTOOL_GDRVINFO, ETHTOOL_GSTRINGS, ETHTOOL_GSTATS = 0x03, 0x1B, 0x1D
ETH_SS_STATS = 1
DRIVER_INFO_BYTES = 196
DRIVER = slice(4, 36)
COUNT = struct.Struct("=I")
COUNT_AT = 180
"""Where struct ethtool_drvinfo has the driver's name and its number of statistics."""
STRINGS = struct.Struct("=III")
STRING_BYTES = 32
STATS = struct.Struct("=II")
SPARE = 4096
"""The kernel writes as many statistics as there are now, whatever the size of the buffer: queues
may have been added since it was asked for the number."""


class DriverStats:
    """Reads the statistics of one interface, again and again."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._names: list[str] = []
        self.driver = ""
        """The driver's name, once ``read`` was called."""

    def read(self) -> Mapping[str, int]:
        """Return all statistics by name; none if the driver has none.

        Raises:
            OSError: the interface is gone, or its driver does not support ethtool.
            InterruptedError: queues were added or removed just now.

        """
        information = self._ask(struct.pack("=I", ETHTOOL_GDRVINFO), DRIVER_INFO_BYTES)
        self.driver = _text(information[DRIVER])
        count = COUNT.unpack_from(information, COUNT_AT)[0]
        if count != len(self._names):
            self._names = self._read_names(count)
        answer = self._ask(STATS.pack(ETHTOOL_GSTATS, count), STATS.size + 8 * (count + SPARE))
        _, found = STATS.unpack_from(answer)
        if found != count:
            raise InterruptedError(f"the statistics of {self._interface} changed their number")
        values = struct.unpack_from(f"={count}Q", answer, STATS.size)
        return dict(zip(self._names, values, strict=True))

    def _read_names(self, count: int) -> list[str]:
        request = STRINGS.pack(ETHTOOL_GSTRINGS, ETH_SS_STATS, count)
        answer = self._ask(request, STRINGS.size + STRING_BYTES * (count + SPARE))
        starts = range(STRINGS.size, STRINGS.size + STRING_BYTES * count, STRING_BYTES)
        return [_text(answer[start : start + STRING_BYTES]) for start in starts]

    def _ask(self, request: bytes, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(request, size)
        packed = REQUEST.pack(self._interface.encode(), ctypes.addressof(buffer))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, SIOCETHTOOL, packed)
        return buffer.raw


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")
