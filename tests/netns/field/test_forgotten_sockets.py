"""A server has a socket with a packet's addresses and ports, of another connection.

Before, it kept the packets. A SYN in somebody else's name made the server that is asked first reset
that connection; and where a client had vanished, the next one with its port hung at the old server.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from netns.brigade import server_name
from netns.polling import wait_until
from tests.model.frames import tcp_packet
from tests.netns.stage import BOTH, TCP_PLACES, Stage
from tests.netns.talk import TcpClient
from tests.tcp_repair import establish, numbers_of

SIZE = 200_000
FIRST_PORT = 43_000
WRONG, RIGHT = 2, 3
"""The server with the other socket, which is asked first, and that of the connection."""
FAR = 1 << 30
HALF = 1 << 31
"""As far from another sequence number as possible."""


def connect(stage: Stage, family: str, port: int) -> TcpClient:
    """Connect from this port."""

    def prepare(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))

    return TcpClient(stage.client, TCP_PLACES[family], small_buffer=True, prepare=prepare)


def sockets(stage: Stage, port: int, state: str) -> int:
    """How many the wrong server has in this state."""
    words = ["ss", "-Htn", "state", state, "dport", "=", f":{port}"]
    return len(stage.host(WRONG).run(words).stdout.splitlines())


def send_syn(connected: socket.socket, sequence: int) -> None:
    """Send a SYN with the addresses and ports of a connection."""
    (source, port, *_), (vip, service, *_) = connected.getsockname(), connected.getpeername()
    packet = tcp_packet(
        *(ip_address(source), port, ip_address(vip), service), numbers=(sequence, 0)
    )
    with socket.socket(connected.family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        sender.sendto(packet, (vip, 0))


@pytest.mark.parametrize("family", BOTH)
def test_a_syn_in_a_clients_name_does_not_end_its_connection(stage: Stage, family: str) -> None:
    stage.chain(RIGHT)
    port = FIRST_PORT + BOTH.index(family)
    with connect(stage, family, port) as victim:
        assert victim.begin(SIZE) == server_name(RIGHT)
        stage.chain(WRONG, RIGHT)
        stage.client.call(lambda: send_syn(victim.sock, FAR))
        wait_until(lambda: sockets(stage, port, "syn-recv") == 1, "the SYN is answered", 5.0)
        victim.read()
        assert victim.upload(SIZE) == server_name(RIGHT)
        assert victim.download(SIZE) == server_name(RIGHT)
        assert sockets(stage, port, "syn-recv") == 1


@pytest.mark.parametrize("family", BOTH)
def test_a_connection_passes_the_server_of_one_whose_client_vanished(
    stage: Stage, family: str
) -> None:
    """The old socket's numbers are chosen: all servers here are one kernel, with one secret.

    From that and a clock it derives the first numbers of connections, so they would be near.
    """
    stage.chain(RIGHT)
    port = FIRST_PORT + 10 + BOTH.index(family)
    with connect(stage, family, port) as new, ExitStack() as close:
        assert new.begin(SIZE) == server_name(RIGHT)
        with stage.host(WRONG).entered():
            old = close.enter_context(socket.socket(new.sock.family, socket.SOCK_STREAM))
        client, vip = new.sock.getsockname()[:2], new.sock.getpeername()[:2]
        received, sent = numbers_of(new.sock)
        establish(old, vip, client, rcv_nxt=sent + HALF, snd_nxt=received + HALF)
        stage.chain(WRONG, RIGHT)
        assert sockets(stage, port, "established") == 1
        new.read()
        assert new.upload(SIZE) == server_name(RIGHT)
        assert new.download(SIZE) == server_name(RIGHT)
        assert sockets(stage, port, "established") == 1
