"""The redirector against real sockets: who is known here decides what stays (R16 to R19)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.dataplane.own_netns import OwnNetns, ip
from tests.dataplane.rig import Rig
from tests.dataplane.rows import ACK, CLIENT, FIN, RST, SYN, VIP, C, gue, server
from tests.model import Result, SameSocket, SocketState, redirect
from tests.model.checksum import internet_checksum
from tests.model.frames import tcp_packet, udp_packet

# routed to `lo`, but no address of it: nobody answers a SYN-ACK with a reset
SILENT = IPv4Address("198.51.100.200")
PORT = 80
DEADLINE_SECONDS = 10


@pytest.fixture
def server_netns() -> Iterator[OwnNetns]:
    """A server: the VIP on `lo`, and the client's address too, so that real connections exist."""
    with OwnNetns() as netns:
        netns.run(lambda: ip("addr", "add", f"{VIP}/32", "dev", "lo"))
        netns.run(lambda: ip("addr", "add", f"{CLIENT}/32", "dev", "lo"))
        netns.run(lambda: ip("route", "add", "198.51.100.0/24", "dev", "lo"))
        yield netns


class Case:
    """One server with sockets, asked about packets with one hop left."""

    def __init__(self, rig: Rig, netns: OwnNetns) -> None:
        self.rig = rig
        self.netns = netns
        self.sockets = ExitStack()
        self.config = server()
        rig.configure(self.config)

    def ask(self, packet: bytes, state: SocketState, **fields: int) -> str:
        """The counter, after the model, told what socket there is, has agreed."""
        frame = gue(packet, C, **fields)  # type: ignore[arg-type]
        got: Result = self.netns.run(lambda: self.rig.redirect(frame))
        assert got == redirect(frame, self.config, SameSocket(state))
        return got.counter

    def tcp(self, source_port: int, flags: int, state: SocketState, **fields: int) -> str:
        packet = tcp_packet(CLIENT, source_port, VIP, PORT, flags=flags)
        return self.ask(packet, state, **fields)

    def open(self, kind: socket.SocketKind, address: IPv4Address, port: int = 0) -> socket.socket:
        """A bound socket in there."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.settimeout(DEADLINE_SECONDS)
            made.bind((str(address), port))
            return made

        return self.sockets.enter_context(self.netns.run(make))

    def listen(self) -> socket.socket:
        listener = self.open(socket.SOCK_STREAM, VIP, PORT)
        listener.listen()
        return listener

    def connect(self, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
        """A connection: the client's socket and the server's."""
        client = self.open(socket.SOCK_STREAM, CLIENT)
        client.connect((str(VIP), PORT))
        served, _ = listener.accept()
        return client, self.sockets.enter_context(served)


@pytest.fixture
def case(rig: Rig, server_netns: OwnNetns) -> Iterator[Case]:
    made = Case(rig, server_netns)
    with made.sockets:
        yield made


def port_of(client: socket.socket) -> int:
    return int(client.getsockname()[1])


@pytest.mark.parametrize("flags", [ACK, ACK | FIN, RST, RST | ACK, SYN | ACK])
def test_an_established_connection_stays(case: Case, flags: int) -> None:
    client, _ = case.connect(case.listen())
    assert case.tcp(port_of(client), flags, SocketState.KNOWN) == "accept_socket"


def test_another_port_of_the_same_client_goes_on(case: Case) -> None:
    client, _ = case.connect(case.listen())
    assert case.tcp(port_of(client) ^ 1, ACK, SocketState.LISTEN) == "pass_on"


def test_a_listening_socket_alone_keeps_nothing_but_syns(case: Case) -> None:
    case.listen()
    assert case.tcp(40000, ACK, SocketState.LISTEN) == "pass_on"
    assert case.tcp(40000, RST, SocketState.LISTEN) == "pass_on"
    assert case.tcp(40000, SYN, SocketState.LISTEN) == "accept_syn"


def test_a_syn_under_forward_syn_goes_on_even_with_a_socket(case: Case) -> None:
    client, _ = case.connect(case.listen())
    port = port_of(client)
    assert case.tcp(port, SYN, SocketState.KNOWN, private_flags=8) == "pass_on"
    assert case.tcp(port, ACK, SocketState.KNOWN, private_flags=8) == "accept_socket"


def test_without_any_socket_a_packet_goes_on(case: Case) -> None:
    assert case.tcp(40000, ACK, SocketState.NONE) == "pass_on"


def test_a_connection_in_time_wait_stays(case: Case) -> None:
    client, served = case.connect(case.listen())
    port = port_of(client)
    served.close()  # first to close: the server's side waits
    client.recv(1)
    client.close()
    assert case.tcp(port, ACK | FIN, SocketState.KNOWN) == "accept_socket"


def send_raw(packet: bytes) -> None:
    """Send an IP packet with a source address that is not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        sender.sendto(packet, (str(VIP), 0))


def syn_ack_for(packet: bytes) -> int:
    """Send a SYN and return the sequence number of the answer, seen on `lo`."""
    kind = socket.htons(0x0800)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, kind) as listener:
        listener.bind(("lo", 0x0800))
        listener.settimeout(DEADLINE_SECONDS)
        send_raw(packet)
        while True:
            seen = listener.recv(2048)
            if seen[16:20] == SILENT.packed and seen[33] == SYN | ACK:
                return int(struct.unpack_from(">I", seen, 24)[0])


def test_a_half_open_connection_stays(case: Case) -> None:
    case.listen()
    syn = tcp_packet(SILENT, 41000, VIP, PORT, flags=SYN)
    case.netns.run(lambda: syn_ack_for(syn))
    packet = tcp_packet(SILENT, 41000, VIP, PORT, flags=ACK)
    assert case.ask(packet, SocketState.KNOWN) == "accept_socket"


def with_ack_number(packet: bytes, number: int) -> bytes:
    """A TCP packet with another sequence and acknowledgement number, checksum right."""
    segment = bytearray(packet[20:])
    segment[4:12] = struct.pack(">II", 1001, number & 0xFFFFFFFF)
    segment[16:18] = bytes(2)
    pseudo = packet[12:20] + struct.pack(">HH", 6, len(segment))
    segment[16:18] = struct.pack(">H", internet_checksum(pseudo + bytes(segment)))
    return packet[:20] + bytes(segment)


def test_the_ack_of_a_syn_cookie_stays_and_a_forged_one_does_not(case: Case) -> None:
    case.listen()

    def handshake() -> int:
        # 2: cookies always, not only under a flood
        Path("/proc/sys/net/ipv4/tcp_syncookies").write_text("2")
        return syn_ack_for(tcp_packet(SILENT, 42000, VIP, PORT, flags=SYN))

    cookie = case.netns.run(handshake)
    ack = tcp_packet(SILENT, 42000, VIP, PORT, flags=ACK)
    right = with_ack_number(ack, cookie + 1)
    assert case.ask(right, SocketState.LISTEN_COOKIE) == "accept_syncookie"
    forged = with_ack_number(ack, cookie ^ 0x5A5A5A5A)
    assert case.ask(forged, SocketState.LISTEN) == "pass_on"
    reset = with_ack_number(tcp_packet(SILENT, 42000, VIP, PORT, flags=ACK | RST), cookie + 1)
    assert case.ask(reset, SocketState.LISTEN_COOKIE) == "pass_on"


def test_a_connected_udp_socket_keeps_its_flow_and_no_other(case: Case) -> None:
    connected = case.open(socket.SOCK_DGRAM, VIP, 53)
    connected.connect((str(CLIENT), 5353))
    mine = udp_packet(CLIENT, 5353, VIP, 53, payload=b"x")
    assert case.ask(mine, SocketState.UDP_CONNECTED) == "accept_udp_socket"
    other = udp_packet(CLIENT, 5354, VIP, 53, payload=b"x")
    assert case.ask(other, SocketState.NONE) == "pass_on"


def test_an_unconnected_udp_socket_keeps_nothing(case: Case) -> None:
    case.open(socket.SOCK_DGRAM, VIP, 53)
    packet = udp_packet(CLIENT, 5353, VIP, 53, payload=b"x")
    assert case.ask(packet, SocketState.UDP_UNCONNECTED) == "pass_on"


def test_beside_an_unconnected_udp_socket_the_connected_one_is_found(case: Case) -> None:
    case.open(socket.SOCK_DGRAM, VIP, 53)
    connected = case.open(socket.SOCK_DGRAM, VIP, 53)
    connected.connect((str(CLIENT), 5353))
    packet = udp_packet(CLIENT, 5353, VIP, 53, payload=b"x")
    assert case.ask(packet, SocketState.UDP_CONNECTED) == "accept_udp_socket"


def test_at_the_last_hop_sockets_do_not_matter(case: Case) -> None:
    frame = gue(tcp_packet(CLIENT, 40000, VIP, PORT, flags=ACK), C, next_hop=1)
    got = case.netns.run(lambda: case.rig.redirect(frame))
    assert got.counter == "accept_last_hop"
