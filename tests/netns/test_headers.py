"""Tags around packets, options and extension headers in them: forwarded, delivered and answered.

This kernel has no VLAN devices, so tagged frames are raw. Tag 0 ("priority tagged") is for
everybody: what comes out of the wrap is delivered even so.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest

from netns.brigade import INTERFACE, client_address, client_address6, dip, server_name
from netns.polling import wait_until
from tests.model.frames import (
    C_TAG,
    S_TAG,
    destination_options,
    fragment_header,
    hop_by_hop,
    udp_packet,
)
from tests.netns.capture import Capture, Packet
from tests.netns.raw import as_by_router, mac, send_frames
from tests.netns.stage import BOTH, UDP_PLACES, Stage

PRIORITY_5 = bytes.fromhex("8100 a000")
NO_OPERATIONS = b"\x01" * 8
WRAP = 36

Question = Callable[..., bytes]


class Asker:
    """A client whose question is sent raw, and whose answer comes to its socket."""

    def __init__(self, stage: Stage, family: str) -> None:
        self.place = UDP_PLACES[family]
        with stage.client.entered():
            self.sock = socket.socket(self.place.family, socket.SOCK_DGRAM)
        self.sock.settimeout(2.0)
        self.sock.connect(self.place.address)
        self.source: IPv4Address | IPv6Address = (
            client_address(1) if family == "v4" else client_address6(1)
        )

    def question(self, **changes: object) -> bytes:
        """A question for the UDP service, without Ethernet."""
        port = self.sock.getsockname()[1]
        return udp_packet(
            self.source,
            port,
            *self.place,
            payload=b"asked",
            **changes,  # type: ignore[arg-type]
        )

    def answer(self) -> str:
        """Who answered."""
        return self.sock.recv(100).decode().removesuffix(" asked")


@pytest.fixture(params=BOTH)
def asker(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Asker]:
    made = Asker(stage, request.param)
    with made.sock:
        yield made


def tagged(capture: Capture, tags: bytes) -> list[Packet]:
    """What a server sent with these tags."""
    found = capture.packets()
    return [p for p in found if not p.outgoing and p.data[12 : 12 + len(tags)] == tags]


@pytest.mark.parametrize("tags", [(C_TAG,), (S_TAG, C_TAG)], ids=["802.1Q", "802.1ad"])
def test_the_forwarder_keeps_tags_outside(
    stage: Stage, asker: Asker, tags: Sequence[bytes]
) -> None:
    stage.chain(2)
    packet = asker.question()
    frame = as_by_router(stage.network, 1, packet, tags)
    head = b"".join(tags)
    with Capture(stage.router, server_name(1)) as capture:
        before = stage.counters()
        send_frames(stage.router, server_name(1), [frame])
        wait_until(lambda: tagged(capture, head), "it was sent on")
        (sent,) = tagged(capture, head)
    assert stage.grown(before, 1)["tx_forward"] == 1
    assert sent.data[6:12] == mac(stage.host(1), INTERFACE)
    outer = sent.data[12 + len(head) :]
    assert outer[:2] == b"\x08\x00"
    assert outer[2 + 12 : 2 + 20] == dip(1).packed + dip(2).packed
    assert outer[2 + WRAP :] == packet
    assert sent.length == len(frame) + WRAP


def test_the_redirector_takes_out_what_has_a_tag_and_the_service_answers(
    stage: Stage, asker: Asker
) -> None:
    stage.chain(2)
    frame = as_by_router(stage.network, 1, asker.question(), [PRIORITY_5])
    with Capture(stage.router, server_name(1)) as capture:
        send_frames(stage.router, server_name(1), [frame])
        wait_until(lambda: tagged(capture, PRIORITY_5), "it was sent on")
        (sent,) = tagged(capture, PRIORITY_5)
    before = stage.counters()
    # A switch would bring it there; the router does not know what to do with tags.
    outer = sent.data[12 + len(PRIORITY_5) + 2 :]
    send_frames(stage.router, server_name(2), [as_by_router(stage.network, 2, outer, [PRIORITY_5])])
    assert asker.answer() == "server2"
    assert stage.grown(before, 2)["accept_last_hop"] == 1


def test_options_and_extension_headers_arrive_with_the_packet(stage: Stage, asker: Asker) -> None:
    """By way of an old server, which looks for a socket behind them and has none."""
    stage.chain(3, 2)
    if asker.place.vip.version == 4:
        packet = asker.question(options=NO_OPERATIONS)
    else:
        headers = [hop_by_hop(), destination_options(), fragment_header(0, more=False)]
        packet = asker.question(headers=headers)
    before = stage.counters()
    send_frames(stage.router, server_name(1), [as_by_router(stage.network, 1, packet)])
    assert asker.answer() == "server3"
    assert stage.grown(before, 1)["tx_forward_chain"] == 1
    assert stage.grown(before, 2)["pass_on"] == 1
    before = stage.counters()
    stage.chain(1, 3)
    send_frames(stage.router, server_name(1), [as_by_router(stage.network, 1, packet)])
    assert asker.answer() == "server3", "which has a connected socket for it now"
    assert stage.grown(before, 3)["accept_udp_socket"] == 1
