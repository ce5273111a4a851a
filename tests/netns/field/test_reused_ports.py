"""A client that uses a source port again: the server of the last connection has it in TIME-WAIT.

Before, a server in TIME-WAIT (60 s) kept the packets of the new connection as soon as the bucket
came back to it. Two rolling restarts broke 2 of 5,013 flows in this way: no progress, for ever.
"""

from __future__ import annotations

import socket

import pytest

from netns.brigade import server_name
from netns.polling import wait_until
from tests.netns.stage import BOTH, TCP_PLACES, Stage
from tests.netns.talk import TcpClient

SIZE = 200_000
FIRST_PORT = 42_000
LAST, NEW = 2, 3
"""The server of the last connection and that of the new one."""


def connect(stage: Stage, family: str, port: int) -> TcpClient:
    """Connect from this port."""

    def prepare(sock: socket.socket) -> None:
        # The last connection's socket may still wait for the ACK of its FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))

    return TcpClient(stage.client, TCP_PLACES[family], small_buffer=True, prepare=prepare)


def waits(stage: Stage, port: int, state: str = "time-wait") -> int:
    """Connections from this port that the last server has in this state."""
    words = ["ss", "-Htn", "state", state, "dport", "=", f":{port}"]
    return len(stage.host(LAST).run(words).stdout.splitlines())


@pytest.mark.parametrize("family", BOTH)
def test_a_connection_passes_the_server_that_closed_the_last_one(stage: Stage, family: str) -> None:
    port = FIRST_PORT + BOTH.index(family)
    stage.chain(LAST)
    last = connect(stage, family, port)
    assert last.name() == server_name(LAST)
    last.close_server_first()
    assert waits(stage, port) == 1
    stage.chain(NEW)
    with connect(stage, family, port) as new:
        assert new.begin(SIZE) == server_name(NEW)
        stage.chain(LAST, NEW)
        assert waits(stage, port) == 1
        new.read()
        assert new.upload(SIZE) == server_name(NEW)
        assert new.download(SIZE) == server_name(NEW)
        # Its end arrives there, too: the service sees it and closes.
        new.sock.shutdown(socket.SHUT_WR)
        assert new.sock.recv(1) == b""


@pytest.mark.parametrize("family", BOTH)
def test_a_new_connection_may_be_at_the_server_that_waits(stage: Stage, family: str) -> None:
    port = FIRST_PORT + 10 + BOTH.index(family)
    stage.chain(LAST, NEW)
    last = connect(stage, family, port)
    assert last.name() == server_name(LAST)
    last.close_server_first()
    assert waits(stage, port) == 1
    with connect(stage, family, port) as new:
        assert new.download(SIZE) == server_name(LAST)
    assert waits(stage, port) == 0


@pytest.mark.parametrize("family", BOTH)
def test_the_end_of_a_connection_is_clean_when_its_server_waits(stage: Stage, family: str) -> None:
    """The client's FIN comes later than the server's, and passes the server that waits for it."""
    stage.chain(LAST, NEW)
    with TcpClient(stage.client, TCP_PLACES[family]) as client:
        assert client.name() == server_name(LAST)
        client.sock.sendall(b"close 0\n")
        assert client.sock.recv(1) == b""
        client.sock.shutdown(socket.SHUT_WR)
        # A reset would be an error here.
        assert client.sock.recv(1) == b""


@pytest.mark.parametrize("family", BOTH)
def test_a_port_can_be_used_again_when_a_fin_has_passed_its_server(
    stage: Stage, family: str
) -> None:
    """That server is still in FIN-WAIT-2, answers the SYN with an ACK, and the client resets it."""
    port = FIRST_PORT + 20 + BOTH.index(family)
    stage.chain(LAST, NEW)
    last = connect(stage, family, port)
    assert last.name() == server_name(LAST)
    last.sock.sendall(b"close 0\n")
    assert last.sock.recv(1) == b""
    wait_until(lambda: waits(stage, port, "fin-wait-2") == 1, "the FIN is acknowledged", 5.0)
    last.close()
    with connect(stage, family, port) as new:
        assert new.download(SIZE) == server_name(LAST)
