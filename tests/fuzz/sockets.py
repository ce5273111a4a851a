"""Real sockets of a server, in a network namespace of their own, and the model's view of them.

The caller's thread moves into the namespace and stays there; the old one goes when the last socket
of it does. Ports and most sequence numbers are fixed, so that a seed makes the same packets again;
those of SYN cookies and of two connections are the kernel's.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Self

from netns.libc import unshare_network
from netns.polling import wait_until
from tests.fuzz import packets
from tests.fuzz.packets import TCP, UDP, Flow
from tests.fuzz.scene import SOCKET_VIPS
from tests.fuzz.traffic import ACK, SYN
from tests.model import Flow as ModelFlow
from tests.model import SocketState
from tests.model.encap import wrap_length
from tests.model.gue import PROTO_IPV6, GueHeader
from tests.model.headers import ETHERNET_LENGTH
from tests.model.packet import read_packet
from tests.model.sockets import numbers_fit
from tests.tcp_repair import RCV_NXT, SND_NXT, establish, numbers_of

Address = IPv4Address | IPv6Address

DEADLINE_SECONDS = 10
PORT = 80
DUAL_PORT = 443
"""Its listener is an IPv6 socket that takes IPv4 too, as many servers have them."""
UDP_PORT = 53
# addresses of `lo`, so that real connections exist
CLIENTS: tuple[Address, ...] = (IPv4Address("198.51.100.7"), IPv6Address("2001:db8:c::7"))
# behind a link without another host: nothing answers a SYN-ACK with a reset
SILENT: tuple[Address, ...] = (IPv4Address("198.51.100.200"), IPv6Address("2001:db8:5::200"))
ESTABLISHED_FROM, WAITING_FROM, HALF_OPEN_FROM, COOKIE_FROM, UDP_FROM = (
    40000,
    40100,
    41000,
    42000,
    5353,
)
SYN_SEQUENCE = 1000
"""Of packets that say nothing else (packets.py)."""
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ETH_P_ALL = 3
LINK, NOBODY = "quiet0", "02:00:00:00:00:99"
# where TCP begins
TCP_AT = {4: 20, 6: 40}
COOKIES = Path("/proc/sys/net/ipv4/tcp_syncookies")
COOKIES_ALWAYS = "2"
COOKIE_SIZES = 4


def tcp_of(frame: bytes) -> bytes | None:
    """The TCP segment inside GUE, as the model reads it; None for an error about one."""
    gue = GueHeader.parse(frame)
    inner = frame[ETHERNET_LENGTH + wrap_length(gue.hop_count) :]
    packet = read_packet(inner, 6 if gue.proto == PROTO_IPV6 else 4)
    if packet is None or packet.protocol != TCP:
        return None
    return inner[packet.upper_at :]


def model_flow(flow: Flow) -> ModelFlow:
    """A flow, as the model has them."""
    return ModelFlow(
        flow.protocol,
        *(ip_address(flow.source), flow.source_port),
        *(ip_address(flow.destination), flow.destination_port),
    )


def opening_key(flow: Flow) -> bytes:
    """The key of `lb_openings`: a struct bpf_sock_tuple."""
    ports = struct.pack(">HH", flow.source_port, flow.destination_port)
    return (flow.source + flow.destination + ports).ljust(36, b"\0")


@dataclass
class ServerSockets:
    """What sockets there are: an oracle for the model.

    `frame` is the frame that is asked about: whether it carries a valid SYN cookie, or is of an
    open connection, is written in its sequence and acknowledgement numbers, which a flow does not
    have. `numbers` are those of cookies and of open connections: the next that a client sends.
    `openings` are the SYNs that the redirector has to remember (wire.md, section 6.5).
    """

    flows: dict[Flow, SocketState] = field(default_factory=dict)
    listening: set[tuple[bytes, int]] = field(default_factory=set)
    unconnected: set[tuple[bytes, int]] = field(default_factory=set)
    numbers: dict[Flow, tuple[int, int]] = field(default_factory=dict)
    openings: dict[Flow, int] = field(default_factory=dict)
    frame: bytes = b""

    def lookup(
        self,
        protocol: int,
        source: Address,
        source_port: int,
        destination: Address,
        destination_port: int,
    ) -> SocketState:
        """The state of the socket that would receive a packet of this flow."""
        flow = Flow(protocol, source.packed, source_port, destination.packed, destination_port)
        if flow in self.flows:
            return self._with_numbers(flow, self.flows[flow])
        local = (destination.packed, destination_port)
        if protocol == UDP:
            found = local in self.unconnected
            return SocketState.UDP_UNCONNECTED if found else SocketState.NONE
        if local not in self.listening:
            return SocketState.NONE
        return SocketState.LISTEN_COOKIE if self._has_cookie(flow) else SocketState.LISTEN

    def _with_numbers(self, flow: Flow, state: SocketState) -> SocketState:
        """An open connection is another one for packets whose numbers do not fit."""
        segment = tcp_of(self.frame)
        if state is not SocketState.KNOWN or segment is None:
            return state
        sequence, acknowledgement = struct.unpack_from(">II", segment, 4)
        fit = numbers_fit(sequence, acknowledgement, segment[13], *self.numbers[flow])
        return SocketState.KNOWN if fit else SocketState.OTHER_NUMBERS

    def _has_cookie(self, flow: Flow) -> bool:
        """Whether the frame's numbers are those of the cookie.

        The kernel checks their difference, and reads an index of four maximum segment sizes out of
        its last bits (net/ipv4/syncookies.c): ours, of a SYN without options, is 0, and so three
        numbers beside the right one are cookies too.
        """
        if flow not in self.numbers:
            return False
        sequence, acknowledgement = self.numbers[flow]
        ports = struct.pack(">HH", flow.source_port, flow.destination_port)
        at = self.frame.find(ports)
        while at >= 0 and at + 12 <= len(self.frame):
            theirs = struct.unpack_from(">II", self.frame, at + 4)
            beside = (theirs[1] - theirs[0]) - (acknowledgement - sequence)
            if beside % (1 << 32) < COOKIE_SIZES:
                return True
            at = self.frame.find(ports, at + 1)
        return False

    def aimed(self) -> list[tuple[Flow, tuple[int, int]]]:
        """Every flow with a socket or a cookie, in a fixed order, and its TCP numbers."""
        both = sorted({*self.flows, *self.numbers})
        return [(flow, self.numbers.get(flow, (1000, 2000))) for flow in both]


class RealServer:
    """Opens the sockets; a context manager that closes them."""

    def __init__(self) -> None:
        self.table = ServerSockets()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        unshare_network()
        configure_network()
        try:
            for vip, client, silent in zip(SOCKET_VIPS, CLIENTS, SILENT, strict=True):
                listener = self._listen(vip, PORT)
                self._connections(listener, vip, client)
                self._half_open(vip, silent)
                self._udp(vip, client)
            self._dual_stack()
            COOKIES.write_text(COOKIES_ALWAYS, encoding="ascii")
            for vip, silent in zip(SOCKET_VIPS, SILENT, strict=True):
                self._cookies(vip, silent)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _socket(self, version: int, kind: socket.SocketKind) -> socket.socket:
        made = self._open.enter_context(socket.socket(FAMILIES[version], kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(DEADLINE_SECONDS)
        return made

    def _listen(self, vip: Address, port: int) -> socket.socket:
        listener = self._socket(vip.version, socket.SOCK_STREAM)
        listener.bind((str(vip), port))
        listener.listen()
        self.table.listening.add((vip.packed, port))
        return listener

    def _connect(
        self, listener: socket.socket, to: tuple[Address, int], client: Address, port: int
    ) -> None:
        """An established connection."""
        connected = self._socket(client.version, socket.SOCK_STREAM)
        connected.bind((str(client), port))
        connected.connect((str(to[0]), to[1]))
        served, _ = listener.accept()
        self._open.enter_context(served)
        self._known(Flow(TCP, client.packed, port, to[0].packed, to[1]), numbers_of(served))

    def _known(self, flow: Flow, numbers: tuple[int, int] = (RCV_NXT, SND_NXT)) -> None:
        self.table.flows[flow] = SocketState.KNOWN
        self.table.numbers[flow] = numbers

    def _connections(self, listener: socket.socket, vip: Address, client: Address) -> None:
        """Of most there is only the server's end, with numbers that are the same in each run."""
        for port in range(ESTABLISHED_FROM, ESTABLISHED_FROM + 3):
            alone = self._socket(vip.version, socket.SOCK_STREAM)
            establish(alone, (str(vip), PORT), (str(client), port))
            self._known(Flow(TCP, client.packed, port, vip.packed, PORT))
        self._time_wait(listener, vip, client)

    def _time_wait(self, listener: socket.socket, vip: Address, client: Address) -> None:
        """A connection that the server closed first."""
        with socket.socket(FAMILIES[vip.version], socket.SOCK_STREAM) as leaving:
            leaving.settimeout(DEADLINE_SECONDS)
            leaving.bind((str(client), WAITING_FROM))
            leaving.connect((str(vip), PORT))
            served, _ = listener.accept()
            served.close()
            leaving.recv(1)
        flow = Flow(TCP, client.packed, WAITING_FROM, vip.packed, PORT)
        self.table.flows[flow] = SocketState.TIME_WAIT

    def _half_open(self, vip: Address, silent: Address) -> None:
        """Handshakes whose SYN-ACKs get no answer; the redirector remembers one's SYN."""
        for port in (HALF_OPEN_FROM, HALF_OPEN_FROM + 1):
            flow = Flow(TCP, silent.packed, port, vip.packed, PORT)
            syn_ack_for(flow)
            self.table.flows[flow] = SocketState.REQUEST
        self.table.openings[flow] = SYN_SEQUENCE

    def _cookies(self, vip: Address, silent: Address) -> None:
        """Handshakes of which the server keeps no state: all of it is in the SYN-ACK."""
        for port in (COOKIE_FROM, COOKIE_FROM + 1):
            flow = Flow(TCP, silent.packed, port, vip.packed, PORT)
            cookie = syn_ack_for(flow)
            self.table.numbers[flow] = (1001, (cookie + 1) & 0xFFFFFFFF)

    def _udp(self, vip: Address, client: Address) -> None:
        """Connected sockets, one beside an unconnected one on the same port."""
        for port, local in ((UDP_FROM, UDP_PORT), (UDP_FROM + 1, PORT)):
            connected = self._socket(vip.version, socket.SOCK_DGRAM)
            connected.bind((str(vip), local))
            connected.connect((str(client), port))
            flow = Flow(UDP, client.packed, port, vip.packed, local)
            self.table.flows[flow] = SocketState.UDP_CONNECTED
        unconnected = self._socket(vip.version, socket.SOCK_DGRAM)
        unconnected.bind((str(vip), UDP_PORT))
        self.table.unconnected.add((vip.packed, UDP_PORT))

    def _dual_stack(self) -> None:
        """IPv4 connections whose sockets are IPv6 ones."""
        listener = self._socket(6, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", DUAL_PORT))
        listener.listen()
        for vip, client in zip(SOCKET_VIPS, CLIENTS, strict=True):
            self.table.listening.add((vip.packed, DUAL_PORT))
            self._connect(listener, (vip, DUAL_PORT), client, ESTABLISHED_FROM)
        vip, client = SOCKET_VIPS[0], CLIENTS[0]
        connected = self._socket(6, socket.SOCK_DGRAM)
        connected.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        connected.bind((f"::ffff:{vip}", DUAL_PORT))
        connected.connect((f"::ffff:{client}", UDP_FROM))
        flow = Flow(UDP, client.packed, UDP_FROM, vip.packed, DUAL_PORT)
        self.table.flows[flow] = SocketState.UDP_CONNECTED


def configure_network() -> None:
    """Give `lo` the addresses of both ends, and the silent ones a link without an end."""
    lines = ["link set lo up", f"link add {LINK} type veth peer name quiet1"]
    lines += [f"link set {LINK} up", "link set quiet1 up"]
    for address in (*SOCKET_VIPS, *CLIENTS):
        suffix = "/32" if address.version == 4 else "/128 nodad"
        lines.append(f"address add {address}{suffix} dev lo")
    for address in SILENT:
        lines.append(f"route add {address} dev {LINK}")
        lines.append(f"neighbour add {address} lladdr {NOBODY} dev {LINK}")
    subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, capture_output=True
    )
    for vip, *others in zip(SOCKET_VIPS, CLIENTS, SILENT, strict=True):
        for other in others:
            wait_for_route(vip, other)


def wait_for_route(source: Address, destination: Address) -> None:
    """An IPv6 address is of use only once a worker of the kernel has seen to it.

    Raises:
        NotInTimeError: it still is not after the deadline.

    """

    def is_of_use() -> bool:
        with socket.socket(FAMILIES[source.version], socket.SOCK_DGRAM) as tried:
            try:
                tried.bind((str(source), 0))
                tried.connect((str(destination), 9))
            except OSError:
                return False
        return True

    wait_until(is_of_use, f"{source} reaches {destination}", DEADLINE_SECONDS)


def syn_ack_for(flow: Flow) -> int:
    """Send a SYN in a client's name; the sequence number of the answer, seen on the link."""
    version = flow.version
    kind = ETH_P_ALL  # what leaves is shown to those who want to see everything
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(kind)) as watcher:
        watcher.bind((LINK, kind))
        watcher.settimeout(DEADLINE_SECONDS)
        send_raw(flow, packets.tcp(flow, SYN))
        at = TCP_AT[version]
        wanted = flow.turned()
        while True:
            seen = watcher.recv(2048)
            ports = (wanted.source_port, wanted.destination_port)
            if seen[at : at + 4] == struct.pack(">HH", *ports) and seen[at + 13] == SYN | ACK:
                return int(struct.unpack_from(">I", seen, at + 4)[0])


def send_raw(flow: Flow, segment: bytes) -> None:
    """Send a packet with a source address that is not ours."""
    packet = packets.ip(flow, segment)
    with socket.socket(FAMILIES[flow.version], socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        sender.sendto(packet, (str(ip_address(flow.destination)), 0))
