"""A server in a network namespace, with real sockets, and its redirector asked about packets.

Every answer is compared with the model's, which is told what socket there is; the caller asserts
the counter once more, in plain words.
"""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

from tests.dataplane.own_netns import OwnNetns, ip
from tests.dataplane.rig import Rig
from tests.model import Address, Config, Dip, Memory, SameSocket, Service, SocketState, redirect
from tests.model.checksum import internet_checksum
from tests.model.frames import ethernet, gue_packet, tcp_packet
from tests.tcp_repair import RCV_NXT, SND_NXT, establish, numbers_of

OWN, B, C, D = (IPv4Address("10.0.0.1") + n for n in range(4))
MAC = bytes.fromhex("020000000a01")
PORT = 80
UDP_PORT = 53
SYN, ACK, RST, FIN = 2, 16, 4, 1
DEADLINE_SECONDS = 10
ETH_P_ALL = 3
QUIET, NOBODY = "quiet0", "02:00:00:00:00:99"
COOKIES = Path("/proc/sys/net/ipv4/tcp_syncookies")
COOKIES_UNDER_FLOOD, COOKIES_ALWAYS = "1", "2"


@dataclass(frozen=True)
class Family:
    """Addresses of one version.

    `silent` lies behind a link at whose other end is nobody: no one answers a SYN-ACK with a reset.
    """

    version: int
    vip: Address
    client: Address
    silent: Address

    @property
    def kind(self) -> socket.AddressFamily:
        """The sockets' family."""
        return socket.AF_INET if self.version == 4 else socket.AF_INET6

    @property
    def tcp_at(self) -> int:
        """Where TCP begins in a packet without options or extension headers."""
        return 20 if self.version == 4 else 40

    def __str__(self) -> str:
        """The name in a test's id."""
        return f"v{self.version}"


V4 = Family(
    4,
    IPv4Address("192.0.2.10"),
    IPv4Address("198.51.100.7"),
    IPv4Address("198.51.100.200"),
)
V6 = Family(
    6,
    IPv6Address("2001:db8::10"),
    IPv6Address("2001:db8:c::7"),
    IPv6Address("2001:db8:c::200"),
)
FAMILIES = (V4, V6)


def server_config() -> Config:
    """What the redirector knows: two VIPs, and the DIPs of four servers."""
    services = tuple(
        Service(ip_network(family.vip), protocol, port, "web")
        for family in FAMILIES
        for protocol, port in ((6, PORT), (17, UDP_PORT))
    )
    return Config(
        self_dip=OWN,
        mac=MAC,
        services=services,
        dips={1: Dip(OWN), 2: Dip(B, MAC), 3: Dip(C, MAC), 4: Dip(D)},
        known=frozenset({OWN, B, C, D}),
    )


def make_server() -> OwnNetns:
    """A namespace with VIPs and clients on `lo`, so that real connections exist."""
    netns = OwnNetns()

    def addresses() -> None:
        ip("link", "add", QUIET, "type", "veth", "peer", "name", f"{QUIET}p")
        for link in (QUIET, f"{QUIET}p"):
            ip("link", "set", link, "addrgenmode", "none", "up")
        for family in FAMILIES:
            nodad = ("nodad",) if family.version == 6 else ()
            for address in (family.vip, family.client):
                ip("addr", "add", str(ip_network(address)), "dev", "lo", *nodad)
            ip("route", "add", str(ip_network(family.silent)), "dev", QUIET)
            ip("neigh", "add", str(family.silent), "lladdr", NOBODY, "dev", QUIET)

    netns.run(addresses)
    return netns


class Case:
    """One server with its sockets; packets come from B and have one hop left, C, if not told."""

    def __init__(self, rig: Rig, netns: OwnNetns) -> None:
        self.rig = rig
        self.netns = netns
        self.sockets = ExitStack()
        self.config = server_config()
        self.memory = Memory()
        self.numbers = (RCV_NXT, SND_NXT)
        """Those that a packet of the last connection has."""
        rig.forget()
        rig.configure(self.config)

    def ask(
        self,
        packet: bytes,
        state: SocketState,
        *,
        hops: tuple[IPv4Address, ...] = (C,),
        **fields: int,
    ) -> str:
        """The counter, after the model, told what socket there is, has agreed to the byte."""
        frame = ethernet(gue_packet(B, OWN, packet, hops, **fields))  # type: ignore[arg-type]
        got = self.netns.run(lambda: self.rig.redirect(frame))
        assert got == redirect(frame, self.config, SameSocket(state), self.memory)
        return got.counter

    def open(
        self,
        kind: socket.SocketKind,
        address: Address,
        port: int = 0,
        *,
        family: socket.AddressFamily | None = None,
    ) -> socket.socket:
        """A bound socket in there. IPv6 ones take IPv4 too if they are bound to `::`."""
        chosen = family or (socket.AF_INET if address.version == 4 else socket.AF_INET6)

        def make() -> socket.socket:
            made = socket.socket(chosen, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if chosen == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.settimeout(DEADLINE_SECONDS)
            made.bind((str(address), port))
            return made

        return self.sockets.enter_context(self.netns.run(make))

    def listen(
        self, address: Address, *, family: socket.AddressFamily | None = None
    ) -> socket.socket:
        """A listening socket on the service's port."""
        listener = self.open(socket.SOCK_STREAM, address, PORT, family=family)
        listener.listen()
        return listener

    def connect(
        self, listener: socket.socket, family: Family
    ) -> tuple[socket.socket, socket.socket]:
        """A connection: the client's socket and the server's."""
        client = self.open(socket.SOCK_STREAM, family.client)
        client.connect((str(family.vip), PORT))
        served, _ = listener.accept()
        self.numbers = numbers_of(served)
        return client, self.sockets.enter_context(served)

    def established(self, family: Family) -> int:
        """Make a connection; the client's port."""
        client, _ = self.connect(self.listen(family.vip), family)
        return port_of(client)

    def alone(self, family: Family, port: int, **numbers: int) -> None:
        """A connection of which only the server's end exists, with chosen numbers."""
        made = self.netns.run(lambda: socket.socket(family.kind, socket.SOCK_STREAM))
        self.sockets.enter_context(made)
        establish(made, (str(family.vip), PORT), (str(family.client), port), **numbers)

    def waiting(self, family: Family) -> int:
        """Make a connection whose server's side is in TIME-WAIT; the client's port."""
        client, served = self.connect(self.listen(family.vip), family)
        port = port_of(client)
        served.close()  # first to close: it waits
        client.recv(1)
        client.close()
        return port

    def answered_syn(self, family: Family, port: int, *, cookie: bool) -> int:
        """Send a SYN from nowhere; the sequence number of the SYN-ACK."""
        syn = tcp_packet(family.silent, port, family.vip, PORT, flags=SYN)

        def handshake() -> int:
            COOKIES.write_text(COOKIES_ALWAYS if cookie else COOKIES_UNDER_FLOOD)
            return syn_ack_for(syn, family)

        return self.netns.run(handshake)


def port_of(client: socket.socket) -> int:
    """The port a socket is bound to."""
    return int(client.getsockname()[1])


def is_syn_ack(packet: bytes, family: Family) -> bool:
    """Whether it answers a SYN of the silent client."""
    destination_at = 16 if family.version == 4 else 24
    destination = packet[destination_at : destination_at + len(family.silent.packed)]
    return destination == family.silent.packed and packet[family.tcp_at + 13] == SYN | ACK


def syn_ack_for(syn: bytes, family: Family) -> int:
    """Send a SYN and return the sequence number of the answer, seen on its way."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as listener:
        listener.bind((QUIET, ETH_P_ALL))
        listener.settimeout(DEADLINE_SECONDS)
        with socket.socket(family.kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            sender.sendto(syn, (str(family.vip), 0))
        while not is_syn_ack(seen := listener.recv(2048), family):
            pass
        return int(struct.unpack_from(">I", seen, family.tcp_at + 4)[0])


def with_numbers(packet: bytes, at: int, acknowledged: int) -> bytes:
    """A packet whose TCP, which begins at `at`, goes on after the SYN and acknowledges that."""
    segment = bytearray(packet[at:])
    segment[4:12] = struct.pack(">II", 1001, acknowledged & 0xFFFFFFFF)
    segment[16:18] = bytes(2)
    if packet[0] >> 4 == 4:
        pseudo = packet[12:20] + struct.pack(">HH", 6, len(segment))
    else:
        pseudo = packet[8:40] + struct.pack(">II", len(segment), 6)
    segment[16:18] = struct.pack(">H", internet_checksum(pseudo + bytes(segment)))
    return packet[:at] + bytes(segment)
