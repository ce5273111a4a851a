"""Health checks against real listeners: connects, statuses, timeouts, and which are run."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from controlplane.domain.objects import TCP, Check, CheckType, Service, ServiceHealth
from lb.agent.facts import SharedFacts
from lb.agent.report.checks import Checker, bound_socket, check_once, host_text, wanted_checks
from netns.polling import wait_until

HERE = IPv4Network("127.0.0.1")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/healthz": 200, "/moved": 302, "/localhost/": 200, "/endless": 200}.get(
            self.path, 500
        )
        self.send_response(status)
        self.send_header("Location", "/healthz")
        self.end_headers()
        if self.path == "/endless":
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def service(port: int, kind: CheckType, path: str = "/healthz", status: int = 200) -> Service:
    check = Check(kind, path, status, interval_seconds=0.02, timeout_seconds=0.3, rise=2, fall=2)
    return Service("web", HERE, TCP, port, "web", check=check)


def check(wanted: Service) -> str:
    return asyncio.run(check_once(wanted))


def test_a_listener_is_good(port: int, silent_port: int) -> None:
    assert check(service(port, CheckType.TCP)) == ""
    assert check(service(silent_port, CheckType.TCP)) == ""


def test_a_refused_connection_is_reported(port: int) -> None:
    assert check(service(free_port(), CheckType.TCP)) == "Connection refused"
    assert check(service(free_port(), CheckType.HTTP))


@pytest.mark.parametrize(
    ("path", "status", "wrong"),
    [
        ("/healthz", 200, ""),
        ("/broken", 200, "status 500, not 200"),
        ("/broken", 500, ""),
        ("/moved", 302, ""),
    ],
)
def test_http_compares_the_status_and_follows_nothing(
    port: int, path: str, status: int, wrong: str
) -> None:
    assert check(service(port, CheckType.HTTP, path, status)) == wrong


@pytest.mark.parametrize("path", ["//localhost/", "/healthz#part", "/endless"])
def test_http_asks_the_vip_for_that_path_and_reads_no_more_than_the_head(
    port: int, path: str
) -> None:
    assert check(service(port, CheckType.HTTP, path)) == ""


def test_a_path_that_is_too_long_is_a_reason_not_a_fault(port: int) -> None:
    assert check(service(port, CheckType.HTTP, "/" + "x" * (1 << 17))) == "status 414, not 200"


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"SSH-2.0-x\r\n\r\n", "not HTTP: "),
        (b"SSH-2.0-x\r\n", "the connection was closed without an HTTP answer"),
        (b"", "the connection was closed without an HTTP answer"),
        (b"HTTP/1.1 200", "the connection was closed without an HTTP answer"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20), "not HTTP: "),
    ],
)
def test_answers_that_are_not_http_are_a_reason(answer: bytes, wrong: str) -> None:
    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        found = check(service(server.getsockname()[1], CheckType.HTTP))
        thread.join()
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def test_silence_is_bounded(silent_port: int) -> None:
    started = time.monotonic()
    assert check(service(silent_port, CheckType.HTTP)) == "no answer within 0.3 s"
    assert time.monotonic() - started < 2


def on_ipv6(port: int, kind: CheckType) -> Service:
    return replace(service(port, kind), vip=IPv6Network("::1"))


class Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.mark.parametrize("kind", [CheckType.TCP, CheckType.HTTP])
@pytest.mark.parametrize("vip", [IPv4Network("192.0.2.10"), IPv6Network("2001:db8::10")])
def test_a_vip_that_this_machine_does_not_have_is_the_reason(
    kind: CheckType, vip: IPv4Network | IPv6Network
) -> None:
    wanted = replace(service(80, kind), vip=vip)
    assert check(wanted) == f"{vip[0]} is not an address of this machine"


@pytest.mark.parametrize(
    ("vip", "source"), [("127.0.0.0/29", "127.0.0.1"), ("127.0.0.7/32", "127.0.0.7")]
)
def test_the_source_is_the_address_that_is_checked(vip: str, source: str) -> None:
    """Also where it is not the address that the kernel would choose."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        wanted = replace(service(server.getsockname()[1], CheckType.TCP), vip=IPv4Network(vip))
        assert check(wanted) == ""
        connection, peer = server.accept()
        connection.close()
    assert peer[0] == source


def test_an_address_of_an_ipv6_prefix_is_on_no_interface_and_still_a_source() -> None:
    """A route makes it local (docs/agent.md); whether it is there is found out by asking."""
    wanted = replace(service(80, CheckType.TCP), vip=IPv6Network("2001:db8:1::/64"))
    with bound_socket(wanted) as sock:
        assert sock.getsockname()[0] == "2001:db8:1::1"


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [("192.0.2.10", 80, "192.0.2.10"), ("192.0.2.10", 8080, "192.0.2.10:8080")],
)
def test_the_host_is_the_address_and_a_port_that_is_not_the_usual_one(
    address: str, port: int, text: str
) -> None:
    assert host_text(IPv4Address(address), port) == text


def test_a_check_may_name_its_host() -> None:
    hosts = []

    class Heard(Answer):
        def do_GET(self) -> None:
            hosts.append(self.headers.get_all("Host"))
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), Heard) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            port = server.server_address[1]
            wanted = service(port, CheckType.HTTP)
            assert check(wanted) == ""
            assert check(replace(wanted, check=replace(wanted.check, host="www.example.com"))) == ""
        finally:
            server.shutdown()
            thread.join()
    assert hosts == [[f"127.0.0.1:{port}"], ["www.example.com"]]


@pytest.mark.parametrize("kind", [CheckType.TCP, CheckType.HTTP])
def test_ipv6_is_checked_too_and_the_host_is_in_brackets(kind: CheckType) -> None:
    hosts = []

    class Heard(Answer):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            super().do_GET()

    with Server6(("::1", 0), Heard) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            port = server.server_address[1]
            assert check(on_ipv6(port, kind)) == ""
            assert hosts == ([f"[::1]:{port}"] if kind is CheckType.HTTP else [])
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", [CheckType.TCP, CheckType.HTTP])
def test_a_check_may_name_port_and_address(port: int, kind: CheckType) -> None:
    wanted = replace(service(free_port(), kind), vip=IPv4Network("127.0.0.0/30"), port=None)
    assert check(replace(wanted, check=replace(wanted.check, port=port))) == ""
    elsewhere = replace(wanted.check, port=port, address=IPv4Address("127.0.0.2"))
    assert check(replace(wanted, check=elsewhere))


def test_only_services_with_a_check_and_a_vip_that_is_up_are_checked() -> None:
    checked = service(1, CheckType.TCP)
    bare = Service("bare", HERE, TCP, 2, "web")
    assert wanted_checks([checked, bare], [HERE]) == {"web": checked}
    assert wanted_checks([checked, bare], []) == {}


@pytest.fixture
def checker() -> Iterator[tuple[Checker, SharedFacts]]:
    facts = SharedFacts(0.0)
    made = Checker(facts, random.Random(1))
    made.on_death = lambda name: facts.set_trouble("died", name)
    made.start()
    yield made, facts
    made.stop()
    made.join(5)
    assert not made.is_alive()
    assert "died" not in facts.current.troubles


def test_verdicts_come_after_rise_and_fall_and_go_with_the_service(
    checker: tuple[Checker, SharedFacts], port: int
) -> None:
    running, facts = checker
    assert facts.current.checks == {}
    running.follow({"web": service(port, CheckType.HTTP)})
    wait_until(
        lambda: facts.current.checks == {"web": ServiceHealth(healthy=True)}, "a healthy verdict"
    )
    running.follow({"web": service(port, CheckType.HTTP, "/broken")})
    wait_until(
        lambda: facts.current.checks.get("web") == ServiceHealth(False, "status 500, not 200"),
        "an unhealthy verdict",
    )
    running.follow({})
    wait_until(lambda: facts.current.checks == {}, "no verdict")
