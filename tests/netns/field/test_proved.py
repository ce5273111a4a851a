"""A connection that is cut off is proved to be broken once it has spoken, and nothing else is.

What a controller does about orphans is done by a thread of the test.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from controlplane.observe.orphans import ASK_SECONDS, Orphans
from controlplane.store.file.store import FileStore
from lb.agent.report.presence.counter import ORPHAN_SECONDS, STEADY
from netns.polling import wait_until
from tests.model.frames import tcp_packet
from tests.netns import talk
from tests.netns.agent_helpers import PORT, VIP
from tests.netns.field.steered import (
    CLOSED_PORT,
    FIRST,
    NOBODY,
    OTHER_PORT,
    PLACES,
    SECOND,
    Site,
    answers,
    refused,
    steered_site,
)
from tests.netns.raw import send_packets
from tests.netns.talk import Place, TcpClient

PROVED_SECONDS = 2.0
ACK = 0x10
LOOK_SECONDS = 0.02


class Asking(threading.Thread):
    """Asks all servers for the orphans of a site, as a controller does."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self._store = FileStore(site.fleet.network.store_dir)
        self._ending = threading.Event()
        self.orphans = Orphans()
        self.ever_asked = 0

    def run(self) -> None:
        given = self.orphans.asked
        while not self._ending.wait(LOOK_SECONDS):
            self.orphans.observe(self._store.reports(), time.monotonic())
            if self.orphans.asked != given:
                self.ever_asked += len(self.orphans.asked - given)
                given = self.orphans.asked
                self._store.put_asked(given)

    @property
    def proved(self) -> dict[tuple[str, str], int]:
        return dict(self.orphans.proved)

    def end(self) -> None:
        self._ending.set()
        self.join()
        self._store.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with steered_site() as made:
        yield made


@pytest.fixture
def asking(site: Site) -> Iterator[Asking]:
    made = Asking(site)
    made.start()
    yield made
    made.end()


def await_age(opened: float) -> None:
    """Wait until connections are old enough: a younger one may have the port of one before it."""
    ready = opened + ORPHAN_SECONDS + 2 * STEADY.least_seconds
    wait_until(lambda: time.monotonic() > ready, "they are old enough", 20.0)


def say(client: TcpClient) -> None:
    with suppress(OSError):
        client.sock.send(b"send 1\n")


def test_a_cut_off_connection_is_a_stray_and_proved_once_it_speaks(
    site: Site, asking: Asking
) -> None:
    with ExitStack() as held:
        clients = [held.enter_context(TcpClient(site.client, place)) for place in PLACES]
        assert {client.name() for client in clients} == {FIRST}
        site.lead([2, 0])
        wait_until(lambda: sum(site.strays().values()) == 2, "they are strays", 10.0)
        await_age(time.monotonic())
        assert asking.proved == {}, "they have not spoken yet"
        spoke = time.monotonic()
        for client in clients:
            say(client)
        wait_until(lambda: asking.proved == {(SECOND, FIRST): 2}, "they are proved", 10.0)
        took = time.monotonic() - spoke
        print(f"proved {took:.2f} s after they spoke")
        assert took < PROVED_SECONDS
        wait_until(lambda: site.fleet.status(1)["held_total"] == 2, "server 1 has counted them")
        shown = site.fleet.lbctl(1, "status").stdout
        assert "2 connections here answered with a reset by other servers" in shown
        assert site.metric("bucket_brigade_held_total") == 2
    assert asking.orphans.refused == {}


def test_what_applications_and_strangers_do_is_not_proved(site: Site, asking: Asking) -> None:
    crashing = talk.serve_tcp(site.server, [OTHER_PORT])
    wait_until(lambda: answers(site, OTHER_PORT), "the service that crashes")
    with ExitStack() as held:
        for place in PLACES:
            refused(site.client, Place(place.vip, CLOSED_PORT))
            for word in (b"close 0\n", b"reset 0\n", b"leave 0\n"):
                client = held.enter_context(TcpClient(site.client, place))
                assert client.name() == FIRST
                client.sock.sendall(word)
                say(client)
                say(client)
        crashed = held.enter_context(TcpClient(site.client, Place(VIP, OTHER_PORT)))
        assert crashed.name() == FIRST
        crashing.kill()
        for _ in range(3):
            say(crashed)
        ports = (PORT, OTHER_PORT, CLOSED_PORT)
        scan = [
            tcp_packet(NOBODY, 40000 + n, VIP, port, flags=ACK) for n in range(5) for port in ports
        ]
        send_packets(site.client, scan)
        wait_until(lambda: asking.ever_asked >= len(ports), "all are asked for", 10.0)
        until = time.monotonic() + ASK_SECONDS
        wait_until(
            lambda: time.monotonic() > until and not asking.orphans.asked, "it is over", 20.0
        )
        site.await_dumps()
        assert asking.proved == {}
        assert site.strays() == {}
        assert site.fleet.status(1)["held_total"] == 0
        assert asking.orphans.refused == {}
        broken = held.enter_context(TcpClient(site.client, PLACES[0]))
        assert broken.name() == FIRST
        await_age(time.monotonic())
        site.lead([2, 0])
        say(broken)
        wait_until(lambda: asking.proved == {(SECOND, FIRST): 1}, "one that is broken is", 10.0)
