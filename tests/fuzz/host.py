"""The programs as ordinary C, for frames that BPF_PROG_TEST_RUN does not take.

It refuses frames under 14 bytes, and what does not fit a page. Here any length goes.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from lb import abi
from tests.fuzz.host_build import build
from tests.fuzz.judge import TC_VERDICTS, XDP_VERDICTS
from tests.fuzz.offline import Offline
from tests.model import Config, Result

FORWARDER, REDIRECTOR = 0, 1
ROOM = 1 << 17


class _HostResult(ctypes.Structure):
    """struct host_result."""

    _fields_ = [
        ("verdict", ctypes.c_int32),
        ("counter", ctypes.c_int32),
        ("length", ctypes.c_uint32),
    ]


class Host:
    """Both programs in this process; no sockets, and no service counters."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(
            str(build("library.c", folder / "host.so", "cc", "-shared", "-fPIC"))
        )
        self._out = ctypes.create_string_buffer(ROOM)

    def configure(self, config: Config, fillers: tuple[int, ...] = ()) -> None:
        """Know all of a configuration, and nothing from earlier packets."""
        with Offline(config, fillers) as offline:
            state = offline.state()
            self._library.host_set_state(state, len(state))
            for index, slots in offline.tables().items():
                assert self._library.host_set_table(index, slots) == 0
        self._library.host_forget()

    def run(self, program: int, frame: bytes, *, linear: int = ROOM) -> Result:
        """What a program does with a frame, in the model's words, without its service.

        `linear` is how many bytes of it a socket buffer has in its linear part.
        """
        result = _HostResult()
        status = self._library.host_packet_through(
            program, frame, len(frame), linear, self._out, ROOM, ctypes.byref(result)
        )
        assert status == 0
        assert result.counter >= 0, "not one counter by one"
        verdict = (XDP_VERDICTS if program == FORWARDER else TC_VERDICTS)[result.verdict]
        data = None if verdict == "drop" else self._out.raw[: result.length]
        return Result(verdict, abi.COUNTERS[result.counter], data)
