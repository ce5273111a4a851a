"""The raw sockets of path probes: one to send, one for answers, one for ICMP errors.

Anybody can forge an error about our packets. A socket's buffer holds only some 250 packets, so
errors have a buffer of their own, in which they push out no answer.
"""

from __future__ import annotations

import ctypes
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address

from lb.agent.path.packet import TOKEN_BYTES, Filter, Probe, answer_filter, error_filter, wrapped

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
"""Send what fits the interface, whatever the kernel believes of the path (ip(7))."""
SO_ATTACH_FILTER = 26
KEPT_BYTES = 128
MOST_READ = 1024
"""Answers read at one time; the rest stays in the socket's buffer."""
MOST_ERRORS = 64
"""The same for errors, which are only hints."""


class ProbeSockets:
    """Sends probes from the DIP and receives what comes back. A random identifier is its own.

    Raises ``OSError``: the DIP is not on this machine, or raw sockets are not allowed.
    """

    def __init__(
        self,
        own: IPv4Address,
        gue_port: int,
        token: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.own = own
        self.gue_port = gue_port
        self._token = token
        self._identifier = 1 + secrets.randbelow(0xFFFF)
        self._sequence = 0
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._answers = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._errors = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        try:
            self._out.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            _attach(self._answers, answer_filter(self._identifier))
            _attach(self._errors, error_filter(own, gue_port))
            for one in (self._out, self._answers, self._errors):
                one.setblocking(False)  # noqa: FBT003 - the name of the call explains it
                one.bind((str(own), 0))
        except OSError:
            self.close()
            raise

    def make(self, target: IPv4Address, size: int) -> Probe:
        """Return a probe with a fresh token."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        return Probe(
            source=self.own,
            target=target,
            identifier=self._identifier,
            sequence=self._sequence,
            token=self._token(TOKEN_BYTES),
            size=size,
            spread=secrets.randbits(15),
        )

    def send(self, probe: Probe) -> None:
        """Send a probe. Raises ``OSError``: this machine cannot."""
        self._out.sendto(wrapped(probe, self.gue_port), (str(probe.target), 0))

    def received(self) -> Iterator[bytes]:
        """Yield the answers that have arrived, then some of the errors. Never blocks."""
        for one, most in ((self._answers, MOST_READ), (self._errors, MOST_ERRORS)):
            with suppress(BlockingIOError):
                for _ in range(most):
                    yield one.recv(KEPT_BYTES)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when an answer arrives.

        Errors wait for the next round: they shall not cause any.
        """
        return self._answers.fileno()

    def close(self) -> None:
        """Close all sockets."""
        for one in (self._out, self._answers, self._errors):
            one.close()


def _attach(receiver: socket.socket, program: Filter) -> None:
    """Put a classic BPF filter on a socket (socket(7), linux/filter.h)."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
