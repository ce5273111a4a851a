"""Connections that a table cuts off are counted before they break, and nothing else is.

Nobody but the test publishes tables, so nothing is protected.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from controlplane.documents.presence import key_id_of
from controlplane.domain.objects import TCP
from controlplane.observe.presence import Presence
from netns.polling import wait_until
from tests.model.flow import Flow, bucket_of
from tests.model.frames import tcp_packet
from tests.netns import talk
from tests.netns.agent_helpers import BUCKETS, KEY, POOL, PORT, VIP
from tests.netns.field.steered import (
    CLOSED_PORT,
    FIRST,
    NOBODY,
    OTHER_PORT,
    PLACES,
    THIRD,
    Site,
    answers,
    refused,
    steered_site,
)
from tests.netns.raw import send_packets
from tests.netns.talk import Place, TcpClient

COUNTED_SECONDS = 2.0


@pytest.fixture
def site() -> Iterator[Site]:
    with steered_site() as made:
        yield made


def test_what_a_table_cuts_off_is_counted_before_it_speaks(site: Site) -> None:
    with ExitStack() as held:
        tcp = [held.enter_context(TcpClient(site.client, place)) for place in PLACES]
        udp = held.enter_context(site.udp_flow())
        assert {client.name() for client in tcp} == {udp.ask()} == {FIRST}
        site.lead([2, 1])
        site.await_dumps()
        assert site.strays() == {}, "a later hop keeps them"
        taken = site.lead([3, 2])
        wait_until(lambda: site.strays() == {"forced": 3}, "all three are strays", 10.0)
        assert time.monotonic() - taken < COUNTED_SECONDS
        assert site.strays(2) == site.strays(3) == {}
        assert site.metric("bucket_brigade_strays") == 3
        assert site.metric("bucket_brigade_strays_seen_total") == 3
        wait_until(lambda: site.fleet.status(1)["strays"], "they are in the status")
        assert (
            "3 connections that no table leads to (web: 3 forced)"
            in site.fleet.lbctl(1, "status").stdout
        )
        for client in tcp:
            with pytest.raises((ConnectionError, AssertionError)):
                client.name()
        assert udp.ask() == THIRD
        site.await_dumps()
        assert site.metric("bucket_brigade_strays_seen_total") == 3, "each of them once"
        site.lead([1, 3])
        wait_until(lambda: site.strays() == {}, "a table leads there again")


def test_a_hop_that_is_dropped_has_forgotten_its_connections(site: Site) -> None:
    with TcpClient(site.client, PLACES[0]) as client:
        assert client.name() == FIRST
        site.lead([2, 1])
        site.lead([2, 0])
        wait_until(lambda: site.strays() == {"forgotten": 1}, "it is a stray", 10.0)


def test_what_applications_and_strangers_do_makes_no_stray(site: Site) -> None:
    """Not by a table that leads here, and not by one that does not."""
    crashing = talk.serve_tcp(site.server, [OTHER_PORT])
    with ExitStack() as held:
        place = PLACES[0]
        waiting = TcpClient(site.client, place)
        assert waiting.name() == FIRST
        closed = [TcpClient(site.client, other) for other in PLACES]
        half_closed = held.enter_context(TcpClient(site.client, place))
        wait_until(lambda: answers(site, OTHER_PORT), "the service that crashes")
        crashed = held.enter_context(TcpClient(site.client, Place(VIP, OTHER_PORT)))
        assert crashed.name() == FIRST
        with site.server.entered():
            own = held.enter_context(socket.create_connection(place.address, 3))
        for client in closed:
            client.close_server_first()  # TIME-WAIT at the server
        half_closed.sock.sendall(b"close 0\n")  # FIN-WAIT-2 there, until this client closes
        assert half_closed.sock.recv(1) == b""
        crashing.kill()
        refused(site.client, Place(VIP, CLOSED_PORT))
        syns = [tcp_packet(NOBODY, 40000 + n, VIP, PORT) for n in range(20)]
        send_packets(site.client, syns)
        wait_until(
            lambda: site.metric("bucket_brigade_pool_connections") >= len(syns),
            "the kernel waits for the end of twenty handshakes",
        )
        waiting.close()
        site.await_dumps()
        assert site.strays() == {}
        site.lead([2, 0])
        send_packets(site.client, syns)  # at server 2 now
        site.await_dumps()
        assert site.strays() == {}
        assert site.metric("bucket_brigade_strays_seen_total") == 0
        own.close()


def test_presence_is_in_the_reports_of_the_agents(site: Site) -> None:
    """The bucket is the model's, the key is not in the report."""
    with ExitStack() as held:
        clients = [held.enter_context(TcpClient(site.client, place)) for place in PLACES]
        assert {client.name() for client in clients} == {FIRST}
        expected = set()
        for client, place in zip(clients, PLACES, strict=True):
            address, port = client.sock.getsockname()[:2]
            source = type(place.vip)(address)
            expected.add(bucket_of(Flow(TCP, source, port, place.vip, PORT).hash(KEY), BUCKETS))
        presence = Presence()

        def seen() -> set[int]:
            presence.observe(site.fleet.store.reports())
            found = presence.of(FIRST)
            if found is None or len(found.dumps) < 2:
                return set()
            both = [dump.pools[POOL].occupied for dump in found.dumps]
            return {int(n) for n in (both[0] & both[1]).nonzero()[0]}

        wait_until(lambda: seen() == expected, f"two dumps in a row with buckets {expected}")
        report = site.fleet.store.reports()[FIRST]
        assert KEY.hex() not in str(report)
        found = presence.of(FIRST)
        assert found is not None
        assert found.dumps[1].number == found.dumps[0].number + 1
        assert found.dumps[1].pools[POOL].key_id == key_id_of(KEY)
