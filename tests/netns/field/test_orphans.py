"""Segments that arrive where their connection is not are counted, and what is alike is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netns import brigade
from netns.polling import wait_until
from tests.model.frames import tcp_packet
from tests.netns.agent_helpers import PORT, VIP
from tests.netns.field.steered import (
    CLOSED_PORT,
    FIRST,
    NOBODY,
    PLACES,
    Site,
    refused,
    steered_site,
)
from tests.netns.raw import send_packets
from tests.netns.talk import Place, TcpClient
from tests.netns.tcp_service import NO_LINGER

CONNECTIONS = 1000
TOLERANCE = 0.02


@pytest.fixture
def site() -> Iterator[Site]:
    with steered_site() as made:
        yield made


def orphans(site: Site, number: int) -> dict[str, int]:
    """What a server has counted, by kind."""
    found = site.fleet.status(number)["orphans_total"]
    return {one["kind"]: one["count"] for one in found}


def speak(clients: list[TcpClient]) -> None:
    """Have each send a little."""
    for client in clients:
        client.sock.send(b"send 1\n")


def opened(site: Site, held: ExitStack, count: int) -> list[TcpClient]:
    """Open so many connections, of both families in turn."""
    return [
        held.enter_context(TcpClient(site.client, PLACES[number % len(PLACES)]))
        for number in range(count)
    ]


def await_orphans(site: Site, number: int, wanted: dict[str, int]) -> None:
    wait_until(lambda: orphans(site, number) == wanted, f"{wanted} at {number}", 5.0)


@pytest.mark.timeout(240)
def test_a_thousand_broken_connections_are_counted(site: Site) -> None:
    with ExitStack() as held:
        clients = opened(site, held, CONNECTIONS)
        assert {client.name() for client in clients[:4]} == {FIRST}
        site.lead([2, 0])
        speak(clients)
        wait_until(
            lambda: abs(sum(orphans(site, 2).values()) - CONNECTIONS) <= TOLERANCE * CONNECTIONS,
            "they are counted",
            10.0,
        )
        site.await_dumps()
        assert orphans(site, 2).keys() == {"moved"}
        assert sum(orphans(site, 2).values()) <= (1 + TOLERANCE) * CONNECTIONS
        assert orphans(site, 1) == orphans(site, 3) == {}
        assert "orphans" in site.fleet.lbctl(2, "status").stdout


def test_resets_that_leave_by_another_interface_are_counted(site: Site) -> None:
    server, router = site.fleet.host(2), site.fleet.network[brigade.ROUTER]
    router.run(["ip", "link", "add", "back", "type", "veth", "peer", "name", "eth7"])
    router.run(["ip", "link", "set", "eth7", "netns", str(server.namespace)])
    router.run(["ip", "address", "add", "10.77.0.1/24", "dev", "back"])
    router.run(["ip", "link", "set", "back", "up"])
    router.sysctl("net.ipv4.conf.back.rp_filter", "0")
    server.run(["ip", "address", "add", "10.77.0.2/24", "dev", "eth7"])
    server.run(["ip", "link", "set", "eth7", "up"])
    with ExitStack() as held:
        client = held.enter_context(TcpClient(site.client, PLACES[0]))
        assert client.name() == FIRST
        server.run(["ip", "route", "replace", "default", "via", "10.77.0.1", "dev", "eth7"])
        shown = ["tc", "filter", "show", "dev", "eth7", "egress"]
        wait_until(lambda: "bucket-brigade" in server.run(shown).stdout, "it is attached", 60.0)
        site.lead([2, 0])
        speak([client])
        await_orphans(site, 2, {"moved": 1})
    site.fleet.lbctl(2, "down", "--force")
    assert "bucket-brigade" not in server.run(shown).stdout
    assert "clsact" not in server.run(["tc", "qdisc", "show", "dev", "eth7"]).stdout


def test_a_server_that_died_is_the_cause(site: Site) -> None:
    with ExitStack() as held:
        client = opened(site, held, 1)[0]
        assert client.name() == FIRST
        site.die([2, 0])
        speak([client])
        await_orphans(site, 2, {"died": 1})


def test_resets_with_an_ack_are_no_orphans(site: Site) -> None:
    """A closed port, an application that resets, and one that leaves data unread."""
    with ExitStack() as held:
        for place in PLACES:
            refused(site.client, Place(place.vip, CLOSED_PORT))
            for words in ([b"reset 0\n"], [b"leave 0\n", b"unread\n"]):
                client = held.enter_context(TcpClient(site.client, place))
                assert client.name() == FIRST
                for word in words:
                    client.sock.sendall(word)
                with pytest.raises(OSError, match="reset"):
                    client.sock.recv(1)
            mine = held.enter_context(TcpClient(site.client, place))
            assert mine.name() == FIRST
            mine.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            mine.close()
        syns = [tcp_packet(NOBODY, 40000 + n, VIP, PORT) for n in range(20)]
        send_packets(site.client, syns)
        broken = opened(site, held, 1)
        site.lead([2, 0])
        speak(broken)
        await_orphans(site, 2, {"moved": 1})
        assert orphans(site, 1) == {}
