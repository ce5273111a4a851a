"""The programs as ordinary C, for frames that BPF_PROG_TEST_RUN does not take.

It refuses frames under 14 bytes, and what does not fit a page. Here any length goes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

from lb import abi
from tests.fuzz.host_build import build
from tests.fuzz.judge import TC_VERDICTS, XDP_VERDICTS
from tests.fuzz.offline import Offline
from tests.host_compiler import compiler
from tests.model import Config, Result, SocketState
from tests.tcp_repair import RCV_NXT, SND_NXT

FORWARDER, REDIRECTOR = 0, 1
ROOM = 1 << 17


class _HostResult(ctypes.Structure):
    """struct host_result."""

    _fields_ = [
        ("verdict", ctypes.c_int32),
        ("counter", ctypes.c_int32),
        ("length", ctypes.c_uint32),
    ]


# a socket's state, as the kernel counts them, and whether a packet carries a valid cookie
ESTABLISHED, TIME_WAIT, CLOSE, LISTEN, REQUEST = 1, 6, 7, 10, 12
OTHER = RCV_NXT + (1 << 31)
SOCKETS: Mapping[SocketState, tuple[int, bool]] = {
    SocketState.NONE: (0, False),
    SocketState.LISTEN: (LISTEN, False),
    SocketState.LISTEN_COOKIE: (LISTEN, True),
    SocketState.TIME_WAIT: (TIME_WAIT, False),
    SocketState.REQUEST: (REQUEST, False),
    SocketState.KNOWN: (ESTABLISHED, False),
    SocketState.OTHER_NUMBERS: (ESTABLISHED, False),
    SocketState.UDP_CONNECTED: (ESTABLISHED, False),
    SocketState.UDP_UNCONNECTED: (CLOSE, False),
}


class Host:
    """Both programs in this process; every flow has the same socket, or none."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(
            str(build("library.c", folder / "host.so", compiler(), "-shared", "-fPIC"))
        )
        self._out = ctypes.create_string_buffer(ROOM)
        self._config: Config | None = None
        self._places: dict[int, int] = {}

    def configure(self, config: Config, fillers: tuple[int, ...] = ()) -> None:
        """Know all of a configuration; what is remembered of packets stays."""
        if config == self._config and not fillers:
            return
        with Offline(config, fillers) as offline:
            state = offline.state()
            self._library.host_set_state(state, len(state))
            for index, slots in offline.tables().items():
                assert self._library.host_set_table(index, slots) == 0
            self._places = offline.places()
        self._config = None if fillers else config

    def forget(self) -> None:
        """Remember nothing of earlier packets."""
        self._library.host_forget()

    def run(
        self,
        program: int,
        frame: bytes,
        *,
        linear: int = ROOM,
        state: SocketState = SocketState.NONE,
    ) -> Result:
        """What a program does with a frame, in the model's words.

        `linear` is the length of the socket buffer's linear part, `state` every flow's socket.
        """
        result = _HostResult()
        self._library.host_set_socket(*SOCKETS[state])
        rcv_nxt = OTHER if state is SocketState.OTHER_NUMBERS else RCV_NXT
        self._library.host_set_numbers(ctypes.c_uint32(rcv_nxt), ctypes.c_uint32(SND_NXT))
        status = self._library.host_packet_through(
            program, frame, len(frame), linear, self._out, ROOM, ctypes.byref(result)
        )
        assert status == 0
        assert result.counter >= 0, "not one counter by one"
        verdict = (XDP_VERDICTS if program == FORWARDER else TC_VERDICTS)[result.verdict]
        data = None if verdict == "drop" else self._out.raw[: result.length]
        return Result(verdict, abi.COUNTERS[result.counter], data, self._service(len(frame)))

    def _service(self, length: int) -> int | None:
        """The place in the configuration of the service that has counted the frame."""
        index = self._library.host_service(ctypes.c_uint64(length))
        assert index >= -1, "services: not one packet of this length"
        return None if index == -1 else self._places[index]
