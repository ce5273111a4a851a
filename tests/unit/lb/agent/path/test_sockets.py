"""The sockets of path probes: what strangers send does not push answers out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from controlplane.domain.overhead import LEAST_MTU
from lb.agent.path.packet import EchoReply, TooBig, checksum, parse, wrapped
from lb.agent.path.sockets import ProbeSockets
from netns.polling import wait_until
from tests.unit.lb.agent.path.test_packet import GUE_PORT, echo_reply, too_big

OWN = IPv4Address("127.0.0.1")
FLOOD = 20_000
"""More than a socket's buffer holds (net.core.rmem_default)."""

pytestmark = pytest.mark.root


@pytest.fixture
def sockets() -> Iterator[ProbeSockets]:
    made = ProbeSockets(OWN, GUE_PORT)
    yield made
    made.close()


def icmp(packet: bytes) -> bytes:
    """Return an ICMP message without its IP header, with its checksum."""
    message = packet[20:]
    return message[:2] + checksum(message[:2] + b"\0\0" + message[4:]).to_bytes(2) + message[4:]


def test_a_flood_of_forged_errors_loses_no_answer_and_costs_little(sockets: ProbeSockets) -> None:
    """Anybody can forge "fragmentation needed" about our packets; an answer needs the token."""
    probe = sockets.make(OWN, LEAST_MTU)
    forged = icmp(too_big(wrapped(probe, GUE_PORT)[:28]))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as stranger:
        for _ in range(FLOOD):
            stranger.sendto(forged, (str(OWN), 0))
        stranger.sendto(icmp(echo_reply(probe)), (str(OWN), 0))
    found: list[EchoReply | TooBig | None] = []

    def answered() -> bool:
        heard = [parse(packet) for packet in sockets.received()]
        assert len(heard) <= 100, "a round of the thread stays short"
        found.extend(heard)
        return any(isinstance(one, EchoReply) and one.token == probe.token for one in found)

    wait_until(answered, "the answer", 5.0)
    assert TooBig(OWN, 1400) in found, "real errors are still read"
