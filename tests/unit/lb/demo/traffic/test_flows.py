"""Flows against real sockets on the loopback address, with times of our own."""

from __future__ import annotations

import hashlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lb.demo.traffic.flows import Download, Flow, Idle, Short, Target, UdpFlow
from lb.demo.traffic.generator import FlowSchedule, make_flows, read_options
from lb.demo.traffic.http import BadResponse, Exchange
from lb.demo.traffic.verdicts import Outcome
from netns.polling import wait_until

CONTENT = b"bucket" * 2000
NAME = hashlib.sha256(CONTENT).hexdigest()
FILE = f"/files/{NAME}.bin"


def response(body: bytes, server: str = "server1", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nX-Served-By: {server}\r\n\r\n"
    return head.encode() + body


@contextmanager
def listener() -> Iterator[tuple[socket.socket, Target]]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(5)
        yield sock, Target(*sock.getsockname())


def outcome_of(flow: Flow) -> Outcome:
    """A call, so that a type checker does not think that it never changes."""
    return flow.outcome


def has_ended(flow: Flow) -> bool:
    """The same."""
    return flow.ended


def visit_until(flow: Flow, condition: Callable[[], bool], *, leap: float = 0.0) -> None:
    """Visit as often as needed; `leap` seconds are put on the clock."""

    def visited() -> bool:
        if not condition():
            flow.visit(time.monotonic() + leap)
        return condition()

    wait_until(visited, f"the flow's next state: {flow.name}", 5.0)


def is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@contextmanager
def asked(flow: Flow, sock: socket.socket) -> Iterator[socket.socket]:
    """The server's end of a flow that is connected and has sent its request."""
    visit_until(flow, lambda: is_readable(sock))
    connection, _address = sock.accept()
    with connection:
        connection.settimeout(5)
        visit_until(flow, lambda: is_readable(connection))
        assert connection.recv(4096).startswith(b"GET ")
        yield connection


def test_a_download_reads_slowly_and_then_all_and_checks_the_hash() -> None:
    with listener() as (sock, target):
        flow = Download(target, FILE)
        with asked(flow, sock) as connection:
            connection.sendall(response(CONTENT))
            visit_until(flow, lambda: flow.opened)
            assert not has_ended(flow)
            flow.finish()
            visit_until(flow, lambda: flow.ended)
        assert outcome_of(flow) is Outcome.GOOD
        assert flow.server == "server1"
        assert flow.name.startswith("tcp 127.0.0.1:")


def test_one_wrong_byte_is_wrong_content() -> None:
    with listener() as (sock, target):
        flow = Download(target, FILE)
        with asked(flow, sock) as connection:
            connection.sendall(response(CONTENT[:-1] + b"!"))
            flow.finish()
            visit_until(flow, lambda: flow.ended)
        assert outcome_of(flow) is Outcome.WRONG_CONTENT


@pytest.mark.parametrize("reset", [True, False])
def test_a_download_that_ends_early_is_broken(reset: bool) -> None:
    with listener() as (sock, target):
        flow = Download(target, FILE)
        with asked(flow, sock) as connection:
            connection.sendall(response(CONTENT[:100], length=len(CONTENT)))
            visit_until(flow, lambda: flow.opened)
            if reset:
                linger = b"\x01\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        visit_until(flow, lambda: flow.ended)
        assert outcome_of(flow) is (Outcome.RESET if reset else Outcome.CLOSED)


def test_a_download_without_progress_for_five_seconds_is_broken() -> None:
    with listener() as (sock, target):
        flow = Download(target, FILE)
        with asked(flow, sock) as connection:
            connection.sendall(response(CONTENT[:100], length=len(CONTENT)))
            visit_until(flow, lambda: flow.opened)
            flow.visit(time.monotonic() + 4.5)
            assert outcome_of(flow) is Outcome.GOOD
            visit_until(flow, lambda: flow.ended, leap=5.5)
        assert outcome_of(flow) is Outcome.SILENT


def test_nobody_listening_is_refused() -> None:
    with listener() as (_sock, target):
        pass
    flow = Short(target, "/hello")
    visit_until(flow, lambda: flow.ended)
    assert outcome_of(flow) is Outcome.REFUSED


def test_an_idle_connection_is_silent_for_long_and_answers_when_spoken_to() -> None:
    with listener() as (sock, target):
        flow = Idle(target, "/hello")
        with asked(flow, sock) as connection:
            connection.sendall(response(b"server1\n"))
            visit_until(flow, lambda: flow.opened)
            flow.visit(time.monotonic() + 1000)
            assert not has_ended(flow)
            flow.finish()
            flow.visit(time.monotonic())
            assert connection.recv(4096).startswith(b"GET /hello")
            connection.sendall(response(b"server1\n"))
            visit_until(flow, lambda: flow.ended)
        assert outcome_of(flow) is Outcome.GOOD


def test_an_idle_connection_that_does_not_answer_in_the_end_is_broken() -> None:
    with listener() as (sock, target):
        flow = Idle(target, "/hello")
        with asked(flow, sock) as connection:
            connection.sendall(response(b"server1\n"))
            visit_until(flow, lambda: flow.opened)
            flow.finish()
            flow.visit(time.monotonic())
            visit_until(flow, lambda: flow.ended, leap=5.5)
        assert outcome_of(flow) is Outcome.SILENT


def test_an_idle_connection_that_is_torn_down_is_broken() -> None:
    with listener() as (sock, target):
        flow = Idle(target, "/hello")
        with asked(flow, sock) as connection:
            connection.sendall(response(b"server1\n"))
            visit_until(flow, lambda: flow.opened)
        visit_until(flow, lambda: flow.ended)
        assert outcome_of(flow) is Outcome.CLOSED


@contextmanager
def udp_server() -> Iterator[tuple[socket.socket, Target]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock, Target(*sock.getsockname())


def answer(sock: socket.socket, server: str) -> int:
    data, client = sock.recvfrom(100)
    sock.sendto(server.encode() + b" " + data, client)
    return int(data)


def test_a_udp_flow_ends_only_with_an_answer_to_a_question_asked_at_the_end() -> None:
    with udp_server() as (sock, target):
        flow = UdpFlow(target)
        flow.visit(0.0)
        assert answer(sock, "server1") == 1
        flow.visit(0.1)
        assert flow.opened
        flow.visit(0.6)
        flow.finish()
        # Question 2, asked before the end, is answered only now: not enough.
        assert answer(sock, "server1") == 2
        flow.visit(0.7)
        assert not has_ended(flow)
        assert answer(sock, "server1") == 3
        flow.visit(0.8)
        assert has_ended(flow)
        assert outcome_of(flow) is Outcome.GOOD


def test_a_udp_flow_answered_by_another_server_is_broken() -> None:
    with udp_server() as (sock, target):
        flow = UdpFlow(target)
        for at, server in ((0.0, "server1"), (0.6, "server2"), (1.2, "")):
            flow.visit(at)
            if server:
                answer(sock, server)
        assert has_ended(flow)
        assert outcome_of(flow) is Outcome.OTHER_SERVER
        assert flow.server == "server1"


def test_a_response_comes_in_pieces() -> None:
    made = Exchange()
    made.request("127.0.0.1", FILE, keep=False)
    for byte in response(CONTENT):
        assert not made.complete
        made.feed(bytes([byte]))
    assert made.complete
    assert made.server == "server1"
    assert made.body.hexdigest() == NAME


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"x" * 20000,
    ],
)
def test_a_response_that_is_none_is_refused(raw: bytes) -> None:
    made = Exchange()
    made.request("127.0.0.1", FILE, keep=False)
    with pytest.raises(BadResponse):
        made.feed(raw)


def test_a_cohort_counts_what_is_well_and_names_what_broke() -> None:
    with listener() as (_sock, gone):
        pass
    with udp_server() as (sock, target):
        schedule = FlowSchedule([UdpFlow(target), Short(gone, "/")], 0.0, time.monotonic())
        schedule.visit_due(time.monotonic())
        answer(sock, "server1")

        def is_open() -> bool:
            schedule.visit_due(time.monotonic())
            return schedule.is_open

        wait_until(is_open, "all flows are open or broken", 5.0)
        assert schedule.count() == {"tcp": 0, "udp": 1, "broken": 1}
        assert [name.split()[0] for name in schedule.names()] == ["udp"]
        verdict = schedule.verdict()
    assert verdict["flows"] == 2
    (broken,) = verdict["broken"]
    assert broken["kind"] == "short"
    assert broken["outcome"] == "refused"


def test_a_udp_flow_comes_from_the_port_that_it_was_given() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with udp_server() as (sock, target):
        flow = UdpFlow(target, port)
        flow.visit(0.0)
        assert sock.recvfrom(100)[1] == ("127.0.0.1", port)
        assert flow.name == f"udp 127.0.0.1:{port}"
        flow.close()


def test_udp_flows_get_the_source_ports_that_were_asked_for() -> None:
    words = ["--vip=127.0.0.1", "--udp=3", "--udp-source-port=10000"]
    flows = make_flows(read_options(words))
    ports = [flow.source_port for flow in flows if isinstance(flow, UdpFlow)]
    assert sorted(ports) == [10000, 10001, 10002]
    assert len(make_flows(read_options(["--vip=127.0.0.1", "--idle=2"]))) == 2


def test_the_kernel_does_not_choose_the_source_ports_of_udp_flows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may choose one that an earlier flow had, for which a server still has a socket."""
    with pytest.raises(SystemExit) as stopped:
        read_options(["--vip=127.0.0.1", "--udp=3"])
    assert stopped.value.code == 2
    assert "--udp needs --udp-source-port" in capsys.readouterr().err
