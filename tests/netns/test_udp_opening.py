"""A UDP flow whose application is slow: no connected socket yet when the next datagram comes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netns.brigade import server_name
from netns.polling import wait_until
from netns.process import Process
from tests.netns.stage import BOTH, UDP_PLACES, Stage
from tests.netns.talk import UdpClient

ARRIVE_SECONDS = 5.0
HEAR_SECONDS = 0.5
LAGGING, SLOW, OTHER = 1, 2, 3


@contextmanager
def suspended(*processes: Process) -> Iterator[None]:
    """Suspend processes. What arrives for a UDP service waits in its socket's queue."""
    for process in processes:
        process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.signal(signal.SIGCONT)


def send(stage: Stage, udp: UdpClient, question: bytes) -> None:
    """Send a datagram, and wait until a server has let it in."""

    def accepted() -> int:
        found = 0
        for counts in stage.counters().values():
            found += sum(counts[name] for name in counts if name.startswith("accept_"))
        return found

    before = accepted()
    udp.sock.send(question)
    wait_until(lambda: accepted() > before, "the datagram to arrive", ARRIVE_SECONDS)


def answers(udp: UdpClient) -> dict[str, str]:
    """Hear until nobody says more: which server answered each question."""
    udp.sock.settimeout(HEAR_SECONDS)
    heard: dict[str, str] = {}
    while True:
        try:
            name, _, question = udp.sock.recv(2048).partition(b" ")
        except TimeoutError:
            return heard
        heard[question.decode()] = name.decode()


@pytest.mark.parametrize("family", BOTH)
def test_a_flow_stays_where_its_first_datagram_waits_when_its_bucket_moves(
    stage: Stage, family: str
) -> None:
    stage.chain(SLOW, OTHER)
    with UdpClient(stage.client, UDP_PLACES[family]) as udp:
        with suspended(*stage.udp_services[SLOW]):
            send(stage, udp, b"first")
            stage.chain(OTHER, SLOW)
            send(stage, udp, b"second")
        assert answers(udp) == dict.fromkeys(("first", "second"), server_name(SLOW))
        assert udp.ask() == server_name(SLOW)


@pytest.mark.parametrize("family", BOTH)
def test_a_flow_stays_where_its_first_datagram_waits_when_the_router_chooses_a_lagging_server(
    stage: Stage, family: str
) -> None:
    stage.chain(OTHER, SLOW)
    stage.enter_by(OTHER)
    with UdpClient(stage.client, UDP_PLACES[family]) as udp:
        with suspended(stage.agents[LAGGING], *stage.udp_services[SLOW]):
            stage.chain(SLOW, OTHER, used_by=(SLOW, OTHER))
            send(stage, udp, b"first")
            stage.enter_by(LAGGING)
            send(stage, udp, b"second")
        assert answers(udp) == dict.fromkeys(("first", "second"), server_name(SLOW))
        assert udp.ask() == server_name(SLOW)


def test_the_udp_service_outlives_a_moment_without_its_vip(stage: Stage) -> None:
    place = UDP_PLACES["v4"]
    address = ["address", "del", f"{place.vip}/32", "dev", "lo"]
    stage.chain(SLOW)
    with UdpClient(stage.client, place) as known, UdpClient(stage.client, place) as new:
        assert known.ask() == server_name(SLOW)
        with suspended(stage.agents[SLOW]):
            with suspended(*stage.udp_services[SLOW]):
                send(stage, known, b"waits")
                send(stage, new, b"waits too")
                stage.host(SLOW).run(["ip", *address])
            known.sock.settimeout(HEAR_SECONDS)
            with pytest.raises(TimeoutError):
                known.sock.recv(2048)
        assert known.ask() == server_name(SLOW)
        assert new.ask() == server_name(SLOW)
