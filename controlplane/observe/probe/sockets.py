"""Sends probes and receives their answers by raw sockets, without blocking."""

from __future__ import annotations

import ctypes
import errno
import random
import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import structlog

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Address
from controlplane.observe.probe.packet import (
    ACK,
    RST,
    SYN,
    Probe,
    ProbeAnswer,
    parse_answer,
    parse_segment,
    wrapped,
)

FIRST_PORT, LAST_PORT = 32768, 60999
"""Source ports of probes: Linux's default range for outgoing connections."""
MOST_READ = 4096
"""Segments read at one time; the rest stays in the socket's buffer."""
SO_ATTACH_FILTER = 26
DISCARD_PORT = 9
"""For a socket that is connected and sends nothing (RFC 863)."""
ACCEPT_LOCAL = Path("/proc/sys/net/ipv4/conf/all/accept_local")
_BY_FLAGS = (
    (0x45, 0, 2, ACK),  # no ACK: refuse
    (0x45, 0, 1, SYN | RST),  # neither SYN nor RST: refuse
    (0x06, 0, 0, 128),  # keep so many bytes
    (0x06, 0, 0, 0),  # refuse
)
ANSWERS_ONLY = (
    (0xB1, 0, 0, 0),  # x = length of the IP header
    (0x50, 0, 0, 13),  # a = TCP flags, at x + 13
    *_BY_FLAGS,
)
ANSWERS6_ONLY = (
    (0x30, 0, 0, 13),  # a = TCP flags: a raw IPv6 socket gets no IP header
    *_BY_FLAGS,
)
"""A classic BPF program (code, jt, jf, k) that keeps SYN-ACKs and RSTs. A raw socket gets all TCP
segments of this machine: those of agents at a store would push answers out of its buffer."""


class NoProber(BrigadeError):
    """This machine cannot probe; the message names what is missing."""


class Prober:
    """Probes by raw sockets: needs CAP_NET_RAW, and ``address`` on this machine.

    The loop owns it and closes it.
    """

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
        self._in6 = _ipv6_receiver()
        _attach(self._in, ANSWERS_ONLY)
        self._in.setblocking(False)  # noqa: FBT003 - the name of the call explains it
        self._out.setblocking(False)  # noqa: FBT003
        try:
            self._in.bind((str(address), 0))
        except OSError as error:
            self.close()
            raise NoProber(f"prober {address} is not an address of this machine: {error}") from None

    def source(self, vip: Address) -> Address | None:
        """Return the source address of a probe of this VIP.

        ``None`` without a route to it, or if this machine would drop the answer.
        """
        if isinstance(vip, IPv6Address) and self._in6 is None:
            return None
        return probe_source(vip, self.address)

    def send(self, dip: IPv4Address, vip: Address, vip_port: int) -> Probe | None:
        """Send one probe with a random source port and number; ``None`` if it cannot be sent."""
        source = self.source(vip)
        if source is None:
            return None
        probe = Probe(
            dip=dip,
            vip=vip,
            vip_port=vip_port,
            prober=self.address,
            source=source,
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

    def received(self) -> Sequence[ProbeAnswer]:
        """Return the SYN-ACKs and RSTs since the last call; never blocks."""
        found = [parse_answer(packet) for packet, _ in _queued(self._in)]
        if self._in6:
            found += [parse_segment(seg, IPv6Address(src[0])) for seg, src in _queued(self._in6)]
        return [answer for answer in found if answer]

    def close(self) -> None:
        """Close the sockets."""
        for owned in (self._out, self._in, self._in6):
            if owned:
                owned.close()


def _queued(receiver: socket.socket) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Yield the packets that have arrived, with their senders. Never blocks."""
    for _ in range(MOST_READ):
        try:
            yield receiver.recvfrom(128)
        except BlockingIOError:
            return


def probe_source(vip: Address, prober: IPv4Address) -> Address | None:
    """Return the address from which this machine probes a VIP, ``None`` if it gets no answers."""
    if isinstance(vip, IPv4Address):
        return None if drops_answers_from(vip) else prober
    return source_towards(vip)


def drops_answers_from(vip: IPv4Address) -> bool:
    """Whether this machine has the VIP itself, being a server too, and drops packets from it.

    A packet from outside whose source is a local address is a martian to the kernel, unless
    ``accept_local`` is set (ip-sysctl in the kernel's documentation).
    """
    try:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as one:
            one.connect((str(vip), DISCARD_PORT))  # looks up the route and sends nothing
            is_local = one.getsockname()[0] == str(vip)
    except OSError:
        return False
    return is_local and ACCEPT_LOCAL.read_text(encoding="ascii").strip() == "0"


def source_towards(vip: IPv6Address) -> IPv6Address | None:
    """Return this machine's source address for an IPv6 VIP, by its routes; ``None`` without one.

    Connecting a UDP socket looks up the route and sends nothing (connect(2)). A link-local or
    loopback address does not count: servers could not answer to it.
    """
    try:
        with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as one:
            one.connect((str(vip), DISCARD_PORT))
            found = IPv6Address(one.getsockname()[0].partition("%")[0])
    except OSError:
        return None
    return None if found.is_link_local or found.is_loopback or found == vip else found


def _ipv6_receiver() -> socket.socket | None:
    """Open the socket that receives IPv6 answers, ``None`` if the kernel has no IPv6."""
    try:
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            return None
        raise
    _attach(receiver, ANSWERS6_ONLY)
    receiver.setblocking(False)  # noqa: FBT003
    return receiver


def _attach(receiver: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Put a classic BPF filter on a socket (socket(7), linux/filter.h)."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def open_prober(addresses: Collection[IPv4Address], gue_port: int) -> Prober:
    """Open a prober from the first of these addresses that is this machine's.

    Raises ``NoProber``: none of them is, or raw sockets are not allowed.
    """
    reasons = []
    for address in addresses:
        try:
            return Prober(address, gue_port, random.SystemRandom())
        except NoProber as error:
            reasons.append(str(error))
    raise NoProber("; ".join(dict.fromkeys(reasons)) or "no probers are configured")
