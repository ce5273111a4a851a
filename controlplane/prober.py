"""Sending probes and hearing their answers, by raw sockets, without ever waiting."""

from __future__ import annotations

import ctypes
import random
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address

import structlog

from controlplane.errors import BrigadeError
from controlplane.probe import ACK, RST, SYN, Answer, Probe, parse_answer, wrapped

FIRST_PORT, LAST_PORT = 32768, 60999
"""Source ports of probes: Linux's default range for outgoing connections."""
MOST_READ = 4096
"""Segments read at one time; the rest waits in the socket's buffer."""
SO_ATTACH_FILTER = 26
ANSWERS_ONLY = (
    (0xB1, 0, 0, 0),  # x = length of the IP header
    (0x50, 0, 0, 13),  # a = TCP flags, at x + 13
    (0x45, 0, 2, ACK),  # no ACK: refuse
    (0x45, 0, 1, SYN | RST),  # neither SYN nor RST: refuse
    (0x06, 0, 0, 128),  # keep so many bytes
    (0x06, 0, 0, 0),  # refuse
)
"""A classic BPF program (code, jt, jf, k) that keeps SYN-ACKs and RSTs. A raw socket gets all TCP
segments of this machine: those of agents at a store would push answers out of its buffer."""


class NoProber(BrigadeError):
    """This machine cannot probe; the message says what is missing."""


class Prober(ABC):
    """Sends probes from one address. The loop owns it and closes it."""

    address: IPv4Address

    @abstractmethod
    def send(self, dip: IPv4Address, vip: IPv4Address, vip_port: int) -> Probe | None:
        """Send one probe; ``None`` if this machine could not, which proves nothing."""

    @abstractmethod
    def received(self) -> Sequence[Answer]:
        """Return what came in since the last call; never blocks."""

    @abstractmethod
    def close(self) -> None:
        """Release the sockets."""


class RawProber(Prober):
    """The real one: needs CAP_NET_RAW, and ``address`` on this machine."""

    def __init__(self, address: IPv4Address, gue_port: int, rng: random.Random) -> None:
        self.address = address
        self._gue_port = gue_port
        self._rng = rng
        self._log = structlog.get_logger()
        try:
            self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._in = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        except PermissionError:
            raise NoProber("probing needs root or CAP_NET_RAW") from None
        _attach(self._in, ANSWERS_ONLY)
        self._in.setblocking(False)  # noqa: FBT003 - the name of the call says it
        self._out.setblocking(False)  # noqa: FBT003
        try:
            self._in.bind((str(address), 0))
        except OSError as error:
            self.close()
            raise NoProber(f"prober {address} is no address of this machine: {error}") from None

    def send(self, dip: IPv4Address, vip: IPv4Address, vip_port: int) -> Probe | None:
        """Send one probe with a random source port and sequence number."""
        probe = Probe(
            dip=dip,
            vip=vip,
            vip_port=vip_port,
            prober=self.address,
            port=self._rng.randint(FIRST_PORT, LAST_PORT),
            isn=self._rng.getrandbits(32),
            spread=self._rng.getrandbits(15),
        )
        try:
            self._out.sendto(wrapped(probe, self._gue_port), (str(dip), 0))
        except OSError as error:
            self._log.warning("probe not sent", about=str(dip), reason=str(error))
            return None
        return probe

    def received(self) -> Sequence[Answer]:
        """Return the SYN-ACKs and RSTs that came in since the last call."""
        found: deque[Answer] = deque()
        for _ in range(MOST_READ):
            try:
                packet = self._in.recv(128)
            except BlockingIOError:
                break
            answer = parse_answer(packet)
            if answer:
                found.append(answer)
        return found

    def close(self) -> None:
        """Close both sockets."""
        self._out.close()
        self._in.close()


def _attach(receiver: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Put a classic BPF filter on a socket (socket(7), linux/filter.h)."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def open_prober(addresses: Collection[IPv4Address], gue_port: int) -> RawProber:
    """Open a prober from the first of these addresses that is this machine's.

    Raises:
        NoProber: none is, or raw sockets are not allowed.

    """
    reasons = []
    for address in addresses:
        try:
            return RawProber(address, gue_port, random.SystemRandom())
        except NoProber as error:
            reasons.append(str(error))
    raise NoProber("; ".join(dict.fromkeys(reasons)) or "no probers are configured")
